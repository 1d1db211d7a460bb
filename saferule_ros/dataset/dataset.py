"""Many episodes as columns: the form that learning reads."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from saferule_ros.dataset.episode import Episode, Floats
from saferule_ros.dataset.errors import DatasetError
from saferule_ros.dataset.naming import unknown_names
from saferule_ros.dataset.record import EpisodeRecord
from saferule_ros.dataset.rows import check_fits, rows_of, sizes_of

DATASET_SCHEMA = "saferule_ros/episode-dataset/1"


@dataclass(frozen=True, eq=False)
class EpisodeDataset:
    """N transitions of E episodes, one row each, episode after episode. Immutable.

    Attributes:
        observations: (N, O) float32, raw units.
        actions: (N, A) float32, raw units.
        rewards: (N,) float32.
        costs: (N,) float32, >= 0.
        next_observations: (N, O) float32; of the same episode, never of the one that follows.
        terminated: (N,) bool, true only in the last row of an episode that ended in an absorbing state.
        truncated: (N,) bool, true only in the last row of an episode that was cut.
        episode_index: (N,) int32, into `records`.
        step: (N,) int32, 0 in the first row of each episode.
        stamps: (N,) int64, when the observation was measured [ns since the epoch]; 0 where that is not known.
        records: E records in row order.
    """

    observations: Floats
    actions: Floats
    rewards: Floats
    costs: Floats
    next_observations: Floats
    terminated: npt.NDArray[np.bool_]
    truncated: npt.NDArray[np.bool_]
    episode_index: npt.NDArray[np.int32]
    step: npt.NDArray[np.int32]
    stamps: npt.NDArray[np.int64]
    records: tuple[EpisodeRecord, ...]

    @classmethod
    def column_names(cls) -> tuple[str, ...]:
        """Names of the array attributes, which are also the names of their files."""
        return tuple(field.name for field in fields(cls) if field.name != "records")

    @classmethod
    def from_episodes(cls, episodes: Iterable[Episode]) -> "EpisodeDataset":
        """Puts episodes one after the other, in the order given.

        Raises:
            DatasetError: none given, sizes that differ, or an id that comes twice.
        """
        given = list(episodes)
        if not given:
            raise DatasetError("a dataset of no episodes was asked for", "Give at least one episode")
        records: dict[str, EpisodeRecord] = {}
        rows: list[dict[str, npt.NDArray]] = []
        start = 0
        for number, episode in enumerate(given):
            check_fits(episode.id, sizes_of(episode), sizes_of(given[0]), records)
            records[episode.id] = EpisodeRecord.of(episode, start)
            rows.append(rows_of(episode, number))
            start += episode.length
        columns = {name: np.concatenate([part[name] for part in rows]) for name in cls.column_names()}
        return cls._assembled(records=tuple(records.values()), **columns)

    def __len__(self) -> int:
        """Number of transitions, N."""
        return len(self.rewards)

    @property
    def episodes(self) -> int:
        """Number of episodes, E."""
        return len(self.records)

    @property
    def observation_size(self) -> int:
        """O."""
        return int(self.observations.shape[1])

    @property
    def action_size(self) -> int:
        """A."""
        return int(self.actions.shape[1])

    @property
    def bag_ids(self) -> tuple[str, ...]:
        """Bags that the episodes came from, in order of first appearance, without the empty one."""
        return tuple(dict.fromkeys(record.bag_id for record in self.records if record.bag_id))

    @property
    def initial_observations(self) -> Floats:
        """(E', O): what each episode began with; of a piece, that is in another one. All, if there are only pieces."""
        starts = [record.start for record in self.records if record.first_step == 0]
        return self.observations[starts or [record.start for record in self.records]]

    @cached_property
    def digest(self) -> str:
        """SHA-256, hex, of the episodes' digests, bags and origins in their order."""
        return digest_of(self.records)

    def episode(self, index: int) -> Episode:
        """The episode behind `records[index]`, rebuilt from the rows."""
        record = self.records[index]
        rows = slice(record.start, record.start + record.length)
        last = rows.stop - 1
        return Episode(
            id=record.id,
            bag_id=record.bag_id,
            observations=np.concatenate([self.observations[rows], self.next_observations[last : rows.stop]]),
            actions=self.actions[rows],
            rewards=self.rewards[rows],
            costs=self.costs[rows],
            terminated=bool(self.terminated[last]),
            truncated=bool(self.truncated[last]),
            policy_ids=record.policy_ids,
            fallbacks=record.fallbacks,
            lost=record.lost,
            first_step=record.first_step,
            stamps=self.stamps[rows],
            recorded_by=record.recorded_by,
        )

    def subset(self, episode_indices: Sequence[int] | npt.NDArray[np.integer]) -> "EpisodeDataset":
        """A dataset of these episodes alone, in the order given (the rows are copied).

        Raises:
            DatasetError: no index, an index twice, or one that is out of range.
        """
        indices = [int(index) for index in episode_indices]
        outside = [index for index in indices if not 0 <= index < self.episodes]
        if outside:
            raise DatasetError(
                f"episode index {outside[0]} is out of range",
                f"This dataset has episodes 0 to {self.episodes - 1}",
            )
        return EpisodeDataset.from_episodes(self.episode(index) for index in indices)

    def indices_of(self, bag_ids: Iterable[str] = (), episode_ids: Iterable[str] = ()) -> npt.NDArray[np.int64]:
        """Indices, ascending and each once, of every episode of these bags and of these single episodes.

        Raises:
            DatasetError: a bag or an episode that this dataset does not hold (the closest names are given).
        """
        by_id = {record.id: index for index, record in enumerate(self.records)}
        wanted_bags, wanted_ids = set(bag_ids), set(episode_ids)
        for kind, wanted, known in (
            ("bag", wanted_bags, self.bag_ids),
            ("episode", wanted_ids, tuple(by_id)),
        ):
            unknown = sorted(wanted.difference(known))
            if unknown:
                raise unknown_names(kind, unknown, known)
        found = {by_id[name] for name in wanted_ids}
        found |= {index for index, record in enumerate(self.records) if record.bag_id in wanted_bags}
        return np.array(sorted(found), dtype=np.int64)

    def rows_of(self, episodes: npt.ArrayLike) -> npt.NDArray[np.intp]:
        """The rows (K,) of the transitions of these episodes, given by their numbers."""
        return np.flatnonzero(np.isin(self.episode_index, episodes))

    def save(self, folder: Path | str) -> None:
        """Writes to `folder`, replacing a dataset that is there in one atomic step. Durable on return.

        Raises:
            DatasetError: the folder cannot be written, or holds something that is no dataset.
        """
        from saferule_ros.dataset.storage import save  # storage builds datasets, hence imports this module

        save(self, Path(folder))

    @classmethod
    def load(cls, folder: Path | str, mmap: bool = True) -> "EpisodeDataset":
        """Reads a saved dataset and checks every value against the digests.

        Args:
            folder: as given to `save`.
            mmap: leave the columns on disk and read what is used; otherwise copy them to memory.

        Raises:
            DatasetError: missing, damaged, tampered with, or of another schema.
        """
        from saferule_ros.dataset.storage import load

        return load(Path(folder), mmap)

    @classmethod
    def _assembled(cls, records: tuple[EpisodeRecord, ...], **columns: npt.NDArray) -> "EpisodeDataset":
        for column in columns.values():
            column.setflags(write=False)
        return cls(records=records, **columns)


def digest_of(records: Iterable[EpisodeRecord]) -> str:
    """The digest of a dataset with these records."""
    # The origin only where it is known, so that datasets without keep the digests that they always had.
    episodes = [[r.bag_id, r.digest, r.origin] if r.origin else [r.bag_id, r.digest] for r in records]
    content = {"schema": DATASET_SCHEMA, "episodes": episodes}
    return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()
