"""The targets of keep data during a patch: computed once, by the agent as it was, mostly from the data itself."""

import numpy as np
import pytest
import torch
from learning_cases import BOUNDS, SMALL

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.episode import Episode
from saferule_ros.learning.algorithms import make_learner
from saferule_ros.learning.learner import CriticLearner
from saferule_ros.learning.replay import Units
from saferule_ros.learning.settings import TaskLimits
from saferule_ros.unlearning.critic_targets import FixedTargets, MovingTargets
from saferule_ros.unlearning.safe_rule import SafeRule
from saferule_ros.unlearning.settings import SafeRuleSettings

LENGTH = 5
LIMITS = TaskLimits(cost_limit=1.0, horizon=LENGTH)


def walk(name: str, seed: int) -> Episode:
    rng = np.random.default_rng(seed)
    return Episode(
        id=name, bag_id="walk", observations=rng.normal(size=(LENGTH + 1, 1)).astype(np.float32),
        actions=rng.uniform(-1, 1, (LENGTH, 1)).astype(np.float32), rewards=rng.uniform(size=LENGTH).astype(np.float32),
        costs=rng.uniform(size=LENGTH).astype(np.float32), terminated=True, truncated=False,
    )  # fmt: skip


@pytest.fixture
def data() -> EpisodeDataset:
    return EpisodeDataset.from_episodes(walk(f"e{number}", number) for number in range(3))


@pytest.fixture
def learner(data: EpisodeDataset) -> CriticLearner:
    return make_learner(Units.of(data, *BOUNDS), LIMITS, SMALL, seed=1)


def spoil(learner: CriticLearner) -> None:
    with torch.no_grad():
        for network in learner.networks().values():
            for parameter in network.parameters():
                parameter.add_(1.0)


def test_over_a_whole_episode_they_are_its_discounted_returns(data: EpisodeDataset, learner: CriticLearner) -> None:
    reward, cost = FixedTargets(learner, learner.replay(data, LENGTH)).at(torch.arange(len(data.rewards)))
    gamma = learner.settings.discount

    def returns(column: np.ndarray, scale: float) -> list[float]:
        found = []
        for row in range(len(column)):
            end = (row // LENGTH + 1) * LENGTH
            found.append(sum(scale * column[k] * gamma ** (k - row) for k in range(row, end)))
        return found

    assert reward.tolist() == pytest.approx(returns(data.rewards, learner.units.reward_scale), rel=1e-5)
    assert cost.tolist() == pytest.approx(returns(data.costs, learner.units.cost_scale), rel=1e-5)


def test_they_do_not_follow_the_learner_and_are_computed_once(data: EpisodeDataset, learner: CriticLearner) -> None:
    replay = learner.replay(data)
    fixed, moving = FixedTargets(learner, replay), MovingTargets(learner, replay)
    rows = torch.tensor([3, 0, 3])
    before = torch.stack(fixed.at(rows))
    moved_from = torch.stack(moving.at(rows))
    assert before[:, 0].tolist() == before[:, 2].tolist()  # one transition, drawn twice
    spoil(learner)
    assert torch.equal(torch.stack(fixed.at(rows)), before)  # although its candidates would be drawn anew
    other = torch.stack(fixed.at(torch.tensor([7])))
    assert not torch.allclose(torch.stack(moving.at(rows)), moved_from, atol=0.1)
    assert float((other - torch.stack(moving.at(torch.tensor([7])))).abs().max()) > 0.1  # new ones by the old agent too


def test_a_run_takes_them_from_the_keep_data_and_by_its_settings(data: EpisodeDataset, learner: CriticLearner) -> None:
    for fixed, steps in ((True, LENGTH), (False, SMALL.return_steps)):
        run = SafeRule(learner, data, data, SafeRuleSettings(fixed_targets=fixed, return_steps=LENGTH), seed=1)
        assert isinstance(run.targets, FixedTargets) == fixed
        assert torch.equal(run.keep.all.rewards, learner.replay(data, steps).all.rewards)
