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
from saferule_ros.learning.calibration import episodes_within_limit
from saferule_ros.learning.settings import TaskLimits


def rows_worth_imitating(keep: EpisodeDataset, limits: TaskLimits, share: float) -> Tensor:
    """Rows (K,) of D_k.

    Args:
        share: of the episodes within the limit, those that earn most per step, one at least; 0: all rows, whatever they
            cost. All rows as well where no episode is within the limit.
    """
    within = episodes_within_limit(keep, limits)
    if not share or not len(within):
        return torch.arange(len(keep))
    earned = np.array([keep.records[index].episode_return / keep.records[index].length for index in within])
    best = within[np.argsort(-earned, kind="stable")[: max(round(share * len(within)), 1)]]
    return torch.from_numpy(keep.rows_of(best))
