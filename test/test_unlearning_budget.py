"""What a run costs: arithmetic against closed forms, and counting that changes nothing."""

import time
from types import SimpleNamespace

import actor_cases
import pytest
import torch
from learning_cases import SMALL, bandit, learner_for
from torch import nn

from saferule_ros.learning.settings import BcqLagSettings
from saferule_ros.unlearning import budget, safe_rule
from saferule_ros.unlearning.behaviour_scatter import behaviour_scatter
from saferule_ros.unlearning.methods import NAMES, make_run, method_for
from saferule_ros.unlearning.run import UnlearningRun, unlearn
from saferule_ros.unlearning.settings import RetrainSettings, TrajDeleterSettings
from saferule_ros.unlearning.traj_deleter import TrajDeleter

pytestmark = pytest.mark.usefixtures("quick_classifiers")

DATA = bandit(episodes=20)


WIDTHS = {"wide": 7, "narrow": 3}


class OneLayer(UnlearningRun):
    """Steps of a single linear layer, wide ones and narrow ones in turn."""

    NAME = "one_layer"

    @property
    def kind(self) -> str:
        return "wide" if self.steps_done % 2 == 0 else "narrow"

    def take_step(self):
        layer = nn.Linear(5, WIDTHS[self.kind])
        loss = layer(torch.ones(11, 5)).sum()
        loss.backward()
        return {"loss": loss.detach()}


def run_of(name: str, steps: int = 3, settings: BcqLagSettings = SMALL) -> UnlearningRun:
    learner = learner_for(DATA, settings)
    return make_run(name, learner, DATA, DATA, method_for(name, type(learner)).settings(steps=steps), seed=1)


def test_flops_are_those_of_the_matrix_products_forward_and_backward():
    run = OneLayer(learner_for(DATA), DATA, DATA, steps=5, seed=0)
    unlearn(run)
    # Forward and the weight's gradient are one product each; the input needs no gradient.
    of_step = {kind: 2 * (2 * 11 * 5 * width) for kind, width in WIDTHS.items()}
    assert run.meter.budget.flops == 3 * of_step["wide"] + 2 * of_step["narrow"]
    assert run.meter.budget.steps == 5


@pytest.mark.parametrize("name", NAMES)
def test_every_method_is_counted_in_proportion_to_its_steps_and_its_batch(name):
    small, long = run_of(name, 2), run_of(name, 6)
    double = run_of(name, 2, SMALL.model_copy(update={"batch": 2 * SMALL.batch}))
    for run in (small, long, double):
        unlearn(run)
    flops = [run.meter.budget.flops for run in (small, long, double)]
    once = [run.computed_once() for run in (small, long, double)]
    assert once[0] == once[1] == once[2]  # all keep data is in a single batch
    each = [total - part for total, part in zip(flops, once, strict=True)]
    if name != "traj_deleter":  # whose kinds of step have other shares in a run of two than in one of six
        assert each[1] == 3 * each[0]
    assert each[2] == pytest.approx(2 * each[0], rel=0.2)  # lambda and quantiles do not grow with the batch
    assert min(small.meter.budget.cpu_seconds, small.meter.budget.seconds) > 0


def test_steps_of_each_kind_are_counted_for_what_they_are():
    """Convergence evaluates the original agent's targets as well."""
    learner = learner_for(DATA)
    run = TrajDeleter(learner, DATA, DATA, TrajDeleterSettings(steps=10, forgetting_share=0.8, cycles=1), seed=0)
    unlearn(run)
    each = run.meter._flops_of
    assert each["remain"] == each["forget"] < each["converge"]
    assert run.meter.flops == 4 * each["remain"] + 4 * each["forget"] + 2 * each["converge"]


# Neither classifiers nor how far good behaviour scatters.
NOTHING_ELSE_ONCE = {"keep_outweighs": 0.0, "forget_outweighs": 0.0, "behaviour_constraint": None}


def of_four_steps(**settings):
    kind = method_for("safe_rule", type(learner_for(DATA))).settings
    return make_run("safe_rule", learner_for(DATA), DATA, DATA, kind(steps=4, **settings), seed=1)


def test_what_tells_forget_states_from_keep_states_is_counted_with_the_run():
    with_it, without = of_four_steps(keep_outweighs=1.0), of_four_steps(keep_outweighs=0.0)
    weighing = with_it.computed_once() - without.computed_once()
    assert weighing > 0
    for run in (with_it, without):
        unlearn(run)
    assert with_it.meter.budget.flops == pytest.approx(without.meter.budget.flops + weighing)


def test_the_time_that_weighing_forget_states_takes_is_the_runs(monkeypatch):
    """By a clock that stands still but while they are weighed."""
    now = [0.0]

    def takes_seven_seconds(*arguments):
        now[0] += 7.0
        return weighed(*arguments)

    weighed = safe_rule.forget_weights
    monkeypatch.setattr(safe_rule, "forget_weights", takes_seven_seconds)
    monkeypatch.setattr(budget, "time", SimpleNamespace(monotonic=lambda: now[0], process_time=lambda: now[0]))
    spent = of_four_steps().meter.budget
    assert (spent.seconds, spent.cpu_seconds) == (7.0, 7.0), "before the first step"


def test_fixed_targets_are_counted_once_for_each_transition_and_moving_ones_in_every_step():
    fixed, moving = (of_four_steps(fixed_targets=is_fixed, **NOTHING_ELSE_ONCE) for is_fixed in (True, False))
    for run in (fixed, moving):
        unlearn(run)
    of_targets = fixed.computed_once() / len(DATA.rewards)  # of one transition
    assert of_targets > 0 and moving.computed_once() == 0
    spared = moving.meter.budget.flops - fixed.meter.budget.flops
    assert spared == pytest.approx(of_targets * (4 * SMALL.batch - len(DATA.rewards)))


def test_what_cpqs_critics_say_of_the_logged_actions_is_counted_once():
    learner = actor_cases.learner_for(DATA, actor_cases.CPQ)
    settings = method_for("safe_rule", type(learner)).settings(steps=1, keep_outweighs=0.0, forget_outweighs=0.0)
    run = make_run("safe_rule", learner, DATA, DATA, settings, seed=1)
    hidden, inputs = actor_cases.CPQ.hidden, 1 + 1
    forward = 2 * (inputs * hidden + hidden * hidden + hidden)  # of one critic at one pair
    assert run.computed_once() == 4 * len(DATA.rewards) * forward


def test_how_far_good_behaviour_scatters_is_counted_once():
    bound, free = (of_four_steps(**{**NOTHING_ELSE_ONCE, "behaviour_constraint": kind}) for kind in (0.5, None))
    scatter, flops = behaviour_scatter(bound.learner, bound.keep, bound.imitated)
    assert scatter > 0 and flops > 0
    assert bound.computed_once() - free.computed_once() == flops


def test_counting_changes_no_bit():
    counted, plain = run_of("safe_rule"), run_of("safe_rule")
    unlearn(counted)
    for _ in range(3):
        plain.prepare_step()
        plain.take_step()
        plain.steps_done += 1
    for one, other in zip(counted.learner.critics.parameters(), plain.learner.critics.parameters(), strict=True):
        assert torch.equal(one, other)


def test_what_happens_between_steps_is_not_the_runs_time():
    run = run_of("fine_tune", steps=4)
    unlearn(run, after_step=lambda _: time.sleep(0.5))
    assert run.meter.budget.seconds < 1.5


def test_steps_of_imitation_are_counted_as_what_they_are():
    """CPQ imitates at first: such a step asks no critic for the policy's gradient."""

    def flops(imitation: int) -> float:
        learner = actor_cases.learner_for(DATA, actor_cases.CPQ.model_copy(update={"imitation_steps": imitation}))
        run = make_run("retrain", learner, DATA, DATA, RetrainSettings(steps=5), seed=1)
        unlearn(run)
        return run.meter.budget.flops

    imitating, mixed, learning = flops(5), flops(2), flops(0)
    assert imitating < learning
    assert mixed == 2 / 5 * imitating + 3 / 5 * learning
