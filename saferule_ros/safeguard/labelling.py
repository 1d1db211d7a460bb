"""What a safeguard says of a dataset, row by row, and how that differs from the costs that are stored in it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.safeguard.model import Safeguard
from saferule_ros.safeguard.monitor import Monitor


@dataclass(frozen=True, eq=False)
class Labels:
    """Of N transitions, in the dataset's order. A piece of an episode begins in the initial state, too.

    Attributes:
        costs: (N,) float32.
        unsafe: (N,) bool.
        judged: (N,) bool; false where a label could not be computed, which counts as unsafe.
        entered: how often each state was come to, by its name.
    """

    costs: npt.NDArray[np.float32]
    unsafe: npt.NDArray[np.bool_]
    judged: npt.NDArray[np.bool_]
    entered: dict[str, int]


def label_dataset(safeguard: Safeguard, dataset: EpisodeDataset) -> Labels:
    """Steps a monitor through every episode: so the labels are those of a live run, to the bit.

    Raises:
        SafeguardError: it is for vectors of other sizes.
    """
    safeguard.require_sizes(dataset.observation_size, dataset.action_size, "the dataset")
    found = Labels(np.zeros(len(dataset), np.float32), np.zeros(len(dataset), np.bool_),
                   np.ones(len(dataset), np.bool_), dict.fromkeys(safeguard.states, 0))  # fmt: skip
    monitor = Monitor(safeguard)
    for record in dataset.records:
        monitor.reset()
        before = monitor.state
        rows = slice(record.start, record.start + record.length)
        led_to, actions = np.asarray(dataset.next_observations[rows]), np.asarray(dataset.actions[rows])
        for row, observation, action in zip(range(rows.start, rows.stop), led_to, actions, strict=True):
            outcome = monitor.step(observation, action)
            found.costs[row], found.unsafe[row] = outcome.cost, outcome.unsafe
            found.judged[row] = not outcome.problem
            found.entered[outcome.state] += outcome.state != before
            before = outcome.state
    return found


@dataclass(frozen=True)
class Audit:
    """Labels beside what is stored. Steps are transitions; costs are sums over all of them."""

    steps: int
    episodes: int
    unsafe_steps: int
    unsafe_episodes: int
    unjudged_steps: int
    entered: dict[str, int]
    labelled_cost: float
    stored_cost: float
    missing_steps: int  # the stored cost is lower
    surplus_steps: int  # it is higher
    differing_episodes: tuple[str, ...]  # ids, that with the largest difference first

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return vars(self)


def audit_dataset(safeguard: Safeguard, dataset: EpisodeDataset) -> Audit:
    """Labels a dataset anew and compares; raises as label_dataset.

    A compromised cost logger shows itself here: it leaves out what the safeguard sees.
    """
    labels = label_dataset(safeguard, dataset)
    starts = np.array([record.start for record in dataset.records])
    differences = labels.costs.astype(np.float64) - dataset.costs
    per_episode = np.add.reduceat(np.abs(differences), starts)
    order = np.argsort(-per_episode, kind="stable")
    return Audit(
        steps=len(dataset), episodes=dataset.episodes,
        unsafe_steps=int(labels.unsafe.sum()),
        unsafe_episodes=int(np.logical_or.reduceat(labels.unsafe, starts).sum()),
        unjudged_steps=int((~labels.judged).sum()), entered=labels.entered,
        labelled_cost=float(labels.costs.sum(dtype=np.float64)),
        stored_cost=float(np.sum(dataset.costs, dtype=np.float64)),
        missing_steps=int((differences > 0).sum()), surplus_steps=int((differences < 0).sum()),
        differing_episodes=tuple(dataset.records[index].id for index in order if per_episode[index] > 0),
    )  # fmt: skip
