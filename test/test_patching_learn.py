"""Learning with an offline check: which of the policies along the way goes into the store, or none."""

import shutil
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime", reason="a policy passes the gate first, which needs ONNX Runtime")

from learning_cases import SMALL
from patch_samples import ANYTHING, DISTRUSTED, MODEL, NOTHING, SPEC, STEPS, TRUSTED, make_dataset

from saferule_ros.errors import SaferuleError
from saferule_ros.evaluation.judge import Judged
from saferule_ros.evaluation.requirements import CannotJudge
from saferule_ros.learning.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from saferule_ros.learning.learner import Learner
from saferule_ros.learning.settings import TaskLimits
from saferule_ros.learning.trainer import TrainingCancelled
from saferule_ros.patching import judging as judging_module
from saferule_ros.patching.export import export_bundle
from saferule_ros.patching.judge_mode import JudgeMode
from saferule_ros.patching.learn import Judging, LearnedPolicy, NothingProposed, learn_policy
from saferule_ros.patching.lock import WorkspaceBusy
from saferule_ros.patching.settings import JudgingSettings
from saferule_ros.policy.refusals import ContractError
from saferule_ros.policy.store import PolicyStore
from saferule_ros.workspace import Workspace

NEVER = {"correlation": 1.0, "share_of_limit": 1e-9}
LEARNING_STEPS, EVERY = 24, 8


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path / "robot").create()
    make_dataset(24).save(made.dataset)
    return made


def learn(
    workspace: Workspace, mode: JudgeMode, rule: dict[str, float], steps: int = LEARNING_STEPS, cancelled=lambda: False,
    on_progress=lambda _: None, on_judging=lambda *_: None, every: int = EVERY,
) -> LearnedPolicy:  # fmt: skip
    settings = JudgingSettings.model_validate({"judge": {"model": MODEL, "starts": 3}, "rule": rule})
    limits = TaskLimits(cost_limit=SPEC.cost_limit, horizon=STEPS)
    return learn_policy(
        workspace, SPEC, limits, SMALL, steps, 0, on_progress, cancelled=cancelled,
        judging=Judging(mode, settings, every, on_judging),
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
def test_where_no_policy_is_within_the_limit_none_is_made_and_the_last_checkpoint_can_be_exported(
    workspace: Workspace, mode: JudgeMode
) -> None:
    with pytest.raises(NothingProposed, match=r"no candidate is within the limit.*`saferule export`") as refused:
        learn(workspace, mode, TRUSTED | NOTHING)
    assert not (workspace.store / "places.json").exists()
    assert load_checkpoint(workspace.checkpoint(refused.value.checkpoint_id))[0].steps_done == LEARNING_STEPS
    assert list(refused.value.verdict.numbers["judged"]) == ["8", "16", "24"]
    exported = export_bundle(workspace, refused.value.checkpoint_id, SPEC, seed=0)
    assert [entry.bundle_id for entry in PolicyStore(workspace.store).list()] == [exported.bundle_id]


def test_what_was_learned_and_not_proposed_is_judged_anew_with_other_settings(workspace: Workspace) -> None:
    with pytest.raises(NothingProposed):
        learn(workspace, JudgeMode.ADVISE, TRUSTED | NOTHING)
    learning: list[int] = []
    learned = learn(workspace, JudgeMode.ADVISE, TRUSTED | ANYTHING, on_progress=lambda at: learning.append(at.step))
    assert not learning and learned.verdict is not None
    assert list(learned.verdict.numbers["judged"]) == ["8", "16", "24"] and not list(workspace.training.iterdir())


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
    with pytest.raises(TrainingCancelled, match="the same command judges anew"):
        learn(workspace, JudgeMode.ADVISE, TRUSTED | ANYTHING, cancelled=lambda: bool(judging),
              on_judging=lambda share, _: judging.append(share))  # fmt: skip
    learning: list[int] = []
    learned = learn(workspace, JudgeMode.ADVISE, TRUSTED | ANYTHING, on_progress=lambda at: learning.append(at.step))
    assert not learning and learned.steps == EVERY and not list(workspace.training.iterdir())


def test_the_same_that_is_learned_by_two_at_once_is_refused_to_the_second(
    workspace: Workspace, earliest_earns_most: None
) -> None:
    """It would remove the checkpoints of the first, who fails at the end of its work."""

    def another(share: float, _: float) -> None:
        with pytest.raises(WorkspaceBusy, match=r"another process makes the same in '.*fuser "):
            learn(workspace, JudgeMode.ADVISE, TRUSTED | ANYTHING)

    learned = learn(workspace, JudgeMode.ADVISE, TRUSTED | ANYTHING, on_judging=another)
    assert learned.steps == EVERY and not list(workspace.training.iterdir())


def test_a_policy_for_another_robot_takes_no_active_ones_place_unasked(workspace: Workspace) -> None:
    limits = TaskLimits(cost_limit=SPEC.cost_limit, horizon=STEPS)
    first = learn_policy(workspace, SPEC, limits, SMALL, 3, 0).manifest
    faster = SPEC.model_copy(update={"control_rate": 50.0, "action_high": (3.0, 3.0)})
    learning: list[int] = []
    with pytest.raises(ContractError, match=r"action_high.*control_rate|control_rate.*action_high"):
        learn_policy(workspace, faster, limits, SMALL, 3, 0, lambda at: learning.append(at.step))
    assert not learning and PolicyStore(workspace.store).active().manifest == first
    assert not learn_policy(workspace, faster, limits, SMALL, 3, 0, activate=None).active
    learned = learn_policy(workspace, faster, limits, SMALL, 4, 0, new_contract=True)
    assert learned.active and PolicyStore(workspace.store).active().manifest == learned.manifest


def at_step(learner: Learner, step: int) -> Learner:
    learner.steps_done = step
    return learner


def stopped(workspace: Workspace, mode: JudgeMode, after: int, **changes: int) -> None:
    asked = iter(range(100))
    with pytest.raises(TrainingCancelled):
        learn(workspace, mode, TRUSTED | ANYTHING, cancelled=lambda: next(asked) == after, **changes)


@pytest.mark.parametrize(
    ("mode", "changes"),
    [(JudgeMode.ADVISE, {}), (JudgeMode.ADVISE, {"every": 6}), (JudgeMode.ADVISE, {"steps": 16}), (JudgeMode.NONE, {})],
    ids=["the same", "other steps between two policies", "fewer steps", "without a check"],
)
def test_however_learning_was_stopped_all_policies_along_the_way_are_judged(
    workspace: Workspace, earliest_earns_most: None, mode: JudgeMode, changes: dict[str, int]
) -> None:
    stopped(workspace, mode, 11, **changes)
    learned = learn(workspace, JudgeMode.ADVISE, TRUSTED | ANYTHING)
    assert learned.verdict is not None and list(learned.verdict.numbers["judged"]) == ["8", "16", "24"]
    assert learned.steps == EVERY


def test_a_run_that_goes_on_to_more_steps_judges_what_was_its_last_policy_as_well(
    workspace: Workspace, earliest_earns_most: None
) -> None:
    with pytest.raises(NothingProposed):
        learn(workspace, JudgeMode.REQUIRE, NEVER, steps=16)
    learned = learn(workspace, JudgeMode.ADVISE, TRUSTED | ANYTHING)
    assert learned.verdict is not None and list(learned.verdict.numbers["judged"]) == ["8", "16", "24"]


def test_what_a_kill_left_beyond_the_last_save_is_not_trusted(workspace: Workspace, earliest_earns_most: None) -> None:
    stopped(workspace, JudgeMode.ADVISE, 11)
    (run,) = workspace.training.iterdir()
    (kept,) = (run / "checkpoints").iterdir()
    later = save_checkpoint(at_step(load_checkpoint(kept)[0], 16), run / "checkpoints", "")
    learned = learn(workspace, JudgeMode.ADVISE, TRUSTED | ANYTHING)
    assert not (run / "checkpoints" / later).exists() and learned.steps == EVERY


def test_fewer_steps_than_a_run_had_taken_are_taken_anew(workspace: Workspace, earliest_earns_most: None) -> None:
    stopped(workspace, JudgeMode.ADVISE, 17)
    learned = learn(workspace, JudgeMode.ADVISE, TRUSTED | ANYTHING, steps=16)
    assert learned.verdict is not None and list(learned.verdict.numbers["judged"]) == ["8", "16"]


def test_a_checkpoint_that_was_half_written_is_no_hindrance(workspace: Workspace, earliest_earns_most: None) -> None:
    stopped(workspace, JudgeMode.ADVISE, 11)
    (run,) = workspace.training.iterdir()
    (run / "checkpoints" / ".writing-4242").mkdir()
    learned = learn(workspace, JudgeMode.ADVISE, TRUSTED | ANYTHING)
    assert learned.verdict is not None and list(learned.verdict.numbers["judged"]) == ["8", "16", "24"]


@pytest.mark.parametrize("where", ["checkpoints/*/tensors.safetensors", "latest/*/checkpoint.json"])
def test_what_is_damaged_of_a_stopped_run_is_told_before_anything_is_learned(workspace: Workspace, where: str) -> None:
    stopped(workspace, JudgeMode.ADVISE, 11)
    (run,) = workspace.training.iterdir()
    (damaged,) = run.glob(where)
    damaged.write_bytes(damaged.read_bytes()[:-3])
    learning: list[int] = []
    with pytest.raises(CheckpointError, match=f"Remove {run}: the same command then learns anew"):
        learn(workspace, JudgeMode.ADVISE, TRUSTED, on_progress=lambda at: learning.append(at.step))
    assert not learning
    shutil.rmtree(run)
    assert learn(workspace, JudgeMode.ADVISE, DISTRUSTED).steps == LEARNING_STEPS


def test_what_the_gate_refused_is_not_learned_again(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    from saferule_ros.patching import learn as module

    def refuse(*_: object) -> None:
        raise SaferuleError("the disk is full")

    monkeypatch.setattr(module, "pass_gate", refuse)
    with pytest.raises(SaferuleError, match="the disk is full"):
        learn(workspace, JudgeMode.ADVISE, DISTRUSTED)
    monkeypatch.undo()
    learning: list[int] = []
    learn(workspace, JudgeMode.ADVISE, DISTRUSTED, on_progress=lambda at: learning.append(at.step))
    assert not learning and not list(workspace.training.iterdir())


def test_data_that_does_not_do_for_a_judge_is_told_before_anything_is_learned(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "robot").create()
    make_dataset(12).save(workspace.dataset)
    learning: list[int] = []
    with pytest.raises(CannotJudge, match=r"there are 16 episodes to learn from.*20 or more"):
        learn(workspace, JudgeMode.REQUIRE, TRUSTED, on_progress=lambda at: learning.append(at.step))
    assert not learning
    advised = learn(workspace, JudgeMode.ADVISE, TRUSTED)
    assert advised.verdict is not None and advised.verdict.reason.startswith("not judged: there are 16 episodes")
