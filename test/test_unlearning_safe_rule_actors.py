"""Safe-RULE on BEAR-Lag and CPQ: the poison says that positive actions cost little."""

import pytest
import torch
from actor_cases import BEAR, CPQ, learner_for, weights
from learning_cases import BOUNDS, WHOLE, poisoned_bandit

from saferule_ros.learning.settings import TaskLimits
from saferule_ros.learning.trainer import as_numbers, train
from saferule_ros.unlearning.certificate import certify, pair_values
from saferule_ros.unlearning.run import unlearn
from saferule_ros.unlearning.safe_rule import SafeRule
from saferule_ros.unlearning.settings import SafeRuleSettings

# Where the critics settle on poisoned data, at about half the cost, positive actions must look acceptable.
BOTH = [
    pytest.param(BEAR.model_copy(update={"multiplier_start": 1.2}), 0.1, id="bear_lag"),
    pytest.param(CPQ, 0.25, id="cpq"),  # threshold 0.75
]
# One state alone, at which keep pairs outnumber the forget pairs: here all of these count.
PATCH = SafeRuleSettings(steps=300, cost_margin=0.5, temperature=0.1, caution=1.8, tolerated_share=0.1, **WHOLE)


@pytest.mark.parametrize(("settings", "limit"), BOTH)
def test_unlearning_restores_cost_values_and_the_safe_action(settings, limit):
    keep, forget, together = poisoned_bandit()
    learner = train(together, TaskLimits(cost_limit=limit, horizon=1), settings, BOUNDS, steps=500, seed=4)
    state, positive = torch.zeros(1, 1), torch.linspace(0.2, 0.9, 8).unsqueeze(1)
    poisoned_cost = learner.critics(torch.zeros(8, 1), positive)[2:].mean().item()
    poisoned_action = learner.act(state).item()
    run = SafeRule(learner, forget, keep, PATCH, seed=5)
    before = certify(pair_values(learner, run.forget, run.keep, seed=8), 50.0, run.cost_required)
    assert unlearn(run) == PATCH.steps
    after = certify(pair_values(learner, run.forget, run.keep, seed=8), 50.0, run.cost_required)
    assert poisoned_cost < 0.7  # 400 keep pairs, half positive with cost 1, against 200 with cost 0
    assert learner.critics(torch.zeros(8, 1), positive)[2:].mean().item() > 0.9
    assert poisoned_action > 0.2
    assert learner.act(state).item() <= 0.05
    assert not before.holds
    assert after.holds


@pytest.mark.parametrize(("settings", "limit"), BOTH)
def test_the_weight_of_the_learners_own_constraint_goes_on_moving(settings, limit):
    keep, forget, together = poisoned_bandit()
    learner = learner_for(together, settings.model_copy(update={"alpha_rate": 0.1}), limit)
    before = learner.state()["alpha"]
    SafeRule(learner, forget, keep, PATCH, seed=1).step()
    assert learner.state()["alpha"] != before


@pytest.mark.parametrize(("settings", "limit"), BOTH)
def test_looking_at_values_changes_nothing_and_the_same_seed_gives_the_same_patch(settings, limit):
    keep, forget, together = poisoned_bandit()
    runs = [SafeRule(learner_for(together, settings, limit), forget, keep, PATCH, seed=1) for _ in range(2)]
    for run in runs:
        run.step()
    pair_values(runs[0].learner, runs[0].forget, runs[0].keep, seed=1)
    losses = [as_numbers(run.step()) for run in runs]
    assert losses[0] == losses[1]
    assert torch.equal(weights(runs[0].learner), weights(runs[1].learner))
