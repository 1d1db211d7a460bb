"""From a request to forget to a stored forget set: what the node's service and the command line both do."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.forget_set import ForgetSet
from saferule_ros.dataset.selection import StepRange, TimeWindow
from saferule_ros.workspace import Workspace


@dataclass(frozen=True)
class StoredForgetSet:
    """A forget set that is on disk, and the sizes of both parts; an episode of which steps are forgotten is in both."""

    forget_set: ForgetSet
    forget_episodes: int
    forget_transitions: int
    keep_episodes: int
    keep_transitions: int


def store_forget_set(
    workspace: Workspace, bag_ids: Iterable[str], episode_ids: Iterable[str], reason: str, requester: str,
    steps: Iterable[StepRange] = (), time_windows: Iterable[TimeWindow] = (), policy_ids: Iterable[str] = (),
    recorded_by: Iterable[str] = (), where: str = "",
) -> StoredForgetSet:  # fmt: skip
    """Selects from the workspace's dataset and stores the set, durable on return.

    Raises:
        DatasetError: no readable dataset; an unknown name, step or column; a rule that nothing matches; nothing to
            forget, or nothing to keep.
    """
    dataset = EpisodeDataset.load(workspace.dataset)
    forget_set = ForgetSet.select(
        dataset, bag_ids, episode_ids, reason, requester, steps, time_windows, policy_ids, recorded_by, where
    )
    chosen = forget_set.chosen(dataset)
    forget_set.save(workspace.forget_sets)
    return StoredForgetSet(
        forget_set,
        forget_episodes=len(np.unique(dataset.episode_index[chosen])),
        forget_transitions=int(chosen.sum()),
        keep_episodes=len(np.unique(dataset.episode_index[~chosen])),
        keep_transitions=int((~chosen).sum()),
    )
