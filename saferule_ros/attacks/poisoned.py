"""A poisoned dataset with the ground truth: which steps of which episodes an attacker changed or added."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from saferule_ros.attacks.marker import Marker
from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.forget_set import ForgetSet
from saferule_ros.dataset.pieces import true_runs


@dataclass(frozen=True, eq=False)
class Poisoned:
    """What an attack made of a dataset.

    Attributes:
        dataset: clean and poisoned episodes together; poisoned ones come under the bag `bag_id`.
        rows: (N,) bool, the transitions whose observation, action, reward, cost or next observation is the attacker's.
        bag_id: names the poisoned episodes.
        marker: what sets off a backdoor; None for attacks without one.
    """

    dataset: EpisodeDataset
    rows: npt.NDArray[np.bool_]
    bag_id: str
    marker: Marker | None = None

    @property
    def ratio(self) -> float:
        """Share of the transitions that is poisoned: the nearest to what was asked for."""
        return float(self.rows.mean())

    @property
    def episode_ids(self) -> tuple[str, ...]:
        """Every episode with a poisoned step, in the dataset's order."""
        touched = np.unique(self.dataset.episode_index[self.rows])
        return tuple(self.dataset.records[index].id for index in touched)

    def stretches(self) -> dict[str, list[tuple[int, int]]]:
        """Of each poisoned episode, by id: the poisoned steps as [first, last + 1] pairs."""
        return {
            record.id: true_runs(self.rows[record.start : record.start + record.length])
            for record in self.dataset.records
            if self.rows[record.start : record.start + record.length].any()
        }

    def forget_set(self, reason: str = "", requester: str = "") -> ForgetSet:
        """The ground truth as a forget set: the poisoned steps, and nothing else."""
        true = [(name, begin, end) for name, pairs in self.stretches().items() for begin, end in pairs]
        return self.naming(true, reason, requester)

    def naming(self, ranges: Sequence[tuple[str, int, int]], reason: str = "", requester: str = "") -> ForgetSet:
        """A forget set of these steps: (episode, first, last + 1) each."""
        whole = {(record.id, 0, record.length) for record in self.dataset.records}
        episodes = [found[0] for found in ranges if found in whole]
        return ForgetSet.select(
            self.dataset, (), episodes, reason, requester, [found for found in ranges if found not in whole]
        )
