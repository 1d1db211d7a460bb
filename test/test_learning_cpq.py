import numpy as np
import pytest
import torch
from actor_cases import CPQ, answering, learner_for, one_transition
from learning_cases import BOUNDS, bandit

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.episode import Episode
from saferule_ros.learning.networks import EnsembleCritic
from saferule_ros.learning.replay import Replay
from saferule_ros.learning.settings import TaskLimits
from saferule_ros.learning.trainer import train

HARD = CPQ.model_copy(update={"mask_temperature": 0.0})


def cpq(settings=CPQ, **changes):
    return learner_for(bandit(episodes=50), settings.model_copy(update=changes))


def sample(learner, count=64):
    dataset = bandit(episodes=50)
    return Replay(dataset, learner.units, 0.5).sample(count, learner.generator)


def all_unfamiliar(learner):
    """Every action tried counts as unlike the behaviour; returns what undoes nothing: the divergence is constant."""
    answers = iter([torch.zeros(1), torch.ones(1)])  # the data's own, then those tried
    learner.divergence = lambda observations, actions: next(answers).expand(len(actions))


def test_the_threshold_is_the_cost_value_limit_times_its_factor():
    learner = learner_for(bandit(episodes=5), CPQ.model_copy(update={"kappa_factor": 3.0}), limit=25.0, horizon=500)
    assert learner.threshold == pytest.approx(3.0 * 2.5, rel=1e-3)


@pytest.mark.parametrize(("cost", "reward"), [(0.2, 2.0 + 0.5 * 10.0), (0.4, 2.0)])
def test_reward_is_bootstrapped_where_the_next_cost_is_allowed_and_cost_always(cost, reward):
    """Threshold 0.3. The larger of the twin costs decides, the smaller of the twin rewards counts."""
    learner = cpq(HARD)
    answering(learner.critics_target, [10.0, 20.0, 0.1, cost])
    targets = learner.critic_targets(one_transition(discount=0.5))
    assert targets[0].item() == pytest.approx(reward)
    assert targets[1].item() == pytest.approx(3.0 + 0.5 * cost)


def test_over_several_steps_of_a_log_reward_counts_while_the_logged_actions_are_allowed_and_cost_always():
    """Two steps each, of rewards 1 and 10; the critics call positive actions costly, so the second step's reward is
    lost where its action is positive. The first action's own cost is no matter of its reward."""
    steps = [((-0.5, -0.5), 1.0 + 0.5 * 10.0), ((-0.5, 0.5), 1.0), ((0.5, -0.5), 1.0 + 0.5 * 10.0), ((0.5, 0.5), 1.0)]
    dataset = EpisodeDataset.from_episodes(
        Episode(
            id=f"e{k}", bag_id="e", observations=np.zeros((3, 1), np.float32),
            actions=np.array(actions, np.float32)[:, None], rewards=np.array([1.0, 10.0], np.float32),
            costs=np.array([0.0, 1.0], np.float32), terminated=False, truncated=True,
        )
        for k, (actions, _) in enumerate(steps)
    )  # fmt: skip
    learner = cpq(HARD, discount=0.5, return_steps=1)
    learner.critics_target = lambda _, actions: torch.cat([torch.zeros(2, len(actions)), 99.0 * actions.T, actions.T])
    batch = learner.replay(dataset, 2).all
    scale = learner.units.reward_scale
    assert batch.rewards[::2].tolist() == pytest.approx([scale * reward for _, reward in steps])
    assert batch.costs[::2].tolist() == [0.5] * 4
    for asked in (None, 2):
        learned_from = cpq(HARD, discount=0.5, return_steps=2).replay(dataset, asked).all
        assert learned_from.rewards[::2].tolist() == pytest.approx([6.0 * scale] * 4), "learning counts its few in full"


def test_what_counts_less_is_bootstrapped_less_in_reward_alone():
    learner = cpq(HARD)
    answering(learner.critics_target, [10.0, 20.0, 0.1, 0.2])
    one = one_transition(discount=0.5)._replace(reward_discounts=torch.tensor([0.25]))
    assert [target.item() for target in learner.critic_targets(one)] == pytest.approx([2.0 + 2.5, 3.0 + 0.1])


def test_a_logged_action_near_the_threshold_counts_in_part():
    """As in learning: allowed() has a slope, so a reward after k such actions counts with the k-th power."""
    walk = Episode(
        id="e", bag_id="e", observations=np.zeros((4, 1), np.float32), actions=np.zeros((3, 1), np.float32),
        rewards=np.ones(3, np.float32), costs=np.zeros(3, np.float32), terminated=False, truncated=True,
    )  # fmt: skip
    learner = cpq(mask_temperature=0.1, discount=0.5, return_steps=1)
    answering(learner.critics_target, [0.0, 0.0, 0.0, learner.threshold])
    batch = learner.replay(EpisodeDataset.from_episodes([walk]), 3).all
    scale = learner.units.reward_scale
    assert batch.rewards.tolist() == pytest.approx([scale * (1 + 0.25 + 0.0625), scale * 1.25, scale])


def test_terminated_transitions_bootstrap_neither_reward_nor_cost():
    learner = cpq(HARD)
    answering(learner.critics_target, [10.0, 20.0, 0.1, 0.2])
    reward, cost = learner.critic_targets(one_transition(discount=0.0))
    assert (reward.item(), cost.item()) == (2.0, 3.0)


def test_the_sigmoid_mask_is_one_half_at_the_threshold_and_a_step_in_the_limit():
    learner = cpq(mask_temperature=0.1)
    costs = torch.tensor([learner.threshold - 0.1, learner.threshold, learner.threshold + 0.1])
    assert learner.allowed(costs).tolist() == pytest.approx([0.7310586, 0.5, 0.2689414])
    assert cpq(HARD).allowed(costs).tolist() == [1.0, 1.0, 0.0]


def test_divergence_is_that_of_the_encoded_latents_from_the_standard_normal():
    learner = cpq()
    observations, actions = torch.randn(7, 1), torch.rand(7, 1)
    mean, log_std = learner.vae.encode(observations, actions)
    expected = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, log_std.exp()), torch.distributions.Normal(0.0, 1.0)
    ).mean(-1)
    torch.testing.assert_close(learner.divergence(observations, actions), expected)


def test_unfamiliar_cost_lacks_what_it_is_below_the_requirement():
    learner = cpq()
    answering(learner.critics, [0.0, 0.0, 1.0, 4.0])
    all_unfamiliar(learner)
    lacking = learner.shortfall(one_transition(0.5), required=torch.tensor([3.0]))
    assert lacking.item() == pytest.approx(((3.0 - 1.0) + 0.0) / 2)  # the twin above it lacks nothing


def test_familiar_actions_are_left_alone():
    learner = cpq(familiar_share=1.0)
    learner.divergence = lambda observations, actions: torch.ones(len(actions))
    answering(learner.critics, [0.0, 0.0, 1.0, 4.0])
    assert learner.shortfall(one_transition(0.5), required=torch.tensor([3.0])).item() == 0.0


def test_requirement_is_the_share_of_the_threshold_or_the_logged_actions_cost():
    learner = cpq(unfamiliar_cost=2.0)  # of 0.3
    asked = []
    learner.shortfall = lambda batch, required: asked.append(required) or torch.tensor(0.0)
    predicted = torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.1, 5.0], [0.2, 7.0]])  # pairs of cost value 0.2 and 7
    learner.critic_losses(sample(learner, 2), predicted, (torch.zeros(2), torch.zeros(2)))
    assert asked[0].tolist() == pytest.approx([0.6, 7.0])


def test_unfamiliar_cost_has_a_gradient_in_the_cost_critics_alone():
    """The defect in known code: computed without gradient, it trains nothing."""
    learner = cpq(alpha_start=0.05)
    all_unfamiliar(learner)
    batch = sample(learner, 8)
    lacking = learner.shortfall(batch, required=torch.full((8,), 100.0))
    lacking.backward()
    gradient = learner.critics.value.bias.grad.flatten()
    assert gradient.tolist() == pytest.approx([0.0, 0.0, -0.5, -0.5])  # mean over twins: half of -1 each
    assert learner.actor.mean.weight.grad is None


def test_unfamiliar_cost_gradient_matches_finite_differences():
    learner = cpq()
    learner.critics.double()
    learner.vae.double()
    learner.actor.double()
    batch = sample(learner, 8)
    batch = type(batch)(*(column.double() for column in batch))
    kept = learner.generator.get_state()

    def lacking():
        learner.generator.set_state(kept)
        noise = learner.noise
        learner.noise = lambda *shape: noise(*shape).double()
        result = learner.shortfall(batch, required=torch.full((8,), 5.0, dtype=torch.float64))
        learner.noise = noise
        return result

    lacking().backward()
    weight = learner.critics.hidden_2.weight
    for index in ((2, 0, 3), (3, 7, 1)):
        analytic = weight.grad[index].item()
        values = []
        for step in (1e-6, -1e-6):
            weight.data[index] += step
            values.append(lacking().item())
            weight.data[index] -= step
        assert (values[0] - values[1]) / 2e-6 == pytest.approx(analytic, abs=1e-6)


def test_cost_loss_is_the_bellman_error_and_alpha_times_the_shortfall():
    learner = cpq(alpha_start=0.05)
    learner.shortfall = lambda batch, required: torch.tensor(7.0)
    predicted = torch.tensor([[1.0, 1.0], [1.0, 1.0], [2.0, 2.0], [2.0, 2.0]])
    losses = learner.critic_losses(sample(learner, 2), predicted, (torch.zeros(2), torch.zeros(2)))
    assert losses.tolist() == pytest.approx([1.0, 4.0 + 0.05 * 7.0])
    learner.update_weights()
    assert learner.caution.value.item() > 0.05  # raised while something is lacking


def test_actor_earns_where_it_is_allowed_and_descends_the_cost_where_not():
    learner = cpq(HARD, familiarity_weight=0.0, recovery_weight=3.0)
    answering(learner.critics, [10.0, 20.0, 0.1, 0.2])
    assert learner.actor_loss(torch.zeros(4, 1)).item() == pytest.approx(-10.0)
    answering(learner.critics, [10.0, 20.0, 0.1, 0.4])
    assert learner.actor_loss(torch.zeros(4, 1)).item() == pytest.approx(3.0 * 0.4)


def test_a_forbidden_action_has_a_way_out():
    """The defect of the published form: where everything is forbidden, the policy has no gradient."""
    for recovery, moves in ((0.0, False), (3.0, True)):
        learner = cpq(HARD, familiarity_weight=0.0, recovery_weight=recovery)
        torch.manual_seed(0)
        learner.critics = EnsembleCritic(4, 1, 1, 16)
        learner.critics.value.bias.data[2:] = 50.0
        learner.actor_loss(torch.randn(16, 1)).backward()
        assert (learner.actor.mean.weight.grad.abs().sum() > 0).item() == moves


def test_actor_is_drawn_back_by_how_much_its_action_exceeds_the_familiar():
    learner = cpq(HARD, familiarity_weight=20.0)
    answering(learner.critics, [0.0, 0.0, 0.0, 0.0])
    learner.divergence = lambda observations, actions: torch.tensor([1.0, 3.0])
    learner.familiar = torch.tensor(1.5)
    assert learner.actor_loss(torch.zeros(2, 1)).item() == pytest.approx(20.0 * (0.0 + 1.5) / 2)


def test_an_unfamiliar_action_pulls_the_actor_back_in_proportion_to_the_weight():
    """Critics that answer with constants leave the actor no other gradient; every action exceeds the familiar."""

    def gradient(weight: float) -> torch.Tensor:
        learner = cpq(HARD, familiarity_weight=weight)
        answering(learner.critics, [0.0, 0.0, 0.0, 0.0])
        learner.familiar = torch.tensor(-1.0)
        learner.actor_loss(torch.zeros(64, 1)).backward()
        return learner.actor.mean.bias.grad.clone()

    single = gradient(10.0)
    assert gradient(0.0).abs().sum() == 0.0 and single.abs().sum() > 1e-4
    torch.testing.assert_close(gradient(20.0), 2.0 * single)


def test_unfamiliar_actions_come_to_look_costly_and_familiar_ones_do_not():
    """Behaviour stays below zero and costs nothing: nothing in the data tells what positive actions cost."""
    dataset = bandit(low=-0.9, high=-0.3)
    settings = CPQ.model_copy(update={"alpha_start": 0.1})
    learner = train(dataset, TaskLimits(cost_limit=0.1, horizon=1), settings, BOUNDS, steps=400, seed=1)
    cost = learner.critics(torch.zeros(2, 1), torch.tensor([[-0.6], [0.9]]))[2:].detach()  # (2, 2)
    assert cost[:, 0].max() < 0.1
    assert cost[:, 1].min() > 0.9 * 1.5 * learner.threshold


def test_first_steps_imitate_the_behaviour():
    dataset = bandit(low=0.5, high=0.7)
    settings = CPQ.model_copy(update={"imitation_steps": 300})
    learner = train(dataset, TaskLimits(cost_limit=0.1, horizon=1), settings, BOUNDS, steps=300, seed=1)
    assert learner.act(torch.zeros(1, 1)).item() == pytest.approx(0.6, abs=0.1)


def test_limit_turns_the_greedy_action_into_the_safe_one():
    """Reward a + 1, cost 1 if a > 0: with a limit that never binds the best action is +1, else not positive."""
    dataset = bandit()
    actions = []
    for limit in (10.0, 0.1):
        learner = train(dataset, TaskLimits(cost_limit=limit, horizon=1), CPQ, BOUNDS, steps=400, seed=1)
        actions.append(learner.act(torch.zeros(1, 1)).item())
    assert actions[0] > 0.5
    assert -0.9 < actions[1] <= 0.0
