"""What holds for BEAR-Lag and CPQ alike: resuming, seeds, serving, naming."""

import json

import numpy as np
import pytest
import torch
from actor_cases import BEAR, CPQ, learner_for, steps, weights
from learning_cases import BOUNDS, bandit

from saferule_ros.learning.algorithms import settings_from
from saferule_ros.learning.checkpoint import load_checkpoint, save_checkpoint
from saferule_ros.learning.serving_policy import ServingPolicy
from saferule_ros.learning.settings import TaskLimits
from saferule_ros.learning.trainer import train

# With all that changes while learning: alpha and lambda move.
MOVING = {"alpha_rate": 0.1, "alpha_start": 0.05}
BOTH = [
    pytest.param(BEAR.model_copy(update=MOVING | {"multiplier_integral": 0.05}), id="bear_lag"),
    pytest.param(CPQ.model_copy(update=MOVING | {"imitation_steps": 8}), id="cpq"),
]


@pytest.mark.parametrize("settings", BOTH)
def test_resumed_learning_is_bit_equal_to_not_having_stopped(settings, tmp_path):
    dataset = bandit(episodes=50)
    straight, stopped = learner_for(dataset, settings), learner_for(dataset, settings)
    fresh = straight.state()
    steps(straight, dataset, 14)
    steps(stopped, dataset, 6)
    resumed, _ = load_checkpoint(tmp_path / save_checkpoint(stopped, tmp_path, dataset.digest))
    steps(resumed, dataset, 8)
    assert torch.equal(weights(resumed), weights(straight))
    assert (resumed.state(), resumed.steps_done) == (straight.state(), straight.steps_done)
    assert torch.equal(resumed.generator.get_state(), straight.generator.get_state())
    assert straight.state()["alpha"] != fresh["alpha"]  # otherwise its place in the checkpoint proves nothing


@pytest.mark.parametrize("settings", BOTH)
def test_what_is_served_is_what_acts(settings):
    learner = learner_for(bandit(episodes=50), settings)
    learner.units = learner.units._replace(
        observation_mean=torch.tensor([3.0]), observation_std=torch.tensor([2.0]),
        action_low=torch.tensor([10.0]), action_high=torch.tensor([30.0]),
    )  # fmt: skip
    raw = torch.tensor([[1.0], [3.0], [9.0]])
    served = ServingPolicy(learner)(raw)
    torch.testing.assert_close(served, 20.0 + 10.0 * learner.act((raw - 3.0) / 2.0))
    torch.manual_seed(99)
    assert torch.equal(ServingPolicy(learner)(raw), served)  # no randomness


@pytest.mark.parametrize("settings", BOTH)
def test_same_seed_gives_the_same_learner_and_another_seed_another(settings):
    dataset = bandit(episodes=50)
    limits = TaskLimits(cost_limit=0.1, horizon=1)
    first, second, other = (weights(train(dataset, limits, settings, BOUNDS, 12, seed)) for seed in (5, 5, 6))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("settings", BOTH)
def test_settings_come_back_from_json_by_the_name_of_the_algorithm(settings):
    assert settings_from(json.loads(settings.model_dump_json())) == settings
