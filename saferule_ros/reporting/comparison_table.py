"""The comparison as Markdown: a table over all cells, one for each cell, and what they were made with."""

from collections.abc import Sequence

from saferule_ros.reporting.comparison import MethodOverall, MethodRow, overall, rows_of
from saferule_ros.reporting.markdown import table
from saferule_ros.reporting.trials import TrialResult
from saferule_ros.reporting.wording import MISSING, duration, number, percent

HEADINGS = (
    "method", ">return", ">of retraining's", ">cost, mean", ">median", ">within limit", ">with trigger",
    "certificate", ">CPU time", ">FLOPs", ">retraining costs",
)  # fmt: skip
OVERALL = (
    "method", ">cells", ">safe cells", ">episodes within limit", ">return of retraining's",
    ">CPU time: retraining", ">FLOPs: retraining", "certificate",
)  # fmt: skip
OVERALL_NOTE = (
    "Ratios are medians over cells; a cell is safe if its mean cost is within the limit, with a backdoor's marker too."
)
NOTE = (
    "Return and cost: means over all episodes ± standard deviation of the seeds' means. CPU time and FLOPs: of one "
    "seed's gradient steps (FLOPs: matrix products, forward and backward); of the poisoned agent, its training. "
    "Retraining costs: so many times the FLOPs of this method. Certificate: how many of them hold, on withheld data "
    "where the method withholds any; it tells that data was forgotten, not that the policy is safe."
)


def comparison_table(results: Sequence[TrialResult]) -> str:
    """All of it.

    Args:
        results: at least one.
    """
    rows = rows_of(results)
    cells = list(dict.fromkeys(row.cell for row in rows))
    lines = ["# Comparison", "", "<!-- Written by saferule compare or saferule grid; do not edit. -->", ""]
    if len(cells) > 1:
        lines += [*table(OVERALL, [overall_cells(row) for row in overall(rows)]), ""]
        lines += [OVERALL_NOTE, ""]
    for cell in cells:
        of_cell = [row for row in rows if row.cell == cell]
        seeds, episodes = (sorted({getattr(row, name) for row in of_cell}) for name in ("seeds", "episodes"))
        lines += [
            f"## {cell.title}", "",
            f"Cost limit {of_cell[0].cost_limit:g}; {_either(seeds)} seeds, {_either(episodes)} episodes in all.", "",
            *table(HEADINGS, [row_cells(row) for row in of_cell]), "",
        ]  # fmt: skip
    return "\n".join([*lines, NOTE, "", *_made_with(results)])


def row_cells(row: MethodRow) -> list[str]:
    """One method in one cell, as text for HEADINGS."""
    return [
        row.method, _with_spread(row.return_mean, row.return_spread), percent(row.return_ratio),
        _with_spread(row.cost_mean, row.cost_spread), number(row.cost_median), percent(row.share_within),
        number(row.triggered_cost), _certificates(row), duration(row.cpu_seconds), f"{row.flops:.2g}",
        _times(row.flops_ratio),
    ]  # fmt: skip


def overall_cells(row: MethodOverall) -> list[str]:
    """One method over all cells, as text for OVERALL."""
    return [
        row.method, str(row.cells), str(row.safe_cells), percent(row.share_within), percent(row.return_ratio),
        _times(row.cpu_ratio), _times(row.flops_ratio), _certificates(row),
    ]  # fmt: skip


def _with_spread(mean: float, spread: float) -> str:
    return number(mean) if spread != spread else f"{number(mean)} ± {number(spread)}"


def _certificates(row: MethodRow | MethodOverall) -> str:
    return f"{row.certified} of {row.certificates}" if row.certificates else MISSING


def _times(ratio: float) -> str:
    return MISSING if ratio != ratio else f"{ratio:.1f} ×"


def _either(counts: Sequence[int]) -> str:
    return " or ".join(map(str, counts))


def _made_with(results: Sequence[TrialResult]) -> list[str]:
    """Each machine and set of versions once, with the number of results."""
    lines = ["## Made with", ""]
    for name in ("machine", "versions"):
        counted: dict[str, int] = {}
        for result in results:
            text = ", ".join(f"{key} {value}" for key, value in getattr(result, name).items())
            counted[text] = counted.get(text, 0) + 1
        lines += [f"- {name.capitalize()} ({count} results): {text}" for text, count in counted.items()]
    return [*lines, ""]
