import math

import numpy as np
import pytest
import torch
from actor_cases import BEAR, answering, learner_for, one_transition
from learning_cases import BOUNDS, bandit

from saferule_ros.learning.bear_lag import MMD_FLOOR, mmd
from saferule_ros.learning.learner import Values
from saferule_ros.learning.replay import Replay
from saferule_ros.learning.settings import TaskLimits
from saferule_ros.learning.trainer import train


@pytest.mark.parametrize(("kernel", "distance"), [("gaussian", 0.3**2 + 0.4**2), ("laplacian", 0.3 + 0.4)])
def test_mmd_of_two_points_is_its_closed_form(kernel, distance):
    """k(x, x) - 2 k(x, y) + k(y, y) with k = exp(-d / (2 sigma))."""
    one, other = torch.tensor([[[0.0, 0.1]]]), torch.tensor([[[0.3, 0.5]]])  # (1, 1, 2)
    expected = math.sqrt(2.0 - 2.0 * math.exp(-distance / (2.0 * 0.7)) + MMD_FLOOR)
    assert mmd(one, other, kernel, 0.7).item() == pytest.approx(expected, rel=1e-5)


def test_mmd_is_taken_per_observation_over_all_pairs_of_samples():
    ones, others = torch.rand(3, 5, 2).double(), torch.rand(4, 5, 2).double()  # 3 and 4 actions at 5 observations

    def mean_similarity(left, right):
        return torch.stack([(-(a - b).square().sum(-1) / (2 * 0.2)).exp() for a in left for b in right]).mean(0)

    squared = mean_similarity(ones, ones) - 2 * mean_similarity(ones, others) + mean_similarity(others, others)
    torch.testing.assert_close(mmd(ones, others, "gaussian", 0.2), (squared + MMD_FLOOR).sqrt())


def test_mmd_keeps_its_digits_with_a_wide_kernel():
    """Close sets and a wide kernel: single precision is as good as double, with gradient and without NaN."""
    ones = torch.rand(10, 20, 2)
    others = (ones + 0.02).requires_grad_()
    single, double = mmd(ones, others, "gaussian", 50.0), mmd(ones.double(), others.double(), "gaussian", 50.0)
    torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=0.0)
    mmd(ones, ones.clone().requires_grad_(), "gaussian", 50.0).sum().backward()
    assert mmd(ones, ones, "laplacian", 50.0).tolist() == pytest.approx([math.sqrt(MMD_FLOOR)] * 20)


def test_mmd_gradient_matches_finite_differences():
    ones, others = torch.rand(3, 2, 2).double(), torch.rand(3, 2, 2).double().requires_grad_()
    for kernel in ("gaussian", "laplacian"):
        assert torch.autograd.gradcheck(lambda x, kernel=kernel: mmd(ones, x, kernel, 0.5), (others,))


def test_targets_bootstrap_the_soft_minimum_reward_and_the_larger_cost():
    learner = learner_for(bandit(episodes=2), BEAR)
    answering(learner.critics_target, [10.0, 20.0, 30.0, 40.0])
    reward, cost = learner.critic_targets(one_transition(discount=0.5))
    assert reward.item() == pytest.approx(2.0 + 0.5 * (0.75 * 10.0 + 0.25 * 20.0))
    assert cost.item() == pytest.approx(3.0 + 0.5 * 40.0)  # the minimum would be optimistic about danger


def test_terminated_transitions_bootstrap_neither_reward_nor_cost():
    learner = learner_for(bandit(episodes=2), BEAR)
    answering(learner.critics_target, [10.0, 20.0, 30.0, 40.0])
    reward, cost = learner.critic_targets(one_transition(discount=0.0))
    assert (reward.item(), cost.item()) == (2.0, 3.0)


def test_reward_target_is_of_the_best_and_cost_target_of_the_costliest_sample(monkeypatch):
    """Sample 0 scores best (10 - 2), sample 1 has more reward and more cost."""
    learner = learner_for(bandit(episodes=2), BEAR)
    learner.hold_multiplier(1.0)
    following = Values(torch.tensor([[10.0], [20.0]]), torch.tensor([[2.0], [30.0]]))  # (2, 1)
    monkeypatch.setattr(learner, "soft_values", lambda _: following)
    reward, cost = learner.critic_targets(one_transition(discount=0.5))
    assert reward.item() == pytest.approx(2.0 + 0.5 * 10.0)
    assert cost.item() == pytest.approx(3.0 + 0.5 * 30.0)


def test_samples_of_one_observation_stay_together():
    """Rows of the batch are told apart by what the critics say about their observation."""
    learner = learner_for(bandit(episodes=2), BEAR)
    learner.critics_target.forward = lambda observations, actions: observations.squeeze(1).expand(4, -1)
    batch = one_transition(discount=1.0)
    batch = type(batch)(*(column.repeat(3, *[1] * (column.dim() - 1)) for column in batch))
    batch = batch._replace(next_observations=torch.tensor([[1.0], [2.0], [3.0]]))
    reward, cost = learner.critic_targets(batch)
    assert reward.tolist() == pytest.approx([3.0, 4.0, 5.0])
    assert cost.tolist() == pytest.approx([4.0, 5.0, 6.0])


def test_actor_loss_is_the_normalised_lagrangian_and_the_weighted_excess_of_the_mmd(monkeypatch):
    learner = learner_for(bandit(episodes=2), BEAR.model_copy(update={"alpha_start": 3.0, "mmd_threshold": 0.25}))
    learner.hold_multiplier(2.0)
    answering(learner.critics, [8.0, 9.0, 1.0, 1.5])
    monkeypatch.setattr("saferule_ros.learning.bear_lag.mmd", lambda *_: torch.full((5,), 0.65))
    loss = learner.actor_loss(torch.zeros(5, 1))
    assert loss.item() == pytest.approx(-(8.0 - 2.0 * 1.5) / 3.0 + 3.0 * (0.65 - 0.25))


def test_the_weight_of_the_mmd_rises_while_the_policy_is_too_far_and_falls_when_it_is_near():
    for threshold, rises in ((0.0, True), (10.0, False)):
        learner = learner_for(bandit(episodes=2), BEAR.model_copy(update={"mmd_threshold": threshold}))
        before = learner.closeness.value.item()
        learner.actor_loss(torch.zeros(8, 1))
        learner.update_weights()
        assert (learner.closeness.value.item() > before) == rises


def test_the_mmd_draws_the_policy_to_the_behaviour():
    """Behaviour is around 0.6 and rewards say +1: with a tight threshold the policy stays, with a loose one it goes."""
    dataset = bandit(low=0.5, high=0.7)
    modes = {}
    for threshold in (0.01, 10.0):
        settings = BEAR.model_copy(update={"mmd_threshold": threshold, "alpha_start": 20.0, "multiplier_start": 0.0})
        learner = train(dataset, TaskLimits(cost_limit=2.0, horizon=1), settings, BOUNDS, steps=300, seed=1)
        modes[threshold] = learner.act(torch.zeros(1, 1)).item()
    assert modes[0.01] == pytest.approx(0.6, abs=0.15)
    assert modes[10.0] > 0.9


def test_multiplier_stops_at_its_cap_and_comes_down_without_delay():
    dataset = bandit()
    controlled = {"multiplier_start": 0.0, "multiplier_cap": 0.4, "multiplier_integral": 0.01}
    learner = learner_for(dataset, BEAR.model_copy(update=controlled))
    replay = Replay(dataset, learner.units, 0.98)
    answering(learner.critics, [0.0, 0.0, 10.0, 10.0])  # every action looks far too costly
    for _ in range(100):
        learner.multiplier.update(learner.excess_cost(replay))
    assert learner.multiplier.value == 0.4
    answering(learner.critics, [0.0, 0.0, -10.0, -10.0])
    learner.multiplier.update(learner.excess_cost(replay))
    assert learner.multiplier.value < 0.4  # a wound-up integral would stay at the cap


def test_constraint_turns_the_greedy_action_into_the_safe_one():
    """Reward a + 1, cost 1 if a > 0: unconstrained the best action is +1, with limit 0.1 it is not positive."""
    dataset = bandit()
    actions = []
    for multiplier in (0.0, 3.0):
        settings = BEAR.model_copy(update={"multiplier_start": multiplier})
        learner = train(dataset, TaskLimits(cost_limit=0.1, horizon=1), settings, BOUNDS, steps=400, seed=1)
        actions.append(learner.act(torch.zeros(1, 1)).item())
    assert actions[0] > 0.3
    assert actions[1] <= 0.0


def test_kernels_of_other_names_are_refused():
    with pytest.raises(ValueError, match="kernel"):
        type(BEAR)(kernel="linear")


def test_served_actions_are_within_bounds_for_any_observation():
    learner = learner_for(bandit(episodes=5), BEAR)
    wild = torch.as_tensor(np.array([[-1e6], [0.0], [1e6]], np.float32))
    assert learner.act(wild).abs().max() <= 1.0
