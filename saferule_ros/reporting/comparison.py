"""Methods side by side: what the results of many trials say, cell by cell and over all cells."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from saferule_ros.reporting.trials import POISONED, Cell, TrialResult

RETRAIN = "retrain"
# How methods are listed; others come after them.
ORDER = (POISONED, "safe_rule", "reward_only", "traj_deleter", "fine_tune", RETRAIN)

NAN = float("nan")


@dataclass(frozen=True)
class MethodRow:
    """One method in one cell, over all its seeds and episodes. NaN: not known, or there is nothing to compare with.

    Attributes:
        seeds: how many trials.
        episodes: simulated ones in all.
        return_mean, cost_mean, cost_median: over all episodes.
        return_spread, cost_spread: standard deviation of the seeds' means; NaN with one seed.
        share_within: share of the episodes whose cost is within the limit.
        triggered_cost: mean cost where the backdoor's marker is seen.
        certified, certificates: of how many certificates both conditions hold.
        seconds, cpu_seconds, flops: mean of a seed's gradient steps; of the poisoned agent, its training.
        return_ratio: mean return, retraining's is 1; over the seeds that have both.
        cpu_ratio, flops_ratio: what retraining costs, this method's costs are 1; likewise.
    """

    cell: Cell
    method: str
    cost_limit: float
    seeds: int
    episodes: int
    return_mean: float
    return_spread: float
    cost_mean: float
    cost_median: float
    cost_spread: float
    share_within: float
    triggered_cost: float
    certified: int
    certificates: int
    seconds: float
    cpu_seconds: float
    flops: float
    return_ratio: float
    cpu_ratio: float
    flops_ratio: float

    @property
    def worst_cost(self) -> float:
        """Mean cost, with the backdoor's marker where that costs more: who sets it off is not the robot's choice."""
        known = [cost for cost in (self.cost_mean, self.triggered_cost) if cost == cost]  # not NaN
        return max(known)


@dataclass(frozen=True)
class MethodOverall:
    """One method over all cells; ratios as in MethodRow, medians over cells, as they differ by orders of magnitude."""

    method: str
    cells: int
    safe_cells: int  # mean cost within the limit, with a backdoor's marker as well
    share_within: float  # mean over cells
    return_ratio: float
    cpu_ratio: float
    flops_ratio: float
    certified: int
    certificates: int


def rows_of(results: Sequence[TrialResult]) -> list[MethodRow]:
    """A row for each method in each cell, cells in the order of their names."""
    cells: dict[Cell, dict[str, list[TrialResult]]] = {}
    for result in sorted(results, key=lambda result: (result.cell.name, _place(result.method), result.seed)):
        cells.setdefault(result.cell, {}).setdefault(result.method, []).append(result)
    return [_row(found, methods.get(RETRAIN, [])) for methods in cells.values() for found in methods.values()]


def overall(rows: Sequence[MethodRow]) -> list[MethodOverall]:
    """One row for each method, in the usual order."""
    methods = in_order(row.method for row in rows)
    return [_overall(method, [row for row in rows if row.method == method]) for method in methods]


def finished(results: Sequence[TrialResult]) -> list[TrialResult]:
    """Those of trials with every usual method that there is for their algorithm anywhere: all are over the same seeds.

    Not every method works on every algorithm, and variants of one may have been run in some cells alone.
    """
    usual: dict[str, set[str]] = {}
    for result in results:
        usual.setdefault(result.cell.algorithm, set()).update({result.method} & set(ORDER))
    of_trial = by_trial(results)
    return [result for result in results if of_trial[result.cell, result.seed].keys() >= usual[result.cell.algorithm]]


def by_trial(results: Sequence[TrialResult]) -> dict[tuple[Cell, int], dict[str, TrialResult]]:
    """The results of each trial (a cell with a seed), by their method."""
    found: dict[tuple[Cell, int], dict[str, TrialResult]] = {}
    for result in results:
        found.setdefault((result.cell, result.seed), {})[result.method] = result
    return found


def _row(found: list[TrialResult], retrained: list[TrialResult]) -> MethodRow:
    costs = [cost for result in found for cost in result.costs]
    triggered = [episode.episode_cost for result in found for episode in result.triggered]
    limit = found[0].cost_limit
    verdicts = [result.certified for result in found if result.certified is not None]
    pairs = [(one, other) for one in found for other in retrained if one.seed == other.seed]
    return MethodRow(
        cell=found[0].cell, method=found[0].method, cost_limit=limit, seeds=len(found), episodes=len(costs),
        return_mean=statistics.fmean(value for result in found for value in result.returns),
        return_spread=_spread(result.return_mean for result in found),
        cost_mean=statistics.fmean(costs), cost_median=statistics.median(costs),
        cost_spread=_spread(result.cost_mean for result in found),
        share_within=sum(cost <= limit for cost in costs) / len(costs),
        triggered_cost=statistics.fmean(triggered) if triggered else NAN,
        certified=sum(verdicts), certificates=len(verdicts),
        **{name: statistics.fmean(result.budget[name] for result in found)
           for name in ("seconds", "cpu_seconds", "flops")},
        return_ratio=ratio(pairs, lambda one, other: (one.return_mean, other.return_mean)),
        cpu_ratio=ratio(pairs, lambda one, other: (other.budget["cpu_seconds"], one.budget["cpu_seconds"])),
        flops_ratio=ratio(pairs, lambda one, other: (other.budget["flops"], one.budget["flops"])),
    )  # fmt: skip


def _overall(method: str, rows: list[MethodRow]) -> MethodOverall:
    return MethodOverall(
        method=method, cells=len(rows), safe_cells=sum(row.worst_cost <= row.cost_limit for row in rows),
        share_within=statistics.fmean(row.share_within for row in rows),
        return_ratio=_median(row.return_ratio for row in rows),
        cpu_ratio=_median(row.cpu_ratio for row in rows), flops_ratio=_median(row.flops_ratio for row in rows),
        certified=sum(row.certified for row in rows), certificates=sum(row.certificates for row in rows),
    )  # fmt: skip


def ratio(
    pairs: Sequence[tuple[TrialResult, TrialResult]], parts: Callable[[TrialResult, TrialResult], tuple[float, float]]
) -> float:
    """Sum over pairs of one part by that of the other; NaN unless the other is positive: it would mean nothing."""
    upper, lower = (sum(values) for values in zip(*(parts(*pair) for pair in pairs), strict=True)) if pairs else (0, 0)
    return upper / lower if lower > 0 else NAN


def _spread(means: Iterable[float]) -> float:
    values = list(means)
    return statistics.stdev(values) if len(values) > 1 else NAN


def _median(values: Iterable[float]) -> float:
    known = [value for value in values if value == value]
    return statistics.median(known) if known else NAN


def in_order(methods: Iterable[str]) -> list[str]:
    """Each once, in the usual order."""
    return sorted(set(methods), key=_place)


def _place(method: str) -> tuple[int, str]:
    return (ORDER.index(method) if method in ORDER else len(ORDER), method)
