"""Safe-RULE beside each other method, trial by trial: by how much they differ, and how sure that is.

The methods of a trial share its data, its poisoned learner and its simulated starts, so each trial is a pair. Trials
are not independent of each other: those of one task and learner share, with each seed, clean data, the retrained
learner and the simulated starts, whatever the attack and its ratio. So all trials of a task and learner are resampled
together (a cluster bootstrap), and the middle 95 % of the resampled differences are the interval. Clean data and starts
are shared across the learners of a task as well, and five tasks are too few to resample: intervals can be too narrow by
what that makes alike. Returns are compared by the mean of the middle half of the trials (the interquartile mean;
Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice", NeurIPS 2021), as a retrained
policy that earns next to nothing makes any ratio large, and only where both keep their cost: a policy that need not
keep the limit can always earn more. [ours]
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from saferule_ros.reporting.clean_retraining import NO_RIVALS
from saferule_ros.reporting.comparison import RETRAIN, by_trial, in_order, rows_of
from saferule_ros.reporting.goals import excess
from saferule_ros.reporting.markdown import table
from saferule_ros.reporting.trials import Cell, TrialResult
from saferule_ros.reporting.wording import MISSING

INTERVAL = 95.0  # percent
RESAMPLES, SEED = 2000, 0
# Fewer clusters resampled are the same few again and again: their interval would be too narrow.
FEWEST_CLUSTERS = 5

PAIRED = (
    "against", ">tasks x learners", ">cells", ">trials", ">cost kept: by it", ">by the other", ">difference, points",
    ">both keep it: trials", ">return there: difference, % of retraining's",
)  # fmt: skip
PAIRED_NOTE = (
    "Difference: Safe-RULE's less the other's, and the middle 95 % of what comes out where combinations of task and "
    f"learner are drawn with replacement, each with all of its trials ({RESAMPLES:,} times, seed {SEED}); none with "
    f"fewer than {FEWEST_CLUSTERS} of them, in which attacks and ratios share data, retrained learners and starts. "
    "Data is shared across the learners of a task as well: intervals can be too narrow by what that makes alike. "
    "Returns: mean of the middle half of the trials."
)


@dataclass(frozen=True)
class Pair:
    """Two methods in one trial; costs as in goals, the difference of returns as a share of retraining's in the cell."""

    cell: Cell
    kept: bool
    other_kept: bool
    earned_more: float


def paired(method: str, results: Sequence[TrialResult]) -> list[str]:
    """`paired_rows` as a Markdown table with its note; nothing without rivals."""
    rows = paired_rows(method, results)
    return [*table(PAIRED, rows), "", PAIRED_NOTE, ""] if rows else []


def paired_rows(method: str, results: Sequence[TrialResult]) -> list[list[str]]:
    """One row for each other method, with the columns PAIRED.

    Args:
        method: the one that is held against the others.
        results: of every trial those of all its methods. Trials without retraining do not count.
    """
    found = by_trial(results)
    retrained = {row.cell: row.return_mean for row in rows_of(results) if row.method == RETRAIN}
    others = in_order({result.method for result in results} - NO_RIVALS - {method})
    lines = []
    for other in others:
        pairs = [
            _pair(trial[method], trial[other], trial[RETRAIN], retrained[cell])
            for (cell, _), trial in found.items()
            if {method, other, RETRAIN} <= trial.keys()
        ]
        if pairs:
            lines.append([other, *_described(pairs)])
    return lines


def interquartile_mean(values: np.ndarray) -> float:
    """Mean of the middle half, a quarter (rounded down) left out at either end; NaN of nothing.

    Args:
        values: (N,).
    """
    if not len(values):
        return float("nan")
    left_out = len(values) // 4
    return float(np.sort(values)[left_out : len(values) - left_out].mean())


def interval(clusters: Sequence[np.ndarray], statistic: Callable[[np.ndarray], float]) -> tuple[float, float] | None:
    """Percentile bootstrap of whole clusters: the middle 95 % of the statistic; None with too few of them.

    Args:
        clusters: each (N_i,), at least one value in each.
        statistic: of all values (N,) of the clusters that were drawn.
    """
    if len(clusters) < FEWEST_CLUSTERS:
        return None
    draws = np.random.default_rng(SEED).integers(len(clusters), size=(RESAMPLES, len(clusters)))
    found = [statistic(np.concatenate([clusters[index] for index in drawn])) for drawn in draws]
    low, high = np.percentile(found, [(100.0 - INTERVAL) / 2.0, (100.0 + INTERVAL) / 2.0])
    return float(low), float(high)


def _pair(one: TrialResult, other: TrialResult, retrained: TrialResult, cell_return: float) -> Pair:
    """Args: cell_return: mean return of retraining over the cell's trials, which stands for what can be earned."""
    return Pair(
        one.cell, excess(one, retrained) <= 1.0, excess(other, retrained) <= 1.0,
        (one.return_mean - other.return_mean) / cell_return if cell_return > 0.0 else float("nan"),
    )  # fmt: skip


def _described(pairs: Sequence[Pair]) -> list[str]:
    safe = [pair for pair in pairs if pair.kept and pair.other_kept and pair.earned_more == pair.earned_more]
    kept, other_kept = (sum(getattr(pair, name) for pair in pairs) for name in ("kept", "other_kept"))
    more_kept = _clusters(pairs, lambda pair: float(pair.kept) - float(pair.other_kept))
    return [
        str(len({_shared(pair) for pair in pairs})), str(len({pair.cell for pair in pairs})), str(len(pairs)),
        str(kept), str(other_kept),
        _with_interval(more_kept, lambda values: float(values.mean())), str(len(safe)),
        _with_interval(_clusters(safe, lambda pair: pair.earned_more), interquartile_mean),
    ]  # fmt: skip


def _clusters(pairs: Sequence[Pair], value: Callable[[Pair], float]) -> list[np.ndarray]:
    """The values, those together that are resampled together."""
    found: dict[tuple[str, str], list[float]] = {}
    for pair in pairs:
        found.setdefault(_shared(pair), []).append(value(pair))
    return [np.array(values) for values in found.values()]


def _shared(pair: Pair) -> tuple[str, str]:
    """Task and learner: what trials have in common that are not independent."""
    return pair.cell.task, pair.cell.algorithm


def _with_interval(clusters: Sequence[np.ndarray], statistic: Callable[[np.ndarray], float]) -> str:
    """In hundredths, as +3 (-1 to +7)."""
    if not clusters:
        return MISSING
    words = _signed(statistic(np.concatenate(clusters)))
    limits = interval(clusters, statistic)
    return words if limits is None else f"{words} ({_signed(limits[0])} to {_signed(limits[1])})"


def _signed(share: float) -> str:
    points = round(100.0 * share)
    return f"{points:+d}" if points else "0"
