"""What is pressed out of the critics of forget pairs among keep data. [ours]

Where keep pairs outnumber forget pairs (see forget_weights.py), they are to teach the critics there what is right, and
the paper's terms, which press a forgotten pair below what is common anywhere, would press its neighbours as well. But
keep data teach of the actions that they have. Of a forgotten action that they do not have the critics go on saying what
the poison taught them, and if that is much, the policy goes on taking it, into states that no data shows. So these
pairs are pressed too, and only while the policy, which maximises G = Q_r - lambda Q_c, would prefer many of them to
what the behaviour model, which comes to imitate good episodes, does at the same state:

    E_Df[(1 - w) t softplus((G(s, a) - G(s, b)) / t)],   b ~ behaviour model at s

with G(s, b) held fixed: no good action is raised by it. The weight of this term rises by dual ascent while more than
the tolerated share is preferred, and falls to beta's floor below it.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from saferule_ros.learning.learner import LagrangianLearner, by_kind


class Outnumbered(NamedTuple):
    """Of a batch of forget pairs, each as far as keep pairs outnumber it."""

    loss: Tensor  # scalar
    preferred: Tensor  # scalar without gradient: the share that the policy would prefer, 0 to 1


def press_outnumbered(
    learner: LagrangianLearner, observations: Tensor, on_forget: Tensor, weights: Tensor, cost_weight: float,
    temperature: float,
) -> Outnumbered:  # fmt: skip
    """How much the policy would prefer forgotten actions to good ones.

    Args:
        observations: (B, O), of the forget pairs.
        on_forget: (2N, B), the critics at these pairs.
        weights: w (B,) of them: 1 where keep pairs are few.
        cost_weight: of the cost critics in the gradient, 0 to 1: with 0 only rewards are pressed.
        temperature: t [value units].
    """
    multiplier = learner.multiplier.value.float()
    with torch.no_grad():
        good = learner.vae.decode(observations, learner.latents(len(observations)))
        reward, cost = by_kind(learner.critics(observations, good))  # (N, B) each
        score_of_good = (reward - multiplier * cost).mean(0)  # (B,)
    reward, cost = by_kind(on_forget)
    cost = cost_weight * cost + (1.0 - cost_weight) * cost.detach()
    preference = reward - multiplier * cost - score_of_good  # (N, B)
    shares = 1.0 - weights  # (B,)
    loss = temperature * (shares * F.softplus(preference / temperature)).mean()
    preferred = (shares * (preference.detach().mean(0) > 0).float()).sum() / shares.sum().clamp(min=1.0)
    return Outnumbered(loss, preferred)
