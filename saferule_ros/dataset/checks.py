"""Is a dataset fit to be learned from? Every check says what it looked at and what it found."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.units import NANOSECONDS

# Rows that are looked at together: a dataset may be larger than the memory.
_BLOCK = 65_536
# A step is a gap where it takes so many times the dataset's median step, unless a limit is given [ours].
_GAP_FACTOR = 5.0
# Findings that are named; the others are counted.
_NAMED = 3


@dataclass(frozen=True)
class Limits:
    """What a robot can do, where somebody says so. None: not checked, only told.

    Attributes:
        action_low, action_high: bounds of each action (A,).
        reward_low, reward_high: of a transition.
        cost_high: of a transition.
        max_gap: longest time between two observations of an episode [s].
    """

    action_low: Sequence[float] | None = None
    action_high: Sequence[float] | None = None
    reward_low: float | None = None
    reward_high: float | None = None
    cost_high: float | None = None
    max_gap: float | None = None


@dataclass(frozen=True)
class CheckResult:
    """One check: its name, whether it passed, and what was seen."""

    name: str
    passed: bool
    found: str


def check_dataset(dataset: EpisodeDataset, limits: Limits | None = None) -> tuple[CheckResult, ...]:
    """All checks, in order. Digests are checked by loading, before this."""
    given = limits or Limits()
    return (
        _shapes(dataset), _finite(dataset), _continuity(dataset), _time(dataset), _gaps(dataset, given.max_gap),
        _actions(dataset, given), _range("rewards", dataset.rewards, given.reward_low, given.reward_high),
        _range("costs", dataset.costs, 0.0, given.cost_high), _duplicates(dataset),
    )  # fmt: skip


def _shapes(dataset: EpisodeDataset) -> CheckResult:
    rows = {name: len(getattr(dataset, name)) for name in EpisodeDataset.column_names()}
    fits = set(rows.values()) == {len(dataset)} and dataset.observations.shape == dataset.next_observations.shape
    text = f"{len(dataset)} transitions, observations of {dataset.observation_size}, actions of {dataset.action_size}"
    return CheckResult("shapes", fits, text if fits else f"{text}; columns have {rows} rows")


def _finite(dataset: EpisodeDataset) -> CheckResult:
    wrong = [
        f"{name} in row {rows.start + int(np.argmax(~ok))}"
        for name in ("observations", "actions", "rewards", "costs", "next_observations")
        for rows, ok in ((rows, _finite_rows(getattr(dataset, name)[rows])) for rows in _blocks(len(dataset)))
        if not ok.all()
    ]
    return _listed("finite", wrong, "every number is finite")


def _finite_rows(values: npt.NDArray) -> npt.NDArray[np.bool_]:
    return np.isfinite(values).reshape(len(values), -1).all(axis=1)


def _continuity(dataset: EpisodeDataset) -> CheckResult:
    """Within an episode, what one action led to is what the next one saw; its end is in its last row alone."""
    wrong = []
    for record in dataset.records:
        rows = slice(record.start, record.start + record.length - 1)
        after = slice(record.start + 1, record.start + record.length)
        if not np.array_equal(dataset.next_observations[rows], dataset.observations[after]):
            wrong.append(f"{record.id} is broken")
        if dataset.terminated[rows].any() or dataset.truncated[rows].any():
            wrong.append(f"{record.id} ends before its end")
        last = record.start + record.length - 1
        if not (dataset.terminated[last] or dataset.truncated[last]):
            wrong.append(f"{record.id} has no end")
    ends = f"{int(dataset.terminated.sum())} terminated, {int(dataset.truncated.sum())} truncated"
    return _listed("episodes", wrong, f"{dataset.episodes} episodes, {ends}, none reaches into another")


def _time(dataset: EpisodeDataset) -> CheckResult:
    wrong, known = [], 0
    for record in dataset.records:
        stamps = dataset.stamps[record.start : record.start + record.length]
        known += bool(stamps.any())
        if stamps.any() and (np.diff(stamps) <= 0).any():
            wrong.append(f"{record.id} at step {int(np.argmax(np.diff(stamps) <= 0)) + 1}")
    return _listed("monotonic time", wrong, f"in {known} episodes with times" if known else "no times are known")


def _gaps(dataset: EpisodeDataset, max_gap: float | None) -> CheckResult:
    steps = [
        np.diff(dataset.stamps[record.start : record.start + record.length]) / NANOSECONDS
        for record in dataset.records
        if dataset.stamps[record.start]
    ]
    every = np.concatenate(steps) if steps else np.zeros(0)
    if not len(every):
        return CheckResult("gaps", True, "no times are known")
    median = float(np.median(every))
    limit = _GAP_FACTOR * median if max_gap is None else max_gap
    names = [record.id for record in dataset.records if dataset.stamps[record.start]]
    wrong = [
        f"{name} at step {int(np.argmax(found)) + 1}: {found.max():.3g} s"
        for name, found in zip(names, steps, strict=True)
        if len(found) and found.max() > limit
    ]
    return _listed("gaps", wrong, f"median step {median:.4g} s, longest {every.max():.4g} s, limit {limit:.4g} s")


def _actions(dataset: EpisodeDataset, limits: Limits) -> CheckResult:
    lowest, highest = _extremes(dataset.actions)
    text = f"from {_numbers(lowest)} to {_numbers(highest)}"
    wrong = []
    for what, bound, found, side in (
        ("low", limits.action_low, lowest, -1), ("high", limits.action_high, highest, 1),
    ):  # fmt: skip
        if bound is None:
            continue
        if len(bound) != dataset.action_size:
            wrong.append(f"{what} has {len(bound)} numbers for {dataset.action_size} actions")
            continue
        # In the precision of the data: a bound of 0.1 is not exceeded by float32(0.1).
        beyond = side * found > side * np.asarray(bound, np.float32)
        wrong += [
            f"action {index} is {found[index]:.4g}, {what} {bound[index]:.4g}" for index in np.flatnonzero(beyond)
        ]
    return _listed("action bounds", wrong, text)


def _range(name: str, values: npt.NDArray[np.float32], low: float | None, high: float | None) -> CheckResult:
    (lowest,), (highest,) = (edge.tolist() for edge in _extremes(values[:, None]))
    wrong = [f"lowest {lowest:.4g}, allowed {low:.4g}"] if low is not None and lowest < np.float32(low) else []
    wrong += [f"highest {highest:.4g}, allowed {high:.4g}"] if high is not None and highest > np.float32(high) else []
    return _listed(name, wrong, f"from {lowest:.4g} to {highest:.4g}")


def _duplicates(dataset: EpisodeDataset) -> CheckResult:
    """Episodes with the same numbers under two names."""
    seen: dict[bytes, str] = {}
    wrong = []
    for record in dataset.records:
        rows = slice(record.start, record.start + record.length)
        content = hashlib.sha256()
        for name in ("observations", "actions", "rewards", "costs"):
            content.update(np.ascontiguousarray(getattr(dataset, name)[rows]).data)
        first = seen.setdefault(content.digest(), record.id)
        if first != record.id:
            wrong.append(f"{record.id} is {first}")
    return _listed("duplicates", wrong, "no episode comes twice")


def _extremes(values: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    blocks = [values[rows] for rows in _blocks(len(values))]
    return np.min([block.min(axis=0) for block in blocks], axis=0), np.max([b.max(axis=0) for b in blocks], axis=0)


def _blocks(rows: int) -> Iterator[slice]:
    return (slice(begin, min(begin + _BLOCK, rows)) for begin in range(0, rows, _BLOCK))


def _listed(name: str, wrong: Sequence[str], right: str) -> CheckResult:
    if not wrong:
        return CheckResult(name, True, right)
    more = f" and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
    return CheckResult(name, False, "; ".join(wrong[:_NAMED]) + more)


def _numbers(values: Iterable[float]) -> str:
    return "[" + ", ".join(f"{value:.4g}" for value in values) + "]"
