import numpy as np
import pytest
import torch
from learning_cases import SMALL, bandit, learner_for

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.episode import Episode
from saferule_ros.learning.replay import Units
from saferule_ros.learning.serving_policy import ServingPolicy


def test_serving_policy_takes_and_gives_raw_units():
    dataset = bandit(episodes=50)
    learner = learner_for(dataset)
    learner.units = learner.units._replace(
        observation_mean=torch.tensor([3.0]), observation_std=torch.tensor([2.0]),
        action_low=torch.tensor([10.0]), action_high=torch.tensor([30.0]),
    )  # fmt: skip
    raw = torch.tensor([[1.0], [3.0], [9.0]])
    expected = 20.0 + 10.0 * learner.act((raw - 3.0) / 2.0)
    torch.testing.assert_close(ServingPolicy(learner)(raw), expected)


def test_serving_policy_has_no_randomness():
    policy = ServingPolicy(learner_for(bandit(episodes=50)))
    observations = torch.zeros(4, 1)
    first = policy(observations)
    torch.manual_seed(99)
    assert torch.equal(policy(observations), first)


def test_units_scale_rewards_to_mean_magnitude_one_and_leave_constant_dimensions_alone():
    observations = np.array([[0.0, 5.0], [2.0, 5.0], [4.0, 5.0]], np.float32)
    episode = Episode(
        id="e", bag_id="", observations=observations, actions=np.zeros((2, 1), np.float32),
        rewards=np.array([-4.0, 2.0], np.float32), costs=np.zeros(2, np.float32), terminated=False, truncated=True,
    )  # fmt: skip
    dataset = EpisodeDataset.from_episodes([episode])
    units = Units.of(dataset, np.array([-1.0]), np.array([1.0]))
    assert units.reward_scale == pytest.approx(1.0 / 3.0)
    assert units.observation_std.tolist() == pytest.approx([1.0, 1.0])  # spread of 0, 2 is 1; constant: left at 1
    assert units.observations(torch.tensor([3.0, 5.0])).tolist() == pytest.approx([2.0, 0.0])


def test_a_start_above_the_cap_of_lambda_is_refused():
    with pytest.raises(ValueError, match="multiplier_start 5"):
        type(SMALL)(multiplier_start=5.0, multiplier_cap=1.0)
