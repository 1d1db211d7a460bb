"""How far good behaviour lies from what the behaviour model proposes. [ours]

BCQ and BEAR let the policy differ from the behaviour model by a constant (`reach`, `mmd_threshold`), whatever the task
is. Good behaviour that scatters less than that around the model's proposals is exact: nothing in the keep data shows
what a policy comes to that always does a little else, and the critics, which have seen only noise there, say what the
poison taught them. So a patch can bind the policy more tightly, in multiples of this scatter. Where behaviour scatters
more than the constant, nothing changes. The model is that of the agent that is to be patched, which imitates all data:
the patched one, known only in the end, comes out a tenth closer (SafetySwimmerVelocity: 0.065 in place of 0.072).
"""

import torch
from torch import Tensor

from saferule_ros.learning.calibration import some
from saferule_ros.learning.flops import FlopCounter
from saferule_ros.learning.learner import ActorCriticLearner
from saferule_ros.learning.replay import Replay

# Pairs that are looked at: enough for three digits.
PAIRS = 10_000


@torch.no_grad()
def behaviour_scatter(learner: ActorCriticLearner, keep: Replay, rows: Tensor) -> tuple[float, float]:
    """Root mean square distance of actions from the model's likeliest proposal, per action [action range/2], and FLOPs.

    Args:
        rows: (N,) of D_k, those that are worth imitating.
    """
    looked_at = keep.at(some(rows, PAIRS))
    with FlopCounter() as counter:
        likeliest = torch.zeros(len(looked_at.actions), learner.vae.latent_size, device=learner.device)
        proposed = learner.vae.decode(looked_at.observations, likeliest)  # (N, A)
    return float((looked_at.actions - proposed).square().mean().sqrt()), float(counter.total)
