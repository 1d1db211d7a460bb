from dataclasses import replace

import numpy as np
import pytest
import torch
from actor_cases import answering
from learning_cases import BOUNDS, SMALL, bandit, learner_for

from saferule_ros.learning.bcq_lag import BcqPolicy
from saferule_ros.learning.learner import Values
from saferule_ros.learning.proposals import Candidates
from saferule_ros.learning.replay import Batch, Replay
from saferule_ros.learning.settings import TaskLimits
from saferule_ros.learning.trainer import train


def one_transition(discount: float) -> Batch:
    zero = torch.zeros(1, 1)
    return Batch(zero, zero, torch.tensor([2.0]), torch.tensor([3.0]), zero, *[torch.tensor([discount])] * 2)


def test_targets_bootstrap_the_soft_minimum_reward_and_the_larger_cost():
    learner = learner_for(bandit())
    answering(learner.critics_target, [10.0, 20.0, 30.0, 40.0])
    reward, cost = learner.critic_targets(one_transition(discount=0.5))
    assert reward.item() == pytest.approx(2.0 + 0.5 * (0.75 * 10.0 + 0.25 * 20.0))
    assert cost.item() == pytest.approx(3.0 + 0.5 * 40.0)


def test_termination_stops_bootstrapping_and_truncation_does_not():
    dataset = bandit(episodes=2)
    learner = learner_for(dataset)
    terminated = Replay(dataset, learner.units, discount=0.9).all.discounts
    cut = replace(dataset, terminated=np.zeros_like(dataset.terminated))  # the same, cut by a time limit
    truncated = Replay(cut, learner.units, discount=0.9).all.discounts
    assert terminated.tolist() == [0.0, 0.0]
    assert truncated.tolist() == pytest.approx([0.9, 0.9])


def test_score_is_the_normalised_lagrangian():
    learner = learner_for(bandit())
    learner.hold_multiplier(3.0)
    assert learner.policy().score(Values(torch.tensor([8.0]), torch.tensor([1.0]))).item() == pytest.approx(5.0 / 4.0)


def test_actor_loss_is_the_negative_of_the_normalised_lagrangian():
    """Of twin critics the soft minimum of rewards and the larger cost count."""
    learner = learner_for(bandit())
    learner.hold_multiplier(2.0)
    answering(learner.critics, [8.0, 9.0, 1.0, 1.5])
    loss = learner.actor_loss(torch.zeros(5, 1))
    assert loss.item() == pytest.approx(-((0.75 * 8.0 + 0.25 * 9.0) - 2.0 * 1.5) / 3.0, rel=1e-5)


def test_the_actor_moves_given_proposals_to_where_they_score_more():
    learner = learner_for(bandit())
    learner.hold_multiplier(2.0)
    observations = torch.zeros(64, 1)
    proposed = learner.vae.decode(observations, learner.latents(64)).detach()

    def scored() -> float:
        moved = learner.actor(observations, proposed)
        return learner.policy().score(learner.values(learner.critics(observations, moved))).mean().item()

    before = scored()
    for _ in range(10):
        learner.descend("actor", learner.actor_loss(observations))
    assert scored() > before + 1e-4


def test_best_takes_the_candidate_with_the_largest_score():
    learner = learner_for(bandit())
    learner.hold_multiplier(1.0)
    actions = torch.tensor([[[0.1], [0.2], [0.3]], [[0.4], [0.5], [0.6]]])  # (2, 3, 1)
    reward = torch.tensor([[1.0, 5.0, 9.0], [2.0, 2.0, 2.0]])
    cost = torch.tensor([[0.0, 1.0, 9.0], [3.0, 2.0, 1.0]])
    chosen = learner.policy().best(Candidates(actions, Values(reward, cost)))  # (2, 1)
    assert chosen.flatten().tolist() == pytest.approx([0.2, 0.6])


def test_reward_target_is_of_the_best_and_cost_target_of_the_costliest_candidate(monkeypatch):
    """Candidate 0 scores best (10 - 2), candidate 1 has more reward and more cost."""
    learner = learner_for(bandit())
    learner.hold_multiplier(1.0)
    following = Candidates(torch.zeros(1, 2, 1), Values(torch.tensor([[10.0, 20.0]]), torch.tensor([[2.0, 30.0]])))
    monkeypatch.setattr(BcqPolicy, "candidates", lambda *_: following)
    reward, cost = learner.critic_targets(one_transition(discount=0.5))
    assert reward.item() == pytest.approx(2.0 + 0.5 * 10.0)
    assert cost.item() == pytest.approx(3.0 + 0.5 * 30.0)


def test_candidates_of_one_observation_stand_together():
    learner = learner_for(bandit())
    observations, latents = torch.tensor([[0.0], [1.0]]), torch.randn(2 * 3, 2)
    proposed = learner.policy().candidates(observations, latents)
    for row in range(2):
        for k in range(3):
            decoded = learner.vae.decode(observations[row : row + 1], latents[3 * row + k : 3 * row + k + 1])
            torch.testing.assert_close(proposed.actions[row, k], learner.actor(observations[row : row + 1], decoded)[0])


@pytest.mark.parametrize(("discount", "expected"), [(0.98, 2.5), (0.5, 0.1)])
def test_cost_value_limit_is_the_closed_form_of_evenly_spread_cost(discount, expected):
    """25 cost units spread over 500 steps are 0.05 a step; discounted that is their geometric sum."""
    limits = TaskLimits(cost_limit=25.0, horizon=500)
    geometric = sum(0.05 * discount**t for t in range(500))
    assert limits.cost_value_limit(discount) == pytest.approx(geometric)
    assert limits.cost_value_limit(discount) == pytest.approx(expected, rel=1e-3)


def test_multiplier_stops_at_its_cap_and_comes_down_without_delay():
    dataset = bandit()
    controlled = {"multiplier_start": 0.0, "multiplier_cap": 0.4, "multiplier_integral": 0.01}
    learner = learner_for(dataset, SMALL.model_copy(update=controlled))
    replay = Replay(dataset, learner.units, 0.98)
    for parameter in learner.critics.parameters():
        parameter.data.zero_()
    learner.critics.value.bias.data[2:] = 10.0  # every action looks far too costly
    for _ in range(100):
        learner.multiplier.update(learner.excess_cost(replay))
    assert learner.multiplier.value == 0.4
    learner.critics.value.bias.data[2:] = -10.0  # and now far below the limit
    learner.multiplier.update(learner.excess_cost(replay))
    assert learner.multiplier.value < 0.4  # a wound-up integral would stay at the cap


def test_constraint_turns_the_greedy_action_into_the_safe_one():
    """Reward a + 1, cost 1 if a > 0: unconstrained the best action is +1, with limit 0.1 it is not positive."""
    dataset = bandit()
    unconstrained = SMALL.model_copy(update={"multiplier_start": 0.0})
    constrained = SMALL.model_copy(update={"multiplier_start": 3.0, "multiplier_cap": 5.0})
    actions = []
    for settings in (unconstrained, constrained):
        learner = train(dataset, TaskLimits(cost_limit=0.1, horizon=1), settings, BOUNDS, steps=800, seed=1)
        actions.append(learner.act(torch.zeros(1, 1)).item())
    assert actions[0] > 0.3
    assert actions[1] <= 0.0


def test_critics_learn_the_known_values_of_the_bandit():
    dataset = bandit()
    learner = train(dataset, TaskLimits(cost_limit=0.1, horizon=1), SMALL, BOUNDS, steps=800, seed=2)
    actions = torch.tensor([[-0.8], [-0.4], [0.4], [0.8]])
    predicted = learner.critics(torch.zeros(4, 1), actions).detach()
    expected_reward = (actions[:, 0] + 1.0) * learner.units.reward_scale
    torch.testing.assert_close(predicted[:2].mean(0), expected_reward, atol=0.1, rtol=0.0)
    torch.testing.assert_close(predicted[2:].mean(0), torch.tensor([0.0, 0.0, 1.0, 1.0]), atol=0.15, rtol=0.0)


def test_same_seed_gives_the_same_learner_and_another_seed_another():
    dataset = bandit(episodes=50)
    limits = TaskLimits(cost_limit=0.1, horizon=1)
    first, second, other = (train(dataset, limits, SMALL, BOUNDS, steps=20, seed=seed) for seed in (5, 5, 6))
    weights = [
        torch.cat([parameter.flatten() for parameter in learner.critics.parameters()]).detach().numpy()
        for learner in (first, second, other)
    ]
    assert np.array_equal(weights[0], weights[1])
    assert not np.array_equal(weights[0], weights[2])
