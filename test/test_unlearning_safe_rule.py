import math

import numpy as np
import pytest
import torch
from learning_cases import BOUNDS, SMALL, WHOLE, learner_for, poisoned_bandit

from saferule_ros.learning.settings import TaskLimits
from saferule_ros.learning.trainer import as_numbers, train
from saferule_ros.unlearning.certificate import certify, pair_values
from saferule_ros.unlearning.run import unlearn
from saferule_ros.unlearning.safe_rule import SafeRule
from saferule_ros.unlearning.settings import SafeRuleSettings


def fresh_run(**settings) -> SafeRule:
    keep, forget, together = poisoned_bandit()
    # One state alone, at which keep pairs outnumber the forget pairs: here all of them count.
    whole = SafeRuleSettings(**WHOLE, **settings)
    return SafeRule(learner_for(together), forget, keep, whole, seed=3)


def test_suppression_terms_equal_the_papers_softplus_in_closed_form():
    run = fresh_run(temperature=0.5, cost_margin=1.0)
    run.kappa = 2.0
    on_forget = torch.tensor([[4.0], [6.0], [1.0], [2.5]])  # twin Q_r, then twin Q_c, one pair
    reward, cost = run._suppression(on_forget, torch.tensor(5.0), torch.ones(1))

    def softplus(x: float) -> float:
        return 0.5 * math.log1p(math.exp(x / 0.5))

    assert reward.item() == pytest.approx((softplus(4.0 - 5.0) + softplus(6.0 - 5.0)) / 2)
    assert cost.item() == pytest.approx((softplus(3.0 - 1.0) + softplus(3.0 - 2.5)) / 2)


def test_suppression_gradient_matches_finite_differences():
    run = fresh_run()
    values = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    reference = torch.tensor(0.3, dtype=torch.float64)
    weights = torch.rand(6, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda v: run._suppression(v, reference, weights).sum(), (values,))


def test_actor_repulsion_is_gated_by_the_cost_critic_and_bounded():
    run = fresh_run(gate_temperature=0.1)
    forget = run.forget.sample(64, run.learner.generator)
    for parameter in run.learner.critics.parameters():
        parameter.data.zero_()
    run.learner.critics.value.bias.data[2:] = run.kappa + 10.0  # everything unsafe: the gate is open
    all_count = torch.ones(64)
    open_gate = run._repulsion(forget, run.learner.critics(forget.observations, forget.actions), all_count)
    run.learner.critics.value.bias.data[2:] = run.kappa - 10.0  # everything safe: nothing is pushed away
    closed_gate = run._repulsion(forget, run.learner.critics(forget.observations, forget.actions), all_count)
    none_count = run._repulsion(forget, torch.full((4, 64), run.kappa + 10.0), torch.zeros(64))
    assert none_count.item() == 0.0
    assert closed_gate.item() == pytest.approx(0.0, abs=1e-6)
    assert 0.0 < open_gate.item() <= 1.0


def test_beta_rises_while_forget_pairs_look_good_and_sinks_when_none_does():
    run = fresh_run(beta_start=0.5, beta_cap=0.6, beta_floor=0.45, beta_rate=0.1, tolerated_share=0.1)
    run.update_beta(run.beta, torch.tensor(1.0), run.settings.beta_rate)
    assert float(run.beta) == pytest.approx(0.59)
    run.update_beta(run.beta, torch.tensor(1.0), run.settings.beta_rate)
    assert run.beta == 0.6  # the cap
    for _ in range(100):
        run.update_beta(run.beta, torch.tensor(0.0), run.settings.beta_rate)
    assert run.beta == 0.45  # the floor


def test_learning_rate_is_constant_and_then_falls_linearly():
    run = fresh_run(steps=6, constant_share=1 / 3, final_rate=0.2)
    rates = []
    for _ in range(6):
        run.step()
        rates.append(run.learner.optimisers["critics"].learning_rate / SMALL.learning_rate)
    assert rates == pytest.approx([1.0, 1.0, 1.0, 0.8, 0.6, 0.4])  # the seventh would have 0.2


def test_kappa_is_not_below_what_the_critics_show_on_safe_keep_episodes():
    keep, forget, together = poisoned_bandit()
    learner = learner_for(together)
    for parameter in learner.critics.parameters():
        parameter.data.zero_()
    learner.critics.value.bias.data[2:] = 7.0
    assert SafeRule(learner, forget, keep, SafeRuleSettings(), seed=0).kappa == pytest.approx(7.0)
    learner.critics.value.bias.data[2:] = -7.0
    assert SafeRule(learner, forget, keep, SafeRuleSettings(), seed=0).kappa == pytest.approx(learner.kappa)


def test_unlearning_restores_cost_values_and_the_safe_action():
    """The poison says that positive actions cost little; after unlearning they cost what the keep data says."""
    keep, forget, together = poisoned_bandit()
    settings = SMALL.model_copy(update={"multiplier_start": 1.2})
    learner = train(together, TaskLimits(cost_limit=0.1, horizon=1), settings, BOUNDS, steps=800, seed=4)
    positive = torch.linspace(0.2, 0.9, 8).unsqueeze(1)
    poisoned_cost = learner.critics(torch.zeros(8, 1), positive)[2:].mean().item()
    poisoned_action = learner.act(torch.zeros(1, 1)).item()
    patch = SafeRuleSettings(steps=400, cost_margin=0.5, temperature=0.1, caution=1.8, tolerated_share=0.1, **WHOLE)
    assert unlearn(SafeRule(learner, forget, keep, patch, seed=5)) == 400
    assert poisoned_cost < 0.7  # 400 keep pairs, half positive with cost 1, against 200 with cost 0
    assert learner.critics(torch.zeros(8, 1), positive)[2:].mean().item() > 0.9
    assert poisoned_action > 0.2
    assert learner.act(torch.zeros(1, 1)).item() <= 0.05


def test_certificate_holds_after_unlearning_and_not_before():
    keep, forget, together = poisoned_bandit()
    learner = train(together, TaskLimits(cost_limit=0.1, horizon=1), SMALL, BOUNDS, steps=600, seed=6)
    settings = SafeRuleSettings(steps=300, cost_margin=0.5, temperature=0.1, beta_start=2.0, **WHOLE)
    run = SafeRule(learner, forget, keep, settings, seed=7)
    before = certify(pair_values(learner, run.forget, run.keep, seed=8), 50.0, run.cost_required)
    for _ in range(settings.steps):
        run.step()
    after = certify(pair_values(learner, run.forget, run.keep, seed=8), 50.0, run.cost_required)
    assert not before.holds
    assert after.holds
    assert after.q_cost_forget > before.q_cost_forget
    assert after.q_reward_forget < before.q_reward_forget


def test_looking_at_values_changes_nothing_in_the_run():
    first, second = fresh_run(), fresh_run()
    first.step()
    second.step()
    pair_values(first.learner, first.forget, first.keep, seed=1)
    assert as_numbers(first.step()) == as_numbers(second.step())


def test_same_seed_gives_the_same_patch():
    keep, forget, together = poisoned_bandit()
    results = []
    for seed in (1, 1, 2):
        learner = learner_for(together)
        unlearn(SafeRule(learner, forget, keep, SafeRuleSettings(steps=10), seed))
        results.append(torch.cat([p.flatten() for p in learner.critics.parameters()]).detach().numpy())
    assert np.array_equal(results[0], results[1])
    assert not np.array_equal(results[0], results[2])


def test_cancelling_stops_at_the_next_step():
    keep, forget, together = poisoned_bandit()
    asked = iter([False, False, False, True])
    run = SafeRule(learner_for(together), forget, keep, SafeRuleSettings(steps=50, **WHOLE), seed=0)
    assert unlearn(run, cancelled=lambda: next(asked)) == 3
