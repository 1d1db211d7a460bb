"""Which transitions of a dataset somebody means: by bag, episode, step, time, policy, recorder, or what is in them."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.errors import DatasetError, ForgetSetError
from saferule_ros.dataset.expression import Expression, ExpressionError
from saferule_ros.dataset.naming import unknown_names
from saferule_ros.dataset.record import EpisodeRecord
from saferule_ros.units import NANOSECONDS

# Episode, first step and the step after the last one.
StepRange = tuple[str, int, int]
# First instant and the one after the last one [ns since the epoch].
TimeWindow = tuple[int, int]

#: What a predicate can be about. Of each transition, then of its episode.
TRANSITION_COLUMNS = ("observation", "action", "next_observation", "reward", "cost", "step", "time", "terminated",
                      "truncated")  # fmt: skip
EPISODE_COLUMNS = ("episode", "bag", "recorded_by", "policy", "length", "episode_return", "episode_cost", "fallbacks",
                   "lost")  # fmt: skip
COLUMNS = (*TRANSITION_COLUMNS, *EPISODE_COLUMNS)

# Rows that a predicate is evaluated over at a time: a dataset may be larger than the memory.
_BLOCK = 65_536
# Stamps are 64-bit integers: from 1677 to 2262.
_STAMPS = range(-(2**63), 2**63)
# Digits of the largest step that can be named: far above any episode's, below what Python refuses to read.
_STEP_DIGITS = 18


@dataclass(frozen=True)
class Selection:
    """Every transition that any of these names.

    Attributes:
        bag_ids: every episode of these bags.
        episode_ids: these single episodes.
        steps: these steps of other episodes.
        time_windows: observations that were measured in them.
        policy_ids: every episode in which one of these policies acted.
        recorded_by: every episode that was recorded by one of these.
        where: an expression over columns (see `COLUMNS`), true for what is meant; empty: none.
    """

    bag_ids: tuple[str, ...] = ()
    episode_ids: tuple[str, ...] = ()
    steps: tuple[StepRange, ...] = ()
    time_windows: tuple[TimeWindow, ...] = ()
    policy_ids: tuple[str, ...] = ()
    recorded_by: tuple[str, ...] = ()
    where: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether nothing is named at all."""
        return not any(getattr(self, field.name) for field in fields(self))

    def to_dict(self) -> dict[str, Any]:
        """Plain data: what was named, without the rest."""
        return {name: value for name, value in asdict(self).items() if value}

    def rows(self, dataset: EpisodeDataset) -> npt.NDArray[np.bool_]:
        """Which transitions (N,) are meant.

        Raises:
            ForgetSetError: an unknown bag, episode, policy, recorder or column (the closest are named), steps that an
                episode does not have, or a time window or predicate that no transition matches.
        """
        chosen = np.zeros(len(dataset), np.bool_)
        for record in self._whole_episodes(dataset):
            chosen[record.start : record.start + record.length] = True
        by_id = {record.id: record for record in dataset.records}
        for name, begin, end in self.steps:
            chosen |= _steps(dataset, by_id[name], begin, end)
        for begin, end in self.time_windows:
            chosen |= _in_window(dataset, begin, end)
        if self.where:
            chosen |= _matching(dataset, self.where)
        return chosen

    def _whole_episodes(self, dataset: EpisodeDataset) -> list[EpisodeRecord]:
        records = dataset.records
        policies = dict.fromkeys(policy for record in records for policy in record.policy_ids)
        recorders = dict.fromkeys(record.recorded_by for record in records if record.recorded_by)
        for kind, wanted, known in (
            ("policy id", self.policy_ids, tuple(policies)), ("recorder", self.recorded_by, tuple(recorders)),
        ):  # fmt: skip
            unknown = sorted(set(wanted).difference(known))
            if unknown:
                raise _error(unknown_names(kind, unknown, known))
        try:
            indices = set(dataset.indices_of(self.bag_ids, self.episode_ids))
            dataset.indices_of((), [name for name, _, _ in self.steps])
        except DatasetError as error:
            raise _error(error) from error
        return [
            record
            for index, record in enumerate(records)
            if index in indices
            or record.recorded_by in self.recorded_by
            or set(record.policy_ids) & set(self.policy_ids)
        ]  # fmt: skip


def parse_steps(text: str) -> StepRange:
    """EPISODE:FIRST-LAST, both included; episodes may have a colon in their names.

    Raises:
        ForgetSetError: it is none, or has numbers that no step has.
    """
    name, _, numbers = text.rpartition(":")
    first, _, last = numbers.partition("-")
    if not (name and first.isdecimal() and last.isdecimal()) or max(len(first), len(last)) > _STEP_DIGITS:
        raise ForgetSetError(
            f"{text!r:.200} is no range of steps", "Write EPISODE:FIRST-LAST, e.g. monday-0003:120-180"
        )
    return name, int(first), int(last) + 1


def parse_window(text: str) -> TimeWindow:
    """BEGIN..END, see `parse_time`; the end is not part of it.

    Raises:
        ForgetSetError: it is none, or ends before it begins.
    """
    first, separator, last = text.partition("..")
    if not separator:
        raise ForgetSetError(
            f"{text!r:.200} is no time window", "Write BEGIN..END, e.g. 2026-11-21T10:30..2026-11-21T10:35"
        )
    begin, end = parse_time(first.strip()), parse_time(last.strip())
    if not begin < end:
        raise ForgetSetError(f"time window {text!r:.200} ends before it begins", "Write the earlier time first")
    return begin, end


def parse_time(text: str) -> int:
    """An instant [ns since the epoch]: ISO 8601 (UTC if it names no zone), or seconds since the epoch.

    Raises:
        ForgetSetError: neither, or a time that no observation can have been measured at.
    """
    try:
        whole, _, part = text.partition(".")
        if whole.isdecimal() and (part.isdecimal() or not part):
            time = int(whole) * NANOSECONDS + int((part + "0" * 9)[:9])
        else:
            moment = datetime.fromisoformat(text)
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            time = int(moment.replace(microsecond=0).timestamp()) * NANOSECONDS + moment.microsecond * 1000
    except ValueError as error:
        raise ForgetSetError(
            f"{text!r:.200} is no time", "Write 2026-11-21T10:30:00 (UTC), with a zone +01:00, or seconds since 1970"
        ) from error
    if time not in _STAMPS:
        raise ForgetSetError(
            f"{text!r:.200} is no time of a recording: it lies before 1678 or after 2261",
            "Write seconds since 1970 (not milliseconds or nanoseconds?), or 2026-11-21T10:30:00",
        )
    return time


def columns_of(dataset: EpisodeDataset, names: Iterable[str], rows: slice) -> dict[str, npt.NDArray]:
    """The columns that a predicate reads, of these rows."""
    simple = {"observation": "observations", "action": "actions", "next_observation": "next_observations",
              "reward": "rewards", "cost": "costs", "step": "step", "terminated": "terminated",
              "truncated": "truncated"}  # fmt: skip
    index = dataset.episode_index[rows]
    found: dict[str, npt.NDArray] = {}
    for name in names:
        if name in simple:
            column = np.asarray(getattr(dataset, simple[name])[rows])
            found[name] = column if column.dtype == np.bool_ else column.astype(np.float64)
        elif name == "time":
            found[name] = np.asarray(dataset.stamps[rows]) / NANOSECONDS
        else:
            found[name] = _of_episodes(dataset.records, name)[index]
    return found


def _of_episodes(records: Sequence[EpisodeRecord], name: str) -> npt.NDArray:
    texts = {"episode": "id", "bag": "bag_id", "recorded_by": "recorded_by"}
    if name in texts:
        return np.array([getattr(record, texts[name]) for record in records])
    if name == "policy":
        return np.array([" ".join(record.policy_ids) for record in records])
    return np.array([getattr(record, name) for record in records], np.float64)


def _steps(dataset: EpisodeDataset, record: EpisodeRecord, begin: int, end: int) -> npt.NDArray[np.bool_]:
    if not 0 <= begin < end <= record.length:
        raise ForgetSetError(
            f"episode {record.id!r} has no steps {begin} to {end - 1}", f"It has steps 0 to {record.length - 1}"
        )
    chosen = np.zeros(len(dataset), np.bool_)
    chosen[record.start + begin : record.start + end] = True
    return chosen


def _in_window(dataset: EpisodeDataset, begin: int, end: int) -> npt.NDArray[np.bool_]:
    known = dataset.stamps > 0
    if not known.any():
        raise ForgetSetError("this dataset does not say when it was measured", "Name bags, episodes or steps")
    chosen = known & (dataset.stamps >= begin) & (dataset.stamps < end)
    if not chosen.any():
        first, last = (_text(int(edge)) for edge in (dataset.stamps[known].min(), dataset.stamps.max()))
        raise ForgetSetError(
            f"no transition lies between {_text(begin)} and {_text(end)}", f"The dataset is from {first} to {last}"
        )
    return chosen


def _matching(dataset: EpisodeDataset, where: str) -> npt.NDArray[np.bool_]:
    parts = []
    try:
        expression = Expression(where)
        expression.require(COLUMNS)
        for begin in range(0, len(dataset), _BLOCK):
            rows = slice(begin, min(begin + _BLOCK, len(dataset)))
            columns = columns_of(dataset, expression.names or ("step",), rows)
            parts.append(expression.evaluate_truth(columns, "Compare: episode_cost > 25"))
    except ExpressionError as error:
        raise ForgetSetError(error.what, error.hint) from error
    chosen = np.concatenate(parts)
    if not chosen.any():
        raise ForgetSetError(
            f"no transition matches {where!r}", "Look at the data with `saferule data info`, and loosen it"
        )
    return chosen


def _text(time: int) -> str:
    """An instant [ns since the epoch] in words. Total: what is no date is told as a number."""
    if time not in _STAMPS:
        return f"{time // NANOSECONDS} s since 1970"
    return datetime.fromtimestamp(time / NANOSECONDS, UTC).isoformat(timespec="milliseconds")


def _error(error: DatasetError) -> ForgetSetError:
    return ForgetSetError(error.what, error.hint)
