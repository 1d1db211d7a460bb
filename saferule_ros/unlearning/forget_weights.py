"""How much of each forget pair is to be pressed out of the critics: what D_k does not teach there by itself. [ours]

A forgotten episode begins like any other, and an attacker may poison steps among states that good episodes visit, too.
There the keep data say what is to be done, critics and behaviour model learn it from them, and to press the values of a
forgotten pair is to press those of its neighbours. With d_f and d_k the densities of forget and keep states, N_f and
N_k their numbers,

    w(s) = max(0, 1 - m N_k d_k(s) / (N_f d_f(s)))

is the share of the forget pairs at s that keep pairs do not outnumber, where m of these outweigh one of those. The
ratio d_f / d_k is that of a classifier: a small network that tells states of D_f from states of D_k.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from saferule_ros.learning.adam import Adam
from saferule_ros.learning.flops import FlopCounter
from saferule_ros.learning.networks import StateFunction
from saferule_ros.learning.replay import Replay, drawn

# Of the classifier: two sets of states that differ in whole regions are told apart long before the last step, and those
# that do not differ are not learned by heart in so few. About a second on one core.
HIDDEN, STEPS, BATCH, RATE, DECAY = 64, 400, 512, 2e-3, 1e-3


class ForgetWeights(NamedTuple):
    """What came out, and what it took."""

    weights: Tensor  # w (N_f,) of each forget pair, 0 to 1
    flops: float


def forget_weights(forget: Replay, keep: Replay, outweigh: float, seed: int) -> ForgetWeights:
    """How much each forget pair counts.

    Args:
        outweigh: m; 0: all count in full.
        seed: of the classifier and its batches.
    """
    if outweigh == 0.0:
        return ForgetWeights(torch.ones(forget.size, device=forget.all.rewards.device), 0.0)
    states = forget.all.observations
    log_ratio, flops = log_density_ratio(states, keep.all.observations, states, seed)  # (N_f,)
    outnumbered = outweigh * keep.size / forget.size * torch.exp(-log_ratio)
    return ForgetWeights((1.0 - outnumbered).clamp(min=0.0), flops)


def log_density_ratio(of_forget: Tensor, of_keep: Tensor, at: Tensor, seed: int) -> tuple[Tensor, float]:
    """ln d_f / d_k (N,) at some points, without gradient, and the FLOPs that learning it took.

    Args:
        of_forget, of_keep: (N_f, X) and (N_k, X), standard scores, drawn from d_f and d_k.
        at: (N, X) the points.
        seed: of the classifier and its batches.
    """
    device = of_forget.device
    generator = torch.Generator(device).manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        classifier = StateFunction(of_forget.shape[1], HIDDEN).to(device)
    optimiser = Adam(classifier.parameters(), RATE, DECAY)

    def step() -> None:
        forget, keep = (classifier(drawn(points, BATCH, generator)) for points in (of_forget, of_keep))
        optimiser.zero_grad()
        (F.softplus(-forget).mean() + F.softplus(keep).mean()).backward()  # logistic regression
        optimiser.step()

    with FlopCounter() as counter:
        step()
    for _ in range(STEPS - 1):
        step()
    with torch.no_grad():
        return classifier(at), STEPS * counter.total
