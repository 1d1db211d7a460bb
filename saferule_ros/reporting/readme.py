"""What the README shows of results, between two marks each; the rest of the file is left alone."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from saferule_ros.dataset.durable import write_atomically
from saferule_ros.reporting.clean_retraining import with_clean_retraining
from saferule_ros.reporting.comparison import finished
from saferule_ros.reporting.findings import SHORT, in_short
from saferule_ros.reporting.markdown import table
from saferule_ros.reporting.results import DemoResults, ResultsError
from saferule_ros.reporting.trials import TrialResult
from saferule_ros.reporting.wording import duration, number, percent


class Place(NamedTuple):
    """The marks that something stands between."""

    begin: str
    end: str


DEMO = Place("<!-- demo results: begin (written by `saferule demo-results`) -->", "<!-- demo results: end -->")
EVIDENCE = Place("<!-- evidence: begin (written by `saferule grid --table --readme`) -->", "<!-- evidence: end -->")
# Of the short table of the findings: what a method keeps, and what it earns. Certificates need more words.
COLUMNS = 4


def update_demo(path: Path, runs: Sequence[DemoResults]) -> None:
    """Puts the evaluations of the run that was started last into its place.

    Raises:
        ResultsError: the marks are missing.
    """
    _put(path, DEMO, last_run_table(runs))


def update_evidence(path: Path, results: Sequence[TrialResult], out: Path) -> None:
    """Puts what a comparison showed in short into its place: the same as its findings say.

    Args:
        results: all that are in its folder.
        out: that folder, which the text links to.

    Raises:
        ResultsError: the marks are missing, or no trial is finished.
    """
    whole = finished(with_clean_retraining(results))
    if not whole:
        raise ResultsError(f"no trial in {str(out)!r} is finished", "Run the grid to the end of one at least")
    trials = {(result.cell, result.seed) for result in whole}
    cells = {cell for cell, _ in trials}
    counted = (
        f"Trials: {len(trials)}, cells: {len(cells)} ({_listed(cell.task for cell in cells)}; "
        f"{_listed(cell.algorithm for cell in cells)}; {_listed(cell.attack for cell in cells)}; seeds "
        f"{', '.join(map(str, sorted({seed for _, seed in trials})))})."
    )
    link = os.path.relpath(out, path.parent)
    more = f"[Findings]({link}/findings.md), [every cell]({link}/table.md)."
    lines = table(SHORT[:COLUMNS], [row[:COLUMNS] for row in in_short(whole)])
    _put(path, EVIDENCE, "\n".join([*lines, "", f"{counted} {more}", "", *_picture(f"{link}/plots/heat-maps"), ""]))


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


def _picture(plot: str) -> list[str]:
    """The maps of all cells, as light or dark as the page."""
    return [
        "<picture>",
        f'<source media="(prefers-color-scheme: dark)" srcset="{plot}-dark.svg">',
        f'<img src="{plot}-light.svg" alt="Cost and return of each method in each cell">',
        "</picture>",
    ]


def check_place(path: Path, place: Place) -> None:
    """Raises ResultsError unless its marks are there: before hours of work, and not after them."""
    begin, end = place
    text = path.read_text() if path.is_file() else ""
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ResultsError(
            f"{str(path)!r} has no place for the table", f"Put the lines {begin!r} and {end!r} where it is to stand"
        )


def _put(path: Path, place: Place, markdown: str) -> None:
    check_place(path, place)
    begin, end = place
    before, rest = path.read_text().split(begin)
    after = rest.split(end)[1]
    write_atomically(path, f"{before}{begin}\n\n{markdown}\n{end}{after}".encode())


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(set(names)))
