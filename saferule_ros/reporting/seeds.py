"""The table of all seeds that were tried, failures included, as Markdown: docs/results/demo.md."""

from collections.abc import Sequence
from pathlib import Path

from saferule_ros.dataset.durable import write_atomically
from saferule_ros.reporting.markdown import one_line, row
from saferule_ros.reporting.results import RESULTS_FILE, DemoResults, Evaluation, ResultsError
from saferule_ros.reporting.verdict import return_share
from saferule_ros.reporting.wording import MISSING, duration, number, percent

RUN_FOLDERS = "seed-*"
_COLUMNS = (
    "seed", "verdict", "clean: return / cost", "poisoned: return / cost", "patched: return / cost", "median cost",
    "within limit", "return kept", "swap faults", "patch", "whole run",
)  # fmt: skip


def load_runs(folder: Path) -> list[DemoResults]:
    """All results below runs/demo, ordered by seed.

    Raises:
        ResultsError: there are none, or one cannot be read.
    """
    files = sorted(folder.glob(f"{RUN_FOLDERS}/{RESULTS_FILE}"))
    if not files:
        raise ResultsError(
            f"there are no results in {str(folder)!r}",
            f"Give the folder that holds {RUN_FOLDERS}/{RESULTS_FILE}, which `saferule demo` writes",
        )
    return sorted((DemoResults.load(file) for file in files), key=lambda run: run.seed)


def write_seeds_table(runs: Sequence[DemoResults], path: Path) -> Path:
    """Writes the table to `path` and returns it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, seeds_table(runs).encode())
    return path


def seeds_table(runs: Sequence[DemoResults]) -> str:
    """One row per run; below it whatever went wrong, and what the runs were made with.

    Args:
        runs: at least one.
    """
    passed = sum(run.passed for run in runs)
    episodes = sorted({len(e.episodes) for run in runs for e in run.evaluations})
    tasks = ", ".join(dict.fromkeys(f"{run.task} (cost limit {run.cost_limit:g})" for run in runs))
    lines = [
        "# Results of the demo",
        "",
        "<!-- Written by `saferule demo-results`; do not edit. -->",
        "",
        f"{tasks}: **{passed} of {len(runs)} seeds passed.** Each cell is a mean over "
        f"{' or '.join(map(str, episodes)) or 'no'} episodes; every seed that was tried is listed.",
        "",
        row(_COLUMNS),
        row(["---:", ":---", *["---:"] * (len(_COLUMNS) - 2)]),
        *(row(_cells(run)) for run in runs),
        "",
        "Return kept: of the clean policy's mean return. Swap faults: commands lost, doubled or mixed while the "
        "patched policy was swapped in during an episode. The clean policy is measured in the simulator, the others "
        "over ROS.",
        "",
    ]
    failures = [line for run in runs for line in _failures(run)]
    if failures:
        lines += ["## What failed", "", *failures, ""]
    return "\n".join([*lines, *_made_with(runs)])


def _cells(run: DemoResults) -> list[str]:
    clean, poisoned, patched = (run.evaluation(name) for name in ("clean", "poisoned", "patched"))
    share = return_share(clean, patched)
    swap = run.swap
    return [
        str(run.seed), "passed" if run.passed else "**failed**", _pair(clean), _pair(poisoned), _pair(patched),
        number(patched.cost_median) if patched else MISSING,
        percent(patched.share_within(run.cost_limit)) if patched else MISSING,
        MISSING if share is None else percent(share),
        str(swap.unanswered + swap.doubled + swap.gaps + swap.mixed) if swap else MISSING,
        duration(run.patch.duration) if run.patch else MISSING,
        duration(run.seconds) if run.stages else MISSING,
    ]  # fmt: skip


def _pair(evaluation: Evaluation | None) -> str:
    if evaluation is None:
        return MISSING
    return f"{number(evaluation.return_mean)} / {number(evaluation.cost_mean)}"


def _failures(run: DemoResults) -> list[str]:
    found = [f"- Seed {run.seed}: {c.name}: {c.value}, required {c.required}." for c in run.checks if not c.passed]
    if run.error:
        found.append(f"- Seed {run.seed} ended early: {one_line(run.error)}")
    if not run.passed and not found:
        found.append(f"- Seed {run.seed}: nothing was checked.")
    return found


def _made_with(runs: Sequence[DemoResults]) -> list[str]:
    """What is the same in all runs once, and what differs with the seeds it belongs to."""
    lines = ["## Made with", ""]
    facts: dict[str, dict[str, list[int]]] = {}
    for run in runs:
        of_run = {
            "Command": f"`{run.command.replace(f'={run.seed}', '=…').replace(f' {run.seed}', ' …')}`",
            "Date": run.started[:10],
            "Settings' digest": f"`{run.settings_digest}`",
            "Machine": ", ".join(f"{name} {value}" for name, value in run.machine.items()),
            "Versions": ", ".join(f"{name} {value}" for name, value in run.versions.items()),
        }
        for name, value in of_run.items():
            facts.setdefault(name, {}).setdefault(value, []).append(run.seed)
    for name, values in facts.items():
        for value, seeds in values.items():
            which = "" if len(values) == 1 else f" (seed {', '.join(map(str, seeds))})"
            lines.append(f"- {name}{which}: {value}")
    return [*lines, ""]
