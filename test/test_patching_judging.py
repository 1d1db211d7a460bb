"""A patch's own offline check: which policy is proposed, or none, and what the job's report says of it."""

import json
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime", reason="a patch ends at the gate, which needs ONNX Runtime")

from patch_samples import ANYTHING, BAD_BAG, DISTRUSTED, MODEL, NOTHING, TRAINING_STEPS, TRUSTED, make_workspace

from saferule_ros.errors import SettingsError
from saferule_ros.evaluation.check import ModelCheck
from saferule_ros.evaluation.judge import Judged
from saferule_ros.evaluation.requirements import CannotJudge
from saferule_ros.learning.checkpoint import load_checkpoint
from saferule_ros.learning.trainer import TrainingDiverged
from saferule_ros.patching.forget import store_forget_set
from saferule_ros.patching.job import run_patch
from saferule_ros.patching.origin import Origin
from saferule_ros.patching.progress import PatchCancelled, PatchProgress, Stage
from saferule_ros.patching.report import Outcome, PatchReport
from saferule_ros.patching.request import PatchRequest
from saferule_ros.policy.store import PolicyStore
from saferule_ros.unlearning.safe_rule import SafeRule
from saferule_ros.workspace import Workspace

pytestmark = pytest.mark.usefixtures("quick_classifiers")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    root = tmp_path_factory.mktemp("judged") / "robot"
    make_workspace(root, keep_episodes=24)
    return Workspace(root)


def patch(
    workspace: Workspace, job_id: str, mode: str, rule: dict[str, float] | None, cancelled=lambda: False
) -> tuple[PatchReport, list[PatchProgress]]:
    forget_set = store_forget_set(workspace, [BAD_BAG], (), "test", "me").forget_set
    folder = workspace.job(job_id)
    folder.mkdir()
    (folder / "settings.yaml").write_text(json.dumps({"checkpoint_every": 4}))
    (folder / "judging.yaml").write_text(json.dumps({"judge": {"model": MODEL, "starts": 3}, "rule": rule}))
    request = PatchRequest(
        job_id=job_id, workspace=workspace.root, forget_set_id=forget_set.id, steps=12, seed=3, judge=mode,
        settings=folder / "settings.yaml", judging=folder / "judging.yaml" if rule else None, threads=1,
    )  # fmt: skip
    seen: list[PatchProgress] = []
    return run_patch(request, seen.append, cancelled), seen


def test_of_the_policies_within_the_limit_the_one_that_earns_most_is_proposed(workspace: Workspace) -> None:
    report, seen = patch(workspace, "chosen", "advise", TRUSTED | ANYTHING)
    judged = report.judgement["judged"]
    assert list(judged) == ["4", "8", "12"]
    best = max(judged, key=lambda step: judged[step]["episode_return"])
    assert report.outcome is Outcome.SUCCEEDED and report.checkpoint_step == int(best) == report.judgement["step"]
    assert "3 of 3 candidates are within the limit" in report.checkpoint_rule
    stages = list(dict.fromkeys(at.stage for at in seen))
    assert stages[:3] == [Stage.UNLEARNING, Stage.JUDGING, Stage.EXPORTING]
    assert [at.progress for at in seen] == sorted(at.progress for at in seen)


def test_the_policy_that_is_patched_is_judged_beside_the_others(workspace: Workspace, monkeypatch) -> None:
    import saferule_ros.patching.judging as judging

    monkeypatch.setattr(judging, "_serving", lambda learner: learner.steps_done)
    monkeypatch.setattr(judging.Judge, "judge", lambda _, steps: Judged(float(steps), 0.0, 1.0, 0.0))
    judgement = patch(workspace, "parent", "advise", TRUSTED | ANYTHING)[0].judgement
    assert judgement["parent"]["cost"] == TRAINING_STEPS
    assert [one["cost"] for one in judgement["judged"].values()] == [TRAINING_STEPS + step for step in (4, 8, 12)]


def test_the_candidate_is_the_very_checkpoint_that_was_chosen(workspace: Workspace, monkeypatch) -> None:
    """Made to choose an early one: everything after it is of that one, certificate and origin included."""
    import saferule_ros.patching.judging as judging

    plain = judging.select
    monkeypatch.setattr(judging, "select", lambda judged, *rest: plain({4: judged[4]}, *rest))
    report, _ = patch(workspace, "early", "advise", TRUSTED | ANYTHING)
    assert report.checkpoint_step == 4
    (kept,) = (kept for kept in report.checkpoints if kept.step == 4)
    proposed = load_checkpoint(workspace.checkpoint(report.checkpoint_id))[0]
    there = load_checkpoint(workspace.job("early") / "checkpoints" / kept.checkpoint_id)[0]
    assert all((a == b).all() for a, b in zip(proposed.critics.parameters(), there.critics.parameters(), strict=True))
    assert proposed.steps_done == there.steps_done
    manifest = PolicyStore(workspace.store).get(report.candidate_id).manifest
    assert manifest.checkpoint_id == report.checkpoint_id
    assert Origin.load(workspace.checkpoint(report.checkpoint_id)).steps == 4
    assert report.certificate["q_cost_forget"] == manifest.certificate["q_cost_forget"]


@pytest.mark.parametrize("mode", ["advise", "require"])
def test_if_a_trusted_model_finds_none_within_the_limit_nothing_is_proposed(workspace: Workspace, mode: str) -> None:
    store, places = PolicyStore(workspace.store), workspace.store / "places.json"
    waiting = store.require("active")
    store.set_candidate(waiting)
    before = places.read_bytes()
    report, _ = patch(workspace, f"none-{mode}", mode, TRUSTED | NOTHING)
    assert report.outcome is Outcome.WITHHELD and not report.candidate_id and not report.success
    assert "nothing is proposed: no candidate is within the limit: the least bound is" in report.message
    assert report.message.endswith(f"What serves was not touched. The candidate is still {waiting}, of before")
    parent = report.judgement["parent"]
    assert f"of the policy that was patched the bound is {parent['bound']:.1f}" in report.message
    assert set(report.judgement["judged"]) == {"4", "8", "12"} and report.judgement["check"]["episodes"] > 0
    assert places.read_bytes() == before, "the candidate of before stays"


def test_a_model_that_fails_its_own_check_decides_nothing_unless_a_judgement_is_required(workspace: Workspace) -> None:
    advised, _ = patch(workspace, "unjudged", "advise", DISTRUSTED | ANYTHING)
    assert advised.success and advised.checkpoint_step == 12 and advised.judgement["step"] is None
    assert "the last of a fixed number of steps; not judged: the model is not trusted" in advised.checkpoint_rule
    required, _ = patch(workspace, "required", "require", DISTRUSTED | ANYTHING)
    assert required.outcome is Outcome.WITHHELD and "the model is not trusted" in required.message


def test_the_model_is_not_shown_episodes_that_look_like_forgotten_ones(workspace: Workspace, monkeypatch) -> None:
    import saferule_ros.patching.judging as judging

    shown = []

    def judge(keep, *rest):
        shown.extend(record.id for record in keep.records)
        raise CannotJudge("enough is seen", "")

    monkeypatch.setattr(judging, "Judge", judge)
    monkeypatch.setattr(SafeRule, "left_out", property(lambda _: {"good-03": 20, "good-17": 4}))
    report, _ = patch(workspace, "suspects", "advise", TRUSTED)
    assert set(shown) == {f"good-{k:02d}" for k in range(24)} - {"good-03", "good-17"}
    assert report.left_out == {"good-03": 20, "good-17": 4} and "enough is seen" in report.checkpoint_rule
    monkeypatch.setattr(SafeRule, "left_out", property(lambda _: {f"good-{k:02d}": 1 for k in range(24)}))
    report, _ = patch(workspace, "all-suspect", "advise", TRUSTED)
    assert "in each of 24 episodes are steps like those to forget" in report.checkpoint_rule


def test_judging_can_be_cancelled(workspace: Workspace) -> None:
    asked = iter([False] * 20)  # 12 before the steps of the patch, then those of the model
    with pytest.raises(PatchCancelled, match="cancelled after 8 of 80 steps of the model"):
        patch(workspace, "stopped", "advise", TRUSTED, lambda: next(asked, True))


def test_without_a_mode_nothing_is_judged(workspace: Workspace) -> None:
    report, seen = patch(workspace, "off", "none", None)
    assert report.success and report.judgement == {} and Stage.JUDGING not in {at.stage for at in seen}
    assert report.checkpoint_rule == "the policy after the last of a fixed number of steps"


def test_with_few_episodes_nothing_can_be_judged(tmp_path: Path) -> None:
    make_workspace(tmp_path)
    few = Workspace(tmp_path)
    advised, _ = patch(few, "few", "advise", TRUSTED)
    assert advised.success and "not judged: there are 12 episodes" in advised.checkpoint_rule
    required, _ = patch(few, "few-required", "require", TRUSTED)
    assert required.outcome is Outcome.WITHHELD and required.budget["steps"] == 12 and required.digests["dataset"]


def test_a_model_that_cannot_be_learned_is_as_good_as_none(workspace: Workspace, monkeypatch) -> None:
    import saferule_ros.patching.judging as judging

    def diverge(*_, **__):
        raise TrainingDiverged("observations is nan at step 50", "")

    monkeypatch.setattr(judging, "Judge", diverge)
    report, _ = patch(workspace, "diverged", "advise", TRUSTED)
    assert report.success and "not judged: observations is nan" in report.checkpoint_rule


def test_what_is_not_known_comes_back_as_such(workspace: Workspace, monkeypatch, tmp_path: Path) -> None:
    """Held-out episodes that all cost the same have no order."""
    import saferule_ros.evaluation.judge as judge

    nan = float("nan")
    nothing = ModelCheck(episodes=10, correlation=nan, predicted=1.0, logged=0.0, within=0, shortfall=nan)
    monkeypatch.setattr(judge, "check_model", lambda *_: nothing)
    report, _ = patch(workspace, "no-order", "advise", TRUSTED)
    (tmp_path / "report.json").write_text(report.model_dump_json())
    assert PatchReport.load(tmp_path).judgement["check"]["correlation"] is None


def test_settings_of_the_check_are_read_from_a_file_and_refused_where_they_are_wrong(workspace: Workspace) -> None:
    with pytest.raises(Exception, match=r"correlation = 2\.0"):
        patch(workspace, "wrong", "advise", {"correlation": 2.0})
    with pytest.raises(SettingsError, match=r"is not asked for.*Set judge to advise or require"):
        patch(workspace, "unasked", "none", TRUSTED)


def test_what_was_judged_is_in_the_stored_report(workspace: Workspace, tmp_path: Path) -> None:
    report, _ = patch(workspace, "stored", "advise", TRUSTED | ANYTHING)
    (tmp_path / "report.json").write_text(report.model_dump_json())
    assert PatchReport.load(tmp_path).judgement == report.judgement
