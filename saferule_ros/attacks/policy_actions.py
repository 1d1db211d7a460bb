"""What a learner's policy would have done at logged observations."""

import numpy as np
import torch

from saferule_ros.dataset.episode import Floats
from saferule_ros.learning.learner import Learner
from saferule_ros.learning.serving_policy import ServingPolicy


@torch.no_grad()
def policy_actions(learner: Learner, observations: Floats) -> Floats:
    """Actions (B, A) of the served policy at observations (B, O), both in raw units."""
    seen = torch.from_numpy(np.ascontiguousarray(observations)).to(learner.device)
    return ServingPolicy(learner)(seen).cpu().numpy()
