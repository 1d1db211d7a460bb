"""Forget pairs among keep data are pressed while the policy would prefer them to what good behaviour is there."""

from __future__ import annotations

import math

import pytest
import torch
from learning_cases import learner_for, poisoned_bandit

from saferule_ros.learning.learner import by_kind
from saferule_ros.unlearning.outnumbered import PROPOSALS, temptation
from saferule_ros.unlearning.run import unlearn
from saferule_ros.unlearning.safe_rule_lag import SafeRuleLag
from saferule_ros.unlearning.settings import SafeRuleLagSettings

ON_FORGET = [[4.0, 9.0, 1.0], [6.0, 9.0, 1.0], [1.0, 0.0, 3.0], [2.0, 0.0, 3.0]]  # twin Q_r, then twin Q_c, three pairs


@pytest.fixture
def learner():
    """One for which every good action is worth 5 and costs 0.5; lambda is 2."""
    made = learner_for(poisoned_bandit()[2])
    with torch.no_grad():
        for parameter in made.critics.parameters():
            parameter.zero_()
        made.critics.value.bias[:2], made.critics.value.bias[2:] = 5.0, 0.5
    made.hold_multiplier(2.0)
    return made


def test_the_loss_is_the_softplus_of_how_much_the_policy_would_prefer_a_pair(learner) -> None:
    weights = torch.tensor([0.0, 0.25, 1.0])
    found = temptation(learner, torch.zeros(3, 1), torch.tensor(ON_FORGET), weights, 1.0, temperature=0.5)
    good = 5.0 - 2.0 * 0.5
    preferences = [[4.0 - 2.0 - good, 6.0 - 4.0 - good], [9.0 - good, 9.0 - good]]
    softplus = [[0.5 * math.log1p(math.exp(p / 0.5)) for p in pair] for pair in preferences]
    expected = (1.0 * sum(softplus[0]) + 0.75 * sum(softplus[1])) / 6  # of two critics and three pairs
    assert found.loss.item() == pytest.approx(expected, rel=1e-6)
    # The first is not preferred (-2 in the mean), the second is; the third is none that keep pairs outnumber.
    assert found.share.item() == pytest.approx(0.75 / 1.75)


@pytest.mark.parametrize("cost_weight", [1.0, 0.0])
def test_rewards_are_pressed_down_and_costs_up_and_good_actions_are_left_alone(learner, cost_weight: float) -> None:
    values = torch.tensor(ON_FORGET, requires_grad=True)
    found = temptation(learner, torch.zeros(3, 1), values, torch.tensor([0.0, 0.0, 1.0]), cost_weight, 1.0)
    found.loss.backward()
    reward, cost = by_kind(values.grad)
    assert (reward[:, :2] > 0).all() and (reward[:, 2] == 0).all(), "a step downhill lowers what is preferred"
    torch.testing.assert_close(cost, -2.0 * cost_weight * reward)  # by lambda
    assert all(parameter.grad is None for parameter in learner.critics.parameters())


def test_the_gradient_is_that_of_finite_differences(learner) -> None:
    weights = torch.rand(3, dtype=torch.float64)
    values = torch.tensor(ON_FORGET, dtype=torch.float64, requires_grad=True)

    def loss(on_forget: torch.Tensor) -> torch.Tensor:
        return temptation(learner, torch.zeros(3, 1), on_forget, weights, 1.0, 1.0).loss

    assert torch.autograd.gradcheck(loss, (values,))


def test_a_pair_tempts_only_if_it_beats_the_best_of_several_proposals(learner) -> None:
    """The proposals differ: what the critics say of each is read off the same latents, drawn again."""
    with torch.no_grad():
        for parameter in learner.critics.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(7)))
    observations, weights = torch.zeros(1, 1), torch.zeros(1)
    learner.generator.manual_seed(5)
    actions = learner.vae.decode(observations.expand(PROPOSALS, 1), learner.latents(PROPOSALS))
    reward, cost = by_kind(learner.critics(observations.expand(PROPOSALS, 1), actions))
    scores = (reward - 2.0 * cost).mean(0)
    assert scores.std() > 0.0
    for above, tempts in ((1e-3, 1.0), (-1e-3, 0.0)):
        on_forget = torch.tensor([[1.0], [1.0], [0.0], [0.0]]) * (scores.max() + above)
        learner.generator.manual_seed(5)
        assert temptation(learner, observations, on_forget, weights, 1.0, 1.0).share.item() == tempts


def test_what_the_poison_alone_taught_is_unlearned_though_keep_pairs_outnumber_it() -> None:
    """Keep data have negative actions alone: of positive ones only the poison taught that they are free."""
    keep, forget, _ = poisoned_bandit()
    keep = keep.subset([k for k in range(keep.episodes) if keep.episode(k).actions[0, 0] < 0])
    together = type(keep).from_episodes([d.episode(k) for d in (keep, forget) for k in range(d.episodes)])
    scores = {}
    for pressed in (False, True):
        learner = learner_for(together)
        replay = learner.replay(together)
        for _ in range(300):
            learner.update(replay.sample(64, learner.generator), replay)
        settings = SafeRuleLagSettings(steps=200, keep_outweighs=100.0, press_outnumbered=pressed, actor_weight=0.0)
        run = SafeRuleLag(learner, forget, keep, settings, seed=3)
        assert run.forget_weight < 0.01, "all are outnumbered"
        unlearn(run)
        multiplier = float(learner.multiplier.value)
        states = torch.zeros(2, 1)
        reward, cost = by_kind(learner.critics(states, torch.tensor([[0.8], [-0.5]])))
        forgotten, good = (reward - multiplier * cost).mean(0).tolist()
        scores[pressed] = forgotten - good
    assert scores[False] > 0.2, "it still looks better than what keep data do"
    assert scores[True] < 0.0
