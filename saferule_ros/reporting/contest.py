"""Safe-RULE against each other method, in the cells that have both."""

from collections.abc import Sequence

from saferule_ros.reporting.clean_retraining import NO_RIVALS
from saferule_ros.reporting.comparison import MethodRow
from saferule_ros.reporting.goals import CellGoals, dominates
from saferule_ros.reporting.markdown import table

# Returns that lie so close together count as equal [share of retraining's], and costs [share of the limit].
EQUAL_RETURN, EQUAL_COST = 0.05, 0.1

CONTEST = (
    "against", ">cells with both", ">better in both, or in one and equal", ">worse likewise", ">return about equal",
    ">of these: less cost", ">about equal", ">more cost",
)  # fmt: skip
CONTEST_NOTE = (
    "Better in both: at least as much return and at most as much cost, and not the same. About equal: returns that "
    f"differ by {EQUAL_RETURN:.0%} of retraining's at most, costs by {EQUAL_COST:.0%} of the limit."
)


def contest(method: str, found: Sequence[CellGoals], others: Sequence[str]) -> list[str]:
    """A table with one line for each other method, as Markdown; nothing without rivals.

    Args:
        method: the one that is held against the others.
        found: all methods in all cells.
    """
    of_each = {(one.row.cell, one.row.method): one.row for one in found}
    mine = [one.row for one in found if one.row.method == method]
    lines = []
    for other in others:
        if other == method or other in NO_RIVALS:
            continue
        pairs = [(row, of_each[row.cell, other]) for row in mine if (row.cell, other) in of_each]
        if pairs:
            lines.append([other, *map(str, _counts(pairs))])
    return [*table(CONTEST, lines), "", CONTEST_NOTE, ""] if lines else []


def _counts(pairs: Sequence[tuple[MethodRow, MethodRow]]) -> list[int]:
    even = [(a, b) for a, b in pairs if abs(a.return_ratio - b.return_ratio) <= EQUAL_RETURN]
    costs = [(a.worst_cost - b.worst_cost) / a.cost_limit for a, b in even]
    less, more = (sum(sign * cost > EQUAL_COST for cost in costs) for sign in (-1, 1))
    return [
        len(pairs), sum(dominates(a, b) for a, b in pairs), sum(dominates(b, a) for a, b in pairs), len(even), less,
        len(even) - less - more, more,
    ]  # fmt: skip
