"""kappa as the critics can tell it: never below what they show on episodes that are within the limit [ours].

The textbook value (see TaskLimits.cost_value_limit) can lie below the critics' noise; the constraint would then call
everything unsafe.
"""

import numpy as np
import torch

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.learning.learner import CriticLearner
from saferule_ros.learning.replay import Replay

# A quantile over this many pairs is exact to a fraction of a percent; torch refuses more than 16 million.
PAIRS = 100_000


@torch.no_grad()
def raised_kappa(learner: CriticLearner, dataset: EpisodeDataset, replay: Replay, quantile: float) -> float:
    """The larger of kappa and a quantile of Q_c over episodes within the cost limit [discounted cost].

    Args:
        dataset, replay: the keep data, the same transitions in both.
        quantile: 0 to 1.
    """
    limit = learner.limits.cost_limit
    safe = [index for index, record in enumerate(dataset.records) if record.episode_cost <= limit]
    if not safe:
        return learner.kappa
    rows = torch.as_tensor(np.flatnonzero(np.isin(dataset.episode_index, safe)))
    rows = rows[:: max(1, len(rows) // PAIRS)].to(learner.device)
    cost = learner.values(learner.critics(replay.all.observations[rows], replay.all.actions[rows])).cost
    return max(learner.kappa, float(torch.quantile(cost, quantile)))
