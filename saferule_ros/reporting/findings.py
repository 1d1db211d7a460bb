"""What a grid showed, for readers: how many cells each method gets right, and the cells that Safe-RULE does not."""

import statistics
from collections.abc import Callable, Sequence

from saferule_ros.reporting.comparison import ORDER, RETRAIN, MethodRow, in_order, rows_of
from saferule_ros.reporting.goals import CellGoals, goals_of, worst_cost
from saferule_ros.reporting.markdown import table
from saferule_ros.reporting.trials import POISONED, Cell, TrialResult
from saferule_ros.reporting.wording import MISSING, number, percent

SAFE_RULE = "safe_rule"
GOALS = (
    "method", ">cells", ">cost kept", ">95 % of the return", ">1 % of the FLOPs", ">not worse than poisoned",
    ">undominated", ">cost: allowed, median", ">worst", ">return: retraining's, median", ">worst",
)  # fmt: skip
ATTACKS = ("cell", "attack", ">poisoned: return", ">cost", ">cost with trigger", ">retrained: return", ">cost")
FAILURES = ("cell", "what", "safe_rule: return / cost, seed by seed", "retrained", "poisoned")
ATTACKS_NOTE = (
    "Harmful: the poisoned policy's mean cost is over the limit and that of the retrained one, which never saw the "
    "poison, is within it."
)
NOTE = (
    "Cells pooled over their seeds. Cost kept: within the limit, or no more than retraining's where that is over it. "
    "Undominated: no other method but retraining has both as much return and less cost. Where there is a backdoor, "
    "cost is that with its marker, if more."
)


def findings(results: Sequence[TrialResult]) -> str:
    """All of it as Markdown.

    Args:
        results: at least one.
    """
    whole = finished(results)
    rows = rows_of(whole)
    found = goals_of(rows)
    methods = in_order(one.row.method for one in found)
    seeds = sorted({result.seed for result in whole})
    lines = ["# Findings", "", "<!-- Written by saferule compare or saferule grid; do not edit. -->", ""]
    left_out = len(results) - len(whole)
    lines += [
        f"{len(whole)} results, {len({one.row.cell for one in found})} cells, seeds {_list(seeds)}."
        + (f" {left_out} more are of trials that are not finished, and do not count." if left_out else ""), "",
    ]  # fmt: skip
    lines += [
        *table(GOALS, [_summary(m, [one for one in found if one.row.method == m]) for m in methods]),
        "",
        NOTE,
        "",
    ]
    lines += _attacks(rows)
    return "\n".join([*lines, *_failures(whole, [one for one in found if one.row.method == SAFE_RULE])])


def finished(results: Sequence[TrialResult]) -> list[TrialResult]:
    """Those of trials with every usual method that there is for their algorithm anywhere: all are over the same seeds.

    Not every method works on every algorithm, and variants of one may have been run in some cells alone.
    """
    usual: dict[str, set[str]] = {}
    of_trial: dict[tuple[Cell, int], set[str]] = {}
    for result in results:
        usual.setdefault(result.cell.algorithm, set()).update({result.method} & set(ORDER))
        of_trial.setdefault((result.cell, result.seed), set()).add(result.method)
    return [result for result in results if of_trial[result.cell, result.seed] >= usual[result.cell.algorithm]]


def _summary(method: str, found: Sequence[CellGoals]) -> list[str]:
    costs = [worst_cost(one.row) / one.allowed for one in found]
    returns = [one.row.return_ratio for one in found if one.row.return_ratio == one.row.return_ratio]
    return [
        method, str(len(found)), str(sum(one.safe for one in found)),
        *(_count(found, goal) for goal in (lambda o: o.earns, lambda o: o.cheap, lambda o: o.not_worse)),
        str(sum(one.undominated for one in found)), percent(statistics.median(costs)), percent(max(costs)),
        percent(statistics.median(returns)) if returns else MISSING, percent(min(returns)) if returns else MISSING,
    ]  # fmt: skip


def _count(found: Sequence[CellGoals], goal: Callable[[CellGoals], bool | None]) -> str:
    known = [value for value in map(goal, found) if value is not None]
    return MISSING if not known else f"{sum(known)}" if len(known) == len(found) else f"{sum(known)} of {len(known)}"


def _attacks(rows: Sequence[MethodRow]) -> list[str]:
    """What each attack did to the learned policy, beside the policy that there would be without it."""
    retrained = {row.cell: row for row in rows if row.method == RETRAIN}
    lines = [
        [row.cell.title, _harm(row, other), number(row.return_mean), number(row.cost_mean), number(row.triggered_cost),
         number(other.return_mean), number(other.cost_mean)]
        for row in rows if row.method == POISONED and row.cell.precision == row.cell.recall == 1.0
        for other in [retrained.get(row.cell)] if other is not None
    ]  # fmt: skip
    if not lines:
        return []
    return ["## What the attacks do", "", *table(ATTACKS, lines), "", ATTACKS_NOTE, ""]


def _harm(poisoned: MethodRow, retrained: MethodRow) -> str:
    limit = poisoned.cost_limit
    if retrained.cost_mean > limit:
        return "no safe policy to harm"
    if poisoned.cost_mean > limit:
        return "**harmful**"
    # A marker that sends a policy over the limit which never saw the poison is a broken sensor, not a backdoor.
    if poisoned.triggered_cost > limit:
        return "**harmful with its trigger**" if not retrained.triggered_cost > limit else "marker alone is harmful"
    return "harmless"


def _failures(results: Sequence[TrialResult], found: Sequence[CellGoals]) -> list[str]:
    failed = [one for one in found if one.kind_of_failure]
    if not found:
        return []
    if not failed:
        return ["## Where Safe-RULE fails", "", "In no cell.", ""]
    rows = [
        [one.row.cell.title, one.kind_of_failure]
        + [_seeds(results, one, method) for method in (SAFE_RULE, RETRAIN, POISONED)]
        for one in failed
    ]
    return ["## Where Safe-RULE fails", "", *table(FAILURES, rows), ""]


def _seeds(results: Sequence[TrialResult], one: CellGoals, method: str) -> str:
    of_each = [r for r in results if r.cell == one.row.cell and r.method == method]
    shown = (_return_and_cost(r) for r in sorted(of_each, key=lambda r: r.seed))
    return ", ".join(shown) or MISSING


def _return_and_cost(result: TrialResult) -> str:
    marked = [episode.episode_cost for episode in result.triggered]
    with_marker = f" (with marker {number(statistics.fmean(marked))})" if marked else ""
    return f"{number(result.return_mean)} / {number(result.cost_mean)}{with_marker}"


def _list(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))
