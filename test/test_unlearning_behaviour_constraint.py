"""A patch can bind the policy to the behaviour model as tightly as good behaviour keeps to it."""

from __future__ import annotations

import math
from pathlib import Path

import actor_cases
import pytest
import torch
from learning_cases import learner_for, poisoned_bandit
from pydantic import ValidationError

from saferule_ros.learning.algorithms import ALGORITHMS
from saferule_ros.learning.checkpoint import load_checkpoint, save_checkpoint
from saferule_ros.learning.learner import LagrangianLearner
from saferule_ros.unlearning.behaviour_scatter import behaviour_scatter
from saferule_ros.unlearning.methods import make_run, method_for

KEEP, FORGET, TOGETHER = poisoned_bandit()


def test_the_scatter_is_the_rms_distance_of_the_actions_from_the_likeliest_proposal() -> None:
    learner = learner_for(TOGETHER)
    with torch.no_grad():
        for parameter in learner.vae.parameters():
            parameter.zero_()  # it proposes the middle of the range everywhere
    keep = learner.replay(KEEP)
    rows = torch.arange(0, keep.size, 3)
    scatter, flops = behaviour_scatter(learner, keep, rows)
    assert scatter == pytest.approx(keep.all.actions[rows].square().mean().sqrt().item(), rel=1e-6)
    assert flops > 0


def test_bcq_moves_proposals_by_no_more_than_it_is_told_and_never_by_more_than_in_learning(tmp_path: Path) -> None:
    learner = learner_for(TOGETHER)
    with torch.no_grad():
        for parameter in learner.actor.parameters():
            parameter.mul_(100.0)  # it moves as far as it may
    in_learning = learner.settings.reach
    # Half of what it is told: what is chosen among proposals is the other.
    for told, reach in ((0.04, 0.02), (0.06, 0.03), (0.5, in_learning), (0.04, 0.02), (math.inf, in_learning)):
        learner.constrain(told)
        loaded, _ = load_checkpoint(tmp_path / save_checkpoint(learner, tmp_path, "digest"))
        for one in (learner, loaded):
            assert isinstance(one, LagrangianLearner)
            observations, proposed = torch.randn(50, 1), torch.zeros(50, 1)
            moved = one.actor(observations, proposed).abs().max().item()
            assert moved == pytest.approx(reach, rel=1e-3)
            assert one.settings.reach == in_learning, "with which a retrained one learns"


@pytest.mark.parametrize("actions", [1, 3])
def test_bear_is_held_to_the_mmd_of_two_actions_so_far_apart(actions: int) -> None:
    learner = actor_cases.learner_for(TOGETHER, actor_cases.BEAR)
    learner.action_size = actions
    in_learning = learner.settings.mmd_threshold
    learner.constrain(0.04)
    similarity = math.exp(-actions * 0.04**2 / (2 * learner.settings.mmd_width))
    assert learner.mmd_threshold == pytest.approx(math.sqrt(2 * (1 - similarity) + 1e-6), rel=1e-4)
    assert learner.mmd_threshold < in_learning == learner.settings.mmd_threshold
    for told in (1.0, math.inf):
        learner.constrain(told)
        assert learner.mmd_threshold == in_learning, "never looser than in learning"


@pytest.mark.parametrize("method", ["safe_rule", "reward_only"])
def test_a_patch_binds_the_policy_in_multiples_of_the_scatter_of_what_it_imitates(method: str) -> None:
    reaches = {}
    for asked in (None, 0.0, 0.01, 10.0):
        learner = learner_for(TOGETHER)
        settings = method_for(method, type(learner)).settings.model_validate({"behaviour_constraint": asked})
        run = make_run(method, learner, FORGET, KEEP, settings, seed=3)
        scatter, _ = behaviour_scatter(learner, run.keep, run.imitated)
        reaches[asked] = learner.actor.reach, scatter
    in_learning = learner_for(TOGETHER).settings.reach
    assert reaches[None][0] == reaches[10.0][0] == in_learning
    assert reaches[0.0][0] == 0.0
    assert reaches[0.01][0] == pytest.approx(0.01 * reaches[0.01][1] / 2)
    assert 0.0 < reaches[0.01][0] < in_learning


def test_a_patch_that_binds_nothing_gives_a_patched_policy_the_freedom_of_learning_back() -> None:
    learner = learner_for(TOGETHER)
    for asked, bound in ((0.01, True), (None, False)):
        settings = method_for("safe_rule", type(learner)).settings.model_validate({"behaviour_constraint": asked})
        make_run("safe_rule", learner, FORGET, KEEP, settings, seed=3)
        assert (learner.actor.reach < learner.settings.reach) == bound


@pytest.mark.parametrize("algorithm", ["cpq", "copti_dice"])
def test_a_learner_that_keeps_to_no_behaviour_model_cannot_be_bound_to_it(algorithm: str) -> None:
    settings = method_for("safe_rule", ALGORITHMS[algorithm]).settings
    assert settings.model_validate({"behaviour_constraint": None}) == settings()
    with pytest.raises(ValidationError, match="only BCQ-Lag's and BEAR-Lag's"):
        settings.model_validate({"behaviour_constraint": 0.5})


@pytest.mark.parametrize("algorithm", ["cpq", "copti_dice"])
def test_nothing_tempts_a_learner_away_from_a_behaviour_model_to_which_it_does_not_keep(algorithm: str) -> None:
    settings = method_for("safe_rule", ALGORITHMS[algorithm]).settings
    assert settings.model_validate({"press_outnumbered": False}) == settings()
    with pytest.raises(ValidationError, match="only BCQ-Lag's and BEAR-Lag's"):
        settings.model_validate({"press_outnumbered": True})
