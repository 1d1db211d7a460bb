"""The table of the last run in the README, between two marks; the rest of the file is left alone."""

from collections.abc import Sequence
from pathlib import Path

from saferule_ros.dataset.durable import write_atomically
from saferule_ros.reporting.results import DemoResults, ResultsError
from saferule_ros.reporting.wording import duration, number, percent

BEGIN = "<!-- demo results: begin (written by `saferule demo-results`) -->"
END = "<!-- demo results: end -->"


def update_readme(path: Path, runs: Sequence[DemoResults]) -> None:
    """Puts the evaluations of the run that was started last between the marks.

    Raises:
        ResultsError: the marks are missing.
    """
    text = path.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ResultsError(
            f"{str(path)!r} has no place for the table", f"Put the lines {BEGIN!r} and {END!r} where it is to stand"
        )
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    write_atomically(path, f"{before}{BEGIN}\n\n{last_run_table(runs)}\n{END}{after}".encode())


def last_run_table(runs: Sequence[DemoResults]) -> str:
    """Markdown: one row per evaluation of the newest run, and how many of all runs passed."""
    run = max(runs, key=lambda candidate: candidate.started)
    lines = [
        f"| {run.task}, seed {run.seed}, limit {run.cost_limit:g} | episodes | return | cost, mean | cost, median | "
        "within limit |",
        "|:---|---:|---:|---:|---:|---:|",
    ]
    for evaluation in run.evaluations:
        lines.append(
            f"| {evaluation.heading} | {len(evaluation.episodes)} "
            f"| {number(evaluation.return_mean)} | {number(evaluation.cost_mean)} | {number(evaluation.cost_median)} "
            f"| {percent(evaluation.share_within(run.cost_limit))} |"
        )
    passed = sum(one.passed for one in runs)
    summary = (
        f"That run took {duration(run.seconds)} on {run.machine.get('cores', '?')} cores. {passed} of {len(runs)} "
        f"seeds that were tried passed: [all of them](docs/results/demo.md). Again: `make demo SEED={run.seed}`."
    )
    return "\n".join([*lines, "", summary, ""])
