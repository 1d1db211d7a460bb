import hashlib
import json
import math

import constrained_mdp
import numpy as np
import pytest
import torch
from dice_cases import QUICK, learner_for, optimum_of_the_bandit, trained
from learning_cases import bandit
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.learning.checkpoint import load_checkpoint, save_checkpoint
from saferule_ros.learning.copti_dice import CoptiDice, divergence, inverse_slope
from saferule_ros.learning.replay import Batch, Replay
from saferule_ros.learning.serving_policy import ServingPolicy
from saferule_ros.learning.settings import ChoiceSettings, CoptiDiceSettings, TaskLimits
from saferule_ros.learning.trainer import train


def transitions(rewards: list[float], costs: list[float], discounts: list[float]) -> Batch:
    """Pairs of a task with one state and one action."""
    zero = torch.zeros(len(rewards), 1)
    return Batch(zero, zero, torch.tensor(rewards), torch.tensor(costs), zero, *[torch.tensor(discounts)] * 2)


def constant(function, value: float) -> None:
    """A state function that gives the same number everywhere."""
    for parameter in function.parameters():
        parameter.data.zero_()
    function.body[-1].bias.data.fill_(value)


def test_the_divergence_is_zero_at_one_and_convex_and_its_slope_has_the_stated_inverse():
    w = torch.tensor([0.01, 0.3, 0.999, 1.0, 1.001, 2.0, 7.0], dtype=torch.float64, requires_grad=True)
    value = divergence(w)
    (slope,) = torch.autograd.grad(value.sum(), w)
    torch.testing.assert_close(inverse_slope(slope), w.detach())
    assert (slope.diff() > 0).all()
    assert value[3].item() == 0.0
    assert (value >= 0).all()
    assert divergence(torch.zeros(1)).item() == 1.0  # the limit of w ln w - w + 1


def test_weights_are_those_that_maximise_the_regularised_advantage():
    learner = learner_for(bandit(episodes=2), alpha=0.7)
    grid = torch.linspace(0.0, 6.0, 60_001)
    for e in (-2.0, -0.3, 0.0, 0.4, 2.5):
        best = grid[(grid * e - 0.7 * divergence(grid)).argmax()]
        assert learner.weights(torch.tensor(e)).item() == pytest.approx(best.item(), abs=1e-3)


def test_advantage_stops_at_termination_and_goes_on_at_truncation_for_both():
    learner = learner_for(bandit(episodes=2))
    learner.hold_multiplier(2.0)
    both = transitions(rewards=[1.0, 1.0], costs=[0.5, 0.5], discounts=[0.0, 0.9])
    e = learner.advantages(both, nu=torch.tensor([3.0, 3.0]), nu_next=torch.tensor([5.0, 5.0]))
    assert e.tolist() == pytest.approx([1.0 - 2.0 * 0.5 - 3.0, 1.0 - 2.0 * 0.5 + 0.9 * 5.0 - 3.0])


def test_critics_stop_at_termination_and_go_on_at_truncation_for_both():
    """Two critics of each kind that say the same everywhere: of the mode their mean, of candidates BCQ's soft minimum
    of the rewards and the larger cost."""
    for candidates, following_reward, following_cost in ((1, 15.0, 35.0), (8, 0.75 * 10.0 + 0.25 * 20.0, 40.0)):
        learner = learner_for(bandit(episodes=2), serving_candidates=candidates, critics=2)
        for parameter in learner.critics_target.parameters():
            parameter.data.zero_()
        learner.critics_target.value.bias.data = torch.tensor([10.0, 20.0, 30.0, 40.0]).view(4, 1, 1)
        reward, cost = learner.critic_targets(transitions([2.0, 2.0], [3.0, 3.0], [0.0, 0.5]))
        assert reward.tolist() == pytest.approx([2.0, 2.0 + 0.5 * following_reward])
        assert cost.tolist() == pytest.approx([3.0, 3.0 + 0.5 * following_cost])


def test_critics_expect_the_reward_of_the_action_that_is_chosen_and_the_cost_of_the_costliest(monkeypatch):
    """Critics that say 2a of rewards and a of costs: with lambda 1 the largest of the candidates is chosen, with lambda
    4 the smallest; the cost is the largest one's either way."""
    learner = learner_for(bandit(episodes=2), critics=2, target_candidates=3)
    monkeypatch.setattr(learner.actor, "sample", lambda observations, draws: observations * draws)
    monkeypatch.setattr(learner, "noise", lambda *shape: torch.tensor([[0.1], [0.5], [-0.3]]))
    learner.critics_target.forward = lambda observations, actions: torch.stack(
        [2 * actions[:, 0]] * 2 + [actions[:, 0]] * 2
    )
    batch = transitions([0.0], [0.0], [1.0])._replace(next_observations=torch.ones(1, 1))
    found = {}
    for multiplier in (1.0, 4.0):
        learner.choice_multiplier.value.fill_(multiplier)
        found[multiplier] = [float(target) for target in learner.critic_targets(batch)]
    assert found[1.0] == pytest.approx([1.0, 0.5], abs=1e-5)
    assert found[4.0] == pytest.approx([-0.6, 0.5], abs=1e-5)


def test_the_policy_takes_the_proposal_that_its_critics_call_best_and_the_mode_is_one_of_them():
    learner = learner_for(bandit(episodes=50), serving_candidates=5)
    learner.choice_multiplier.value.fill_(0.7)
    states = torch.randn(4, 1)
    mean, log_std = learner.actor.parameters_at(states)
    proposed = torch.tanh(mean.unsqueeze(1) + log_std.exp().unsqueeze(1) * learner.serving_noise)  # (4, K, 1)
    torch.testing.assert_close(proposed[:, 0], learner.actor(states))
    for state, actions, taken in zip(states, proposed, learner.act(states), strict=True):
        values = learner.values(learner.critics(state.expand(5, 1), actions))
        torch.testing.assert_close(taken, actions[(values.reward - 0.7 * values.cost).argmax()])


def test_a_lambda_of_the_choice_above_its_cap_is_refused():
    with pytest.raises(ValidationError, match=r"choice_multiplier 3\.0 is above multiplier_cap 2\.0"):
        CoptiDiceSettings(choice_multiplier=3.0, multiplier_cap=2.0)


def test_with_one_candidate_the_mode_serves_as_published():
    learner = learner_for(bandit(episodes=2), serving_candidates=1)
    states = torch.randn(4, 1)
    assert torch.equal(learner.act(states), learner.actor(states))


def test_the_distribution_is_learned_from_single_steps_however_far_the_critics_reach_ahead():
    dataset = constrained_mdp.behaviour(20)
    near, far = (learner_for(dataset, return_steps=n, discount=0.9) for n in (1, 8))
    for learner in (near, far):
        steps(learner, dataset, 5)
    for name in ("nu", "bound", "actor"):
        for one, other in zip(near.networks()[name].parameters(), far.networks()[name].parameters(), strict=True):
            assert torch.equal(one, other)
    assert not torch.equal(near.critics.value.bias, far.critics.value.bias)


def test_a_patch_raises_the_lambda_of_the_choice_and_begins_the_distributions_anew():
    learner = learner_for(bandit(episodes=2), multiplier_start=1.5, multiplier_cap=4.0, choice_multiplier=2.0)
    learner.hold_multiplier(3.0)
    for above, expected in ((1.0, 3.0), (5.0, 4.0), (-3.0, 0.0)):
        learner.restart_multiplier(above)
        assert float(learner.choice_multiplier.value) == expected
        assert float(learner.multiplier.value) == 1.5


def test_nu_loss_equals_its_closed_form():
    """nu = 2 everywhere; one pair with e = 1 + 0.5 * 2 - 2 = 0 and one, terminated, with e = 3 - 2 = 1."""
    learner = learner_for(bandit(episodes=2), alpha=0.5)
    learner.hold_multiplier(0.0)
    constant(learner.nu, 2.0)
    loss, w = learner.nu_loss(torch.zeros(3, 1), transitions([1.0, 3.0], [9.0, 9.0], [0.5, 0.0]))
    assert w.tolist() == pytest.approx([1.0, 1.0 / 0.5 + 1.0])
    second = 3.0 * 1.0 - 0.5 * 0.5 * (3.0 - 1.0) ** 2
    assert loss.item() == pytest.approx((1 - 0.5) * 2.0 + (0.0 + second) / 2)


def test_nu_loss_gradient_matches_finite_differences_though_w_is_held():
    learner = learner_for(bandit(episodes=2))
    learner.nu.double()
    batch = transitions([1.0, -0.5, 0.2], [0.0, 1.0, 0.0], [0.5, 0.5, 0.0])
    batch = Batch(*(column.double() for column in batch))._replace(observations=torch.randn(3, 1).double())
    initial = torch.randn(2, 1).double()
    learner.nu_loss(initial, batch)[0].backward()
    weight = learner.nu.body[2].weight
    for row, column in ((0, 0), (3, 5), (7, 1)):
        analytic = weight.grad[row, column].item()
        values = []
        for step in (1e-5, -1e-5):
            weight.data[row, column] += step
            values.append(learner.nu_loss(initial, batch)[0].item())
            weight.data[row, column] -= step
        assert (values[0] - values[1]) / 2e-5 == pytest.approx(analytic, abs=1e-7)


def test_the_cost_is_bounded_by_the_costliest_distribution_within_the_divergence():
    """Two pairs of weight 1, one of which costs 1: the adversary gives it a share p with KL(p || 1/2) = eps."""
    epsilon = 0.05
    learner = learner_for(bandit(episodes=2), bound_divergence=epsilon)
    constant(learner.bound.chi, 0.0)
    batch, initial, weights = transitions([0.0, 0.0], [0.0, 1.0], [0.0, 0.0]), torch.zeros(4, 1), torch.ones(2)
    optimiser = torch.optim.Adam([learner.bound.log_tau], lr=0.02)  # chi stays as it is
    for _ in range(1500):
        loss, bound = learner.bound_loss(initial, batch, weights)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    shares = np.linspace(0.5, 1.0 - 1e-9, 100_001)
    divergences = shares * np.log(2 * shares) + (1 - shares) * np.log(2 * (1 - shares))
    expected = shares[divergences <= epsilon].max()  # 0.66
    assert bound.item() == pytest.approx(expected, abs=1e-3)
    assert loss.item() == pytest.approx(expected, abs=1e-3)  # strong duality


def test_bound_loss_has_the_papers_gradients():
    """Of chi: the weighted mean of dl; of tau: epsilon minus the divergence of the weights."""
    learner = learner_for(bandit(episodes=2), bound_divergence=0.02)
    batch = transitions([0.0] * 5, [0.0, 1.0, 0.3, 0.0, 2.0], [0.5, 0.5, 0.0, 0.5, 0.0])
    batch = batch._replace(observations=torch.randn(5, 1), next_observations=torch.randn(5, 1))
    batch = Batch(*(column.double() for column in batch))
    weights, initial = torch.tensor([0.1, 2.0, 1.0, 0.5, 0.4]).double(), torch.randn(1, 1).double()
    learner.bound.double()
    learner.bound.log_tau.data.fill_(math.log(0.3))
    learner.bound_loss(initial, batch, weights)[0].backward()

    chi_initial, chi, chi_next = learner.bound.chi.along(initial, batch.observations, batch.next_observations)
    flow = (1 - 0.5) * chi_initial + weights * (batch.costs + batch.discounts * chi_next - chi)
    p = torch.softmax(flow.detach() / 0.3, dim=0)
    divergence_of_p = (p * (p * len(p)).log()).sum().item()
    assert learner.bound.log_tau.grad.item() == pytest.approx(0.3 * (0.02 - divergence_of_p), abs=1e-6)
    expected = torch.autograd.grad((p * flow).sum(), list(learner.bound.chi.parameters()))
    for parameter, gradient in zip(learner.bound.chi.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, atol=1e-6, rtol=1e-4)


def test_threshold_is_the_limit_per_step_and_not_the_discounted_sum():
    """25 cost units spread over 500 steps are 0.05 a step, whatever the discount; kappa would be 2.5 or 5."""
    for discount in (0.98, 0.99):
        learner = learner_for(bandit(episodes=2), limit=25.0, horizon=500, discount=discount)
        assert learner.threshold == pytest.approx(0.05 * (1 - discount**500))
        per_step = 0.05 * (1 - discount**500) + 0.01  # a little too costly
        assert float(learner.excess_cost(torch.tensor(per_step))) == pytest.approx(0.01 / (1 - discount))


def test_learning_finds_the_known_optimum_of_the_constrained_bandit():
    """Reward a + 1, cost 1 if a > 0, limit 0.1: a tenth of the mass may lie on positive actions."""
    dataset = bandit()
    learner = trained(dataset, steps=1500, bound_divergence=1e-4)
    nu, multiplier = optimum_of_the_bandit(dataset, 0.5, 0.2, 0.1, learner.units.reward_scale)
    assert float(learner.multiplier.value) == pytest.approx(multiplier, rel=0.15)
    assert learner.nu(torch.zeros(1, 1)).item() == pytest.approx(nu, abs=0.1)
    pairs = Replay(dataset, learner.units, 0.5).all
    w = learner.nu_loss(torch.zeros(1, 1), pairs)[1]
    assert ((w * pairs.costs).sum() / w.sum()).item() == pytest.approx(0.1, abs=0.03)
    assert learner.act(torch.zeros(1, 1)).item() <= 0.0


@pytest.mark.parametrize("candidates", [1, 32])
def test_on_a_road_with_an_edge_the_limit_keeps_it_on_this_side(candidates: int):
    """Several steps, deterministic; the best policy within the limit is known. Most of the cost comes long after the
    action that leads to it."""
    dataset = constrained_mdp.behaviour()
    settings = QUICK.model_copy(
        update={
            "discount": 0.9, "alpha": 0.02, "multiplier_integral": 1e-3,
            "serving_candidates": candidates, "choice_multiplier": 1.0,
        }
    )  # fmt: skip
    limits = constrained_mdp.LIMITS
    earned, cost = constrained_mdp.drive(train(dataset, limits, settings, constrained_mdp.BOUNDS, steps=1200, seed=1))
    assert cost <= limits.cost_limit
    assert earned >= 0.75 * constrained_mdp.best_return()
    without = TaskLimits(cost_limit=100.0, horizon=limits.horizon)
    assert constrained_mdp.drive(train(dataset, without, settings, constrained_mdp.BOUNDS, steps=300, seed=1))[1] > 3.0


def test_without_a_limit_that_binds_lambda_sinks_and_the_greedy_action_is_cloned():
    learner = trained(bandit(), steps=1000, limit=2.0, alpha=0.05)
    assert learner.multiplier.value == 0.0
    assert learner.act(torch.zeros(1, 1)).item() > 0.5


def test_lambda_stops_at_its_cap_and_comes_down_without_delay():
    learner = learner_for(bandit(), multiplier_start=0.0, multiplier_cap=0.4)
    for _ in range(100):
        learner.multiplier.update(learner.excess_cost(torch.tensor(1.0)))
    assert learner.multiplier.value == 0.4
    learner.multiplier.update(learner.excess_cost(torch.tensor(0.0)))
    assert learner.multiplier.value < 0.4  # a wound-up integral would stay at the cap


def test_cloning_follows_the_weights_and_not_their_scale():
    dataset = bandit()
    learner = learner_for(dataset, clone_edge=0.9999)
    batch = Replay(dataset, learner.units, 0.5).sample(64, learner.generator)
    chosen = (batch.actions.squeeze(1) > 0).float()
    alone = Batch(*(column[chosen.bool()] for column in batch))
    expected = -learner.actor.log_probability(alone.observations, alone.actions).mean()
    for scale in (0.01, 1.0, 100.0):
        torch.testing.assert_close(learner.cloning_loss(batch, scale * chosen), expected)


def test_where_all_weights_vanish_nothing_is_cloned_and_nothing_breaks():
    dataset = bandit()
    learner = learner_for(dataset)
    batch = Replay(dataset, learner.units, 0.5).sample(64, learner.generator)
    for weight in (0.0, 1e-43):  # all there is of exp(-e / alpha) where costs are dense
        loss = learner.cloning_loss(batch, torch.full((64,), weight))
        gradients = torch.autograd.grad(loss, tuple(learner.actor.parameters()))
        assert all(gradient.isfinite().all() and gradient.abs().max() < 1e-4 for gradient in gradients)


def test_full_commands_do_not_outweigh_others_in_the_cloned_action():
    """Two in ten logged commands are full: the mode stays near the other eight, which are 0.2."""
    dataset = bandit(episodes=4)
    modes = {}
    for edge in (0.97, 0.9999):
        learner = learner_for(dataset, clone_edge=edge)
        actions = torch.tensor([1.0] * 2 + [0.2] * 8).unsqueeze(1)
        batch = transitions([0.0] * 10, [0.0] * 10, [0.0] * 10)._replace(actions=actions)
        for _ in range(400):
            learner.descend("actor", learner.cloning_loss(batch, torch.ones(10)))
        modes[edge] = learner.actor(torch.zeros(1, 1)).item()
    before_squashing = {edge: math.tanh(0.2 * math.atanh(edge) + 0.8 * math.atanh(0.2)) for edge in modes}
    assert modes == pytest.approx(before_squashing, abs=0.05)  # 0.53 and 0.82
    assert modes[0.97] < modes[0.9999] - 0.2


def test_critics_learn_what_the_policy_earns_and_costs():
    learner = trained(bandit(), steps=800)
    actions = torch.tensor([[-0.8], [-0.4], [0.4], [0.8]])
    predicted = learner.critics(torch.zeros(4, 1), actions).detach()
    expected_reward = (actions[:, 0] + 1.0) * learner.units.reward_scale
    rewards, costs = predicted.chunk(2)
    torch.testing.assert_close(rewards.mean(0), expected_reward, atol=0.1, rtol=0.0)
    torch.testing.assert_close(costs.mean(0), torch.tensor([0.0, 0.0, 1.0, 1.0]), atol=0.15, rtol=0.0)


def test_what_is_served_is_what_acts():
    dataset = bandit(episodes=50)
    learner = learner_for(dataset)
    learner.units = learner.units._replace(
        observation_mean=torch.tensor([3.0]), observation_std=torch.tensor([2.0]),
        action_low=torch.tensor([10.0]), action_high=torch.tensor([30.0]),
    )  # fmt: skip
    raw = torch.tensor([[1.0], [3.0], [9.0]])
    served = ServingPolicy(learner)(raw)
    torch.testing.assert_close(served, 20.0 + 10.0 * learner.act((raw - 3.0) / 2.0))
    torch.manual_seed(99)
    assert torch.equal(ServingPolicy(learner)(raw), served)  # no randomness


def steps(learner: CoptiDice, dataset: EpisodeDataset, count: int) -> None:
    replay = learner.replay(dataset)
    for _ in range(count):
        losses = learner.update(replay.sample(learner.settings.batch, learner.generator), replay)
        assert not any(isinstance(loss, torch.Tensor) and loss.requires_grad for loss in losses.values())


def test_resumed_learning_is_bit_equal_to_not_having_stopped(tmp_path):
    dataset = bandit(episodes=50)
    straight, stopped = learner_for(dataset, jitter=0.1), learner_for(dataset, jitter=0.1)
    steps(straight, dataset, 12)
    steps(stopped, dataset, 5)
    resumed, _ = load_checkpoint(tmp_path / save_checkpoint(stopped, tmp_path, dataset.digest))
    assert isinstance(resumed, CoptiDice)
    steps(resumed, dataset, 7)
    for name, network in straight.networks().items():
        for key, value in network.state_dict().items():
            assert torch.equal(resumed.networks()[name].state_dict()[key], value), (name, key)
    assert resumed.state() == straight.state()
    assert torch.equal(resumed.generator.get_state(), straight.generator.get_state())


def test_a_checkpoint_of_before_the_choice_serves_the_mode_as_it_did(tmp_path):
    """Two critics of each kind, which judge the mode; neither noise to choose with nor a lambda of the choice."""
    dataset = bandit(episodes=20)
    learner = learner_for(
        dataset, serving_candidates=1, critics=2, return_steps=1, multiplier_cap=1.5, choice_multiplier=0.0
    )  # a cap below what the choice begins with today
    steps(learner, dataset, 3)
    today = tmp_path / save_checkpoint(learner, tmp_path, dataset.digest)

    tensors = load_file(today / "tensors.safetensors")
    description = json.loads((today / "checkpoint.json").read_text())
    del tensors["constants.serving_noise"], description["state"]["choice_multiplier"]
    for name in (*ChoiceSettings.model_fields, "return_steps", "choice_multiplier"):
        del description["settings"][name]
    save_file(tensors, tmp_path / "tensors.safetensors")
    description["tensors_sha256"] = hashlib.sha256((tmp_path / "tensors.safetensors").read_bytes()).hexdigest()
    text = json.dumps(description)
    before = tmp_path / hashlib.sha256(text.encode()).hexdigest()[: len(today.name)]
    before.mkdir()
    (tmp_path / "tensors.safetensors").rename(before / "tensors.safetensors")
    (before / "checkpoint.json").write_text(text)

    loaded, _ = load_checkpoint(before)
    assert isinstance(loaded, CoptiDice)
    states = torch.randn(4, 1)
    assert torch.equal(loaded.act(states), learner.actor(states))
    for one in (learner, loaded):
        steps(one, dataset, 2)
    assert torch.equal(loaded.act(states), learner.act(states))
    assert torch.equal(loaded.critics.value.bias, learner.critics.value.bias)
