"""COptiDICE on the decision problems of learning_cases.py."""

import numpy as np
import torch
from learning_cases import BOUNDS

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.learning.copti_dice import CoptiDice, inverse_slope
from saferule_ros.learning.replay import Units
from saferule_ros.learning.settings import CoptiDiceSettings, TaskLimits
from saferule_ros.learning.trainer import train

QUICK = CoptiDiceSettings(
    hidden=32, batch=128, learning_rate=3e-3, target_rate=0.05, discount=0.5, alpha=0.2, initial_states=4,
    multiplier_integral=0.02, jitter=0.0,
)  # fmt: skip


def learner_for(dataset: EpisodeDataset, limit: float = 0.1, horizon: int = 1, **changes) -> CoptiDice:
    settings = QUICK.model_copy(update=changes)
    return CoptiDice(Units.of(dataset, *BOUNDS), TaskLimits(cost_limit=limit, horizon=horizon), settings, seed=0)


def trained(dataset: EpisodeDataset, steps: int, limit: float = 0.1, seed: int = 1, **changes) -> CoptiDice:
    settings = QUICK.model_copy(update=changes)
    learner = train(dataset, TaskLimits(cost_limit=limit, horizon=1), settings, BOUNDS, steps, seed)
    assert isinstance(learner, CoptiDice)
    return learner


def optimum_of_the_bandit(
    dataset: EpisodeDataset, discount: float, alpha: float, limit: float, reward_scale: float
) -> tuple[float, float]:
    """nu and lambda of the one state, by bisection: E[w] = 1 - gamma and E[w c] = (1 - gamma) limit."""
    rewards, costs = (torch.from_numpy(np.array(c)).double() for c in (dataset.rewards, dataset.costs))
    rewards = rewards * reward_scale

    def weights(nu: float, multiplier: float) -> torch.Tensor:
        return inverse_slope((rewards - multiplier * costs - nu) / alpha)

    def root(function, low: float, high: float) -> float:
        for _ in range(100):
            middle = (low + high) / 2
            low, high = (middle, high) if function(middle) > 0 else (low, middle)
        return low

    def nu_at(multiplier: float) -> float:
        return root(lambda nu: weights(nu, multiplier).mean().item() - (1 - discount), -50.0, 50.0)

    def excess(multiplier: float) -> float:
        return (weights(nu_at(multiplier), multiplier) * costs).mean().item() - (1 - discount) * limit

    best = root(excess, 0.0, 50.0)
    return nu_at(best), best
