"""Which keep data a patch imitates: the better half of what keeps the limit. [ours]

It is what the behaviour model learns from, and COptiDICE's actor where that is asked for.

The policy of a learner with a behaviour model stays near what that model proposes. Logs hold costly episodes as well,
and slow ones: a patched policy whose critics judge one place wrongly finds costly actions there among the proposals,
and one that is drawn towards the mean of the behaviour is drawn towards slowness. Where the model proposes what good
episodes did, neither is near. Critics, targets and COptiDICE's weights go on to learn from all keep data: they have to
know what is costly.
"""

import numpy as np
import torch
from torch import Tensor

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.pieces import Wholes, wholes
from saferule_ros.learning.calibration import wholes_within_limit
from saferule_ros.learning.settings import TaskLimits


def rows_worth_imitating(keep: EpisodeDataset, limits: TaskLimits, share: float) -> Tensor:
    """Rows (K,) of D_k.

    Args:
        share: of the episodes within the limit, those that earn most, one at least; 0: all rows, whatever they cost.
            All rows as well where no episode is within the limit.
    """
    found = wholes(keep)
    within = np.flatnonzero(wholes_within_limit(found, limits))  # episodes
    if not share or not len(within):
        return torch.arange(len(keep))
    earned = _earned(found, limits)[within]
    best = within[np.argsort(-earned, kind="stable")[: max(round(share * len(within)), 1)]]
    return torch.from_numpy(keep.rows_of(np.flatnonzero(np.isin(found.of_record, best))))


def _earned(found: Wholes, limits: TaskLimits) -> np.ndarray:
    """What each episode (W,) earns over a whole horizon, per step.

    Where one was cut, or recorded in part, it would have gone on so; one that terminated had nothing more to earn: a
    robot that fell early must not pass for a fast one.
    """
    steps = np.where(found.terminated, np.maximum(found.lengths, limits.horizon), found.lengths)
    return found.returns / steps
