"""What a dataset holds, in a few numbers: for `saferule data info`, for reports."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.record import EpisodeRecord


@dataclass(frozen=True)
class Spread:
    """Lowest, median, mean and highest of one value per episode."""

    lowest: float
    median: float
    mean: float
    highest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of at least one value."""
        return cls(float(np.min(values)), float(np.median(values)), float(np.mean(values)), float(np.max(values)))


@dataclass(frozen=True)
class PartSummary:
    """Some episodes of a dataset: a bag, or all of it. Returns and costs are undiscounted sums."""

    name: str
    episodes: int
    transitions: int
    terminated: int
    truncated: int
    episode_return: Spread
    episode_cost: Spread
    policy_ids: tuple[str, ...]
    fallbacks: int
    lost: int


@dataclass(frozen=True)
class DatasetSummary:
    """A dataset and its bags."""

    digest: str
    observation_size: int
    action_size: int
    whole: PartSummary
    bags: tuple[PartSummary, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def summarize(dataset: EpisodeDataset) -> DatasetSummary:
    """Reads the records only, not the columns. Episodes without a bag count under the name ""."""
    bags: dict[str, list[EpisodeRecord]] = {}
    for record in dataset.records:
        bags.setdefault(record.bag_id, []).append(record)
    return DatasetSummary(
        digest=dataset.digest,
        observation_size=dataset.observation_size,
        action_size=dataset.action_size,
        whole=_part("all", dataset.records),
        bags=tuple(_part(bag_id, records) for bag_id, records in bags.items()),
    )


def _part(name: str, records: Sequence[EpisodeRecord]) -> PartSummary:
    return PartSummary(
        name=name,
        episodes=len(records),
        transitions=sum(record.length for record in records),
        terminated=sum(record.terminated for record in records),
        truncated=sum(record.truncated for record in records),
        episode_return=Spread.of([record.episode_return for record in records]),
        episode_cost=Spread.of([record.episode_cost for record in records]),
        policy_ids=tuple(dict.fromkeys(policy for record in records for policy in record.policy_ids)),
        fallbacks=sum(record.fallbacks for record in records),
        lost=sum(record.lost for record in records),
    )
