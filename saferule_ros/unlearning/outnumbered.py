"""What is pressed out of the critics of forget pairs among keep data. [ours]

Where keep pairs outnumber forget pairs (see forget_weights.py), they are to teach the critics there what is right, and
the paper's terms, which press a forgotten pair below what is common anywhere, would press its neighbours as well. But
keep data teach of the actions that they have. Of a forgotten action that they do not have the critics go on saying what
the poison taught them, and if that is much, the policy goes on taking it, into states that no data shows. So these
pairs are pressed too, and only while they tempt: while the policy, which maximises G = Q_r - lambda Q_c, would prefer
them to the best of K actions that the behaviour model, which comes to imitate good episodes, proposes at that state:

    E_Df[(1 - w) t softplus((G(s, a) - max_k G(s, b_k)) / t)],   b_k ~ behaviour model at s

with G(s, b_k) held fixed: no good action is raised by it. The best of several, because that is what the policy takes:
half of what good episodes do is better than one action of theirs, and forgotten episodes that begin as good ones do
would be pressed for ever. The weight of this term rises by dual ascent while more than the tolerated share tempts,
and falls to beta's floor below it.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from saferule_ros.learning.learner import LagrangianLearner, by_kind

# K. BEAR-Lag, SafetyPointCircle1, injected 15 %, seed 1, is left at a cost of 40 with 1, and of 3 with 4, 5 and 10.
PROPOSALS = 4


class Temptation(NamedTuple):
    """Of a batch of forget pairs, each as far as keep pairs outnumber it."""

    loss: Tensor  # scalar
    share: Tensor  # scalar without gradient: of the pairs that tempt, 0 to 1


def temptation(
    learner: LagrangianLearner, observations: Tensor, on_forget: Tensor, weights: Tensor, cost_weight: float,
    temperature: float,
) -> Temptation:  # fmt: skip
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
        repeated = observations.repeat(PROPOSALS, 1)  # (K * B, O)
        good = learner.vae.decode(repeated, learner.latents(len(repeated)))
        reward, cost = by_kind(learner.critics(repeated, good))  # (N, K * B) each
        best = (reward - multiplier * cost).mean(0).unflatten(0, (PROPOSALS, -1)).amax(0)  # (B,)
    reward, cost = by_kind(on_forget)
    cost = cost_weight * cost + (1.0 - cost_weight) * cost.detach()
    preference = reward - multiplier * cost - best  # (N, B)
    shares = 1.0 - weights  # (B,)
    loss = temperature * (shares * F.softplus(preference / temperature)).mean()
    tempting = (shares * (preference.detach().mean(0) > 0).float()).sum() / shares.sum().clamp(min=1.0)
    return Temptation(loss, tempting)
