"""Learning with an offline check: which of the policies along the way goes into the store, or none."""

from pathlib import Path

import pytest

pytest.importorskip("onnxruntime", reason="a policy passes the gate first, which needs ONNX Runtime")

from learning_cases import SMALL
from patch_samples import SPEC, STEPS, make_dataset

from saferule_ros.evaluation.judge import Judged
from saferule_ros.learning.checkpoint import load_checkpoint
from saferule_ros.learning.settings import TaskLimits
from saferule_ros.learning.trainer import TrainingCancelled
from saferule_ros.patching import judging as judging_module
from saferule_ros.patching.judge_mode import JudgeMode
from saferule_ros.patching.learn import Judging, LearnedPolicy, NothingProposed, learn_policy
from saferule_ros.patching.settings import JudgingSettings
from saferule_ros.policy.store import PolicyStore
from saferule_ros.workspace import Workspace

MODEL = {"members": 2, "hidden": 8, "batch": 16, "single_steps": 60, "unroll_steps": 20, "unroll": 4}
# A rank correlation is never below -1, never above 1; an episode of 20 steps costs between 0 and 20.
TRUSTED, DISTRUSTED = {"correlation": -1.0, "least_within": 0}, {"correlation": 1.0}
ANYTHING, NOTHING = {"share_of_limit": 10.0}, {"share_of_limit": 1e-9}
LEARNING_STEPS, EVERY = 24, 8


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path / "robot").create()
    make_dataset(24).save(made.dataset)
    return made


def learn(
    workspace: Workspace, mode: JudgeMode, rule: dict[str, float], steps: int = LEARNING_STEPS, cancelled=lambda: False,
    on_progress=lambda _: None, on_judging=lambda *_: None,
) -> LearnedPolicy:  # fmt: skip
    settings = JudgingSettings.model_validate({"judge": {"model": MODEL, "starts": 3}, "rule": rule})
    limits = TaskLimits(cost_limit=SPEC.cost_limit, horizon=STEPS)
    return learn_policy(
        workspace, SPEC, limits, SMALL, steps, 0, on_progress, cancelled=cancelled,
        judging=Judging(mode, settings, EVERY, on_judging),
    )  # fmt: skip


@pytest.fixture
def earliest_earns_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the model says is made up; who is asked, and what follows from it, is not."""
    monkeypatch.setattr(judging_module, "_serving", lambda learner: learner.steps_done)
    monkeypatch.setattr(judging_module.Judge, "judge", lambda _, steps: Judged(0.0, 0.0, 100.0 - steps, 0.0))


def test_the_policy_that_is_expected_to_earn_most_is_the_one_that_had_been_learned_by_then(
    workspace: Workspace, tmp_path: Path, earliest_earns_most: None
) -> None:
    learned = learn(workspace, JudgeMode.ADVISE, TRUSTED | ANYTHING)
    assert learned.steps == EVERY and learned.verdict is not None
    assert list(learned.verdict.numbers["judged"]) == ["8", "16", "24"]
    shorter = Workspace(tmp_path / "other").create()
    make_dataset(24).save(shorter.dataset)
    alone = learn(shorter, JudgeMode.NONE, TRUSTED, steps=EVERY)
    assert learned.manifest.checkpoint_id == alone.manifest.checkpoint_id, "bit for bit"
    assert alone.verdict is None and not list(workspace.training.iterdir())
    assert f"step {EVERY} is to earn most" in PolicyStore(workspace.store).audit()[0].reason


def test_without_a_check_nothing_is_kept_along_the_way(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    from saferule_ros.patching import trail

    saved: list[object] = []
    monkeypatch.setattr(trail, "save_checkpoint", lambda *given: saved.append(given))
    assert learn(workspace, JudgeMode.NONE, TRUSTED).steps == LEARNING_STEPS and not saved


@pytest.mark.parametrize("mode", [JudgeMode.ADVISE, JudgeMode.REQUIRE])
def test_where_no_policy_is_within_the_limit_none_is_made_and_the_last_checkpoint_is_kept(
    workspace: Workspace, mode: JudgeMode
) -> None:
    with pytest.raises(NothingProposed, match=r"no candidate is within the limit.*saferule export [0-9a-f]{16}"):
        learn(workspace, mode, TRUSTED | NOTHING)
    assert not (workspace.store / "places.json").exists()
    (kept,) = workspace.checkpoints.iterdir()
    assert load_checkpoint(kept)[0].steps_done == LEARNING_STEPS


def test_a_model_that_fails_its_own_check_leaves_the_last_policy_unless_a_judgement_is_required(
    workspace: Workspace,
) -> None:
    advised = learn(workspace, JudgeMode.ADVISE, DISTRUSTED | ANYTHING)
    assert advised.steps == LEARNING_STEPS and advised.verdict is not None and advised.verdict.step is None
    assert "not judged: the model is not trusted" in PolicyStore(workspace.store).audit()[0].reason
    with pytest.raises(NothingProposed, match="the model is not trusted"):
        learn(workspace, JudgeMode.REQUIRE, DISTRUSTED | ANYTHING)


def test_what_was_cancelled_while_it_was_judged_is_not_learned_again(
    workspace: Workspace, earliest_earns_most: None
) -> None:
    judging: list[float] = []
    with pytest.raises(TrainingCancelled, match="goes on from there"):
        learn(workspace, JudgeMode.ADVISE, TRUSTED | ANYTHING, cancelled=lambda: bool(judging),
              on_judging=lambda share, _: judging.append(share))  # fmt: skip
    learning: list[int] = []
    learned = learn(workspace, JudgeMode.ADVISE, TRUSTED | ANYTHING, on_progress=lambda at: learning.append(at.step))
    assert not learning and learned.steps == EVERY and not list(workspace.training.iterdir())


def test_learning_that_was_stopped_between_two_checkpoints_judges_those_of_before_as_well(
    workspace: Workspace, earliest_earns_most: None
) -> None:
    asked = iter(range(LEARNING_STEPS))
    with pytest.raises(TrainingCancelled):
        learn(workspace, JudgeMode.ADVISE, TRUSTED | ANYTHING, cancelled=lambda: next(asked) == EVERY + 3)
    learned = learn(workspace, JudgeMode.ADVISE, TRUSTED | ANYTHING)
    assert learned.verdict is not None and list(learned.verdict.numbers["judged"]) == ["8", "16", "24"]
    assert learned.steps == EVERY
