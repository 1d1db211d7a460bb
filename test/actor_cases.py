"""BEAR-Lag and CPQ on the decision problems of learning_cases.py."""

from collections.abc import Mapping
from typing import Any

import torch
from learning_cases import BOUNDS

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.learning.algorithms import make_learner
from saferule_ros.learning.learner import ActorCriticLearner
from saferule_ros.learning.replay import Batch, Units
from saferule_ros.learning.settings import BearLagSettings, CpqSettings, TaskLimits

SMALL: Mapping[str, Any] = {
    "hidden": 32, "vae_hidden": 32, "batch": 128, "learning_rate": 3e-3, "target_rate": 0.05,
}  # fmt: skip
# About half the action range away from the behaviour's mean, which is zero.
BEAR = BearLagSettings(**SMALL, alpha_start=10.0, mmd_threshold=0.1)
# A cost of the bandit is 0 or 1, not a sum over many steps.
CPQ = CpqSettings(
    **SMALL, actor_learning_rate=3e-3, imitation_steps=0, mask_temperature=0.05, recovery_weight=10.0, kappa_factor=3.0,
    familiarity_weight=20.0,
)  # fmt: skip


def learner_for(
    dataset: EpisodeDataset, settings: BearLagSettings | CpqSettings, limit: float = 0.1, horizon: int = 1
) -> Any:
    """An untrained learner whose units fit the dataset."""
    limits = TaskLimits(cost_limit=limit, horizon=horizon)
    return make_learner(Units.of(dataset, *BOUNDS), limits, settings, seed=0)


def one_transition(discount: float) -> Batch:
    zero = torch.zeros(1, 1)
    return Batch(zero, zero, torch.tensor([2.0]), torch.tensor([3.0]), zero, *[torch.tensor([discount])] * 2)


def answering(critics: torch.nn.Module, values: list[float]) -> None:
    """Lets critics answer with constants, whatever they are asked."""
    for parameter in critics.parameters():
        parameter.data.zero_()
    critics.value.bias.data = torch.tensor(values).view(len(values), 1, 1)


def steps(learner: ActorCriticLearner, dataset: EpisodeDataset, count: int) -> None:
    replay = learner.replay(dataset)
    for _ in range(count):
        losses = learner.update(replay.sample(learner.settings.batch, learner.generator), replay)
        learner.steps_done += 1
        assert not any(isinstance(loss, torch.Tensor) and loss.requires_grad for loss in losses.values())


def weights(learner: ActorCriticLearner) -> torch.Tensor:
    """All networks' parameters, one after the other."""
    return torch.cat([p.detach().flatten() for network in learner.networks().values() for p in network.parameters()])
