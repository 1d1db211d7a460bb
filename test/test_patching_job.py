"""A patch job from request to report, on a real workspace: policy, dataset and forget set on disk."""

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime", reason="a patch ends at the gate, which needs ONNX Runtime")

from dice_cases import QUICK
from patch_samples import BAD_BAG, BAD_EPISODES, KEEP_EPISODES, STEPS, make_workspace

from saferule_ros.dataset.errors import ForgetSetError
from saferule_ros.errors import SettingsError
from saferule_ros.learning.algorithms import ALGORITHMS
from saferule_ros.learning.checkpoint import load_checkpoint
from saferule_ros.patching.cleaning import RECENT, NotCleaned, remove_unneeded_checkpoints
from saferule_ros.patching.forget import store_forget_set
from saferule_ros.patching.job import METHOD, run_patch
from saferule_ros.patching.lock import WorkspaceBusy, only_worker, patch_lock
from saferule_ros.patching.origin import ORIGIN_FILE, Origin, OriginError
from saferule_ros.patching.progress import PatchCancelled, PatchProgress
from saferule_ros.patching.readiness import NotPatchable, check_can_patch
from saferule_ros.patching.report import REPORT_FILE, PatchReport
from saferule_ros.patching.request import PatchRequest
from saferule_ros.patching.settings import unlearning_settings
from saferule_ros.patching.unlearning import Unlearning
from saferule_ros.policy.store import PolicyStore
from saferule_ros.unlearning.methods import method_for
from saferule_ros.unlearning.settings import RunSettings
from saferule_ros.workspace import Workspace

pytestmark = pytest.mark.usefixtures("quick_classifiers")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    root = tmp_path_factory.mktemp("job") / "robot"
    make_workspace(root)
    return Workspace(root)


def patch(workspace: Workspace, job_id: str, settings: dict[str, object], cancelled=lambda: False, **selected):
    forget_set = store_forget_set(workspace, (), (), "test", "me", **selected) if selected else store_forget_set(
        workspace, [BAD_BAG], (), "test", "me"
    )  # fmt: skip
    workspace.job(job_id).mkdir(exist_ok=True)
    file = workspace.job(job_id) / "settings.yaml"
    file.write_text(json.dumps(settings))
    request = PatchRequest(
        job_id=job_id, workspace=workspace.root, forget_set_id=forget_set.forget_set.id, steps=12, seed=3,
        settings=file, threads=1,
    )  # fmt: skip
    seen: list[PatchProgress] = []
    return run_patch(request, seen.append, cancelled), seen


@pytest.fixture(scope="module")
def report(workspace: Workspace) -> PatchReport:
    return patch(workspace, "first", {"held_out": 0.25, "checkpoint_every": 5})[0]


def test_the_certificate_is_of_data_that_was_withheld(report: PatchReport) -> None:
    certificate = report.certificate
    assert certificate["held_out_forget"] == BAD_EPISODES // 4 * STEPS
    assert certificate["held_out_keep"] == KEEP_EPISODES // 4 * STEPS
    assert report.q_cost_required == certificate["q_cost_required"]


def test_checkpoints_along_the_way_are_listed_and_can_be_loaded(workspace: Workspace, report: PatchReport) -> None:
    assert [kept.step for kept in report.checkpoints] == [5, 10], "early ones, and not the last, which is the candidate"
    parent = PolicyStore(workspace.store).active().manifest.checkpoint_id
    trained = load_checkpoint(workspace.checkpoint(parent))[0].steps_done
    for kept in report.checkpoints:
        learner, digest = load_checkpoint(workspace.job("first") / "checkpoints" / kept.checkpoint_id)
        assert learner.steps_done == trained + kept.step
        assert digest == report.digests["dataset"]


def test_the_report_says_what_it_cost(report: PatchReport) -> None:
    assert report.budget["steps"] == 12
    assert 0.0 <= report.forget_weight <= 1.0
    assert report.budget["flops"] > 0 and report.budget["seconds"] > 0
    assert report.budget["seconds"] <= report.seconds["loading"] + report.seconds["unlearning"]


def test_keeping_checkpoints_changes_nothing_in_the_patch(workspace: Workspace, report: PatchReport) -> None:
    without, _ = patch(workspace, "second", {"held_out": 0.25, "checkpoint_every": 0})
    assert without.checkpoints == []
    one, other = (
        json.loads((workspace.checkpoint(of.checkpoint_id) / "checkpoint.json").read_text()) for of in (without, report)
    )
    assert one.pop("made_for") != other.pop("made_for"), "two requests, at two times"
    assert one == other, "the same learner, bit for bit: the digest of all tensors is in it"


def test_single_steps_can_be_forgotten(workspace: Workspace) -> None:
    report, seen = patch(workspace, "steps", {}, steps=[("bad-00", 3, 9), ("bad-01", 0, 4)])
    assert report.success and seen[-1].progress == 1.0
    assert report.certificate["held_out_forget"] == 2


def test_a_second_patch_goes_on_to_forget_what_the_first_had_to(tmp_path: Path) -> None:
    """Otherwise the poison of the first, with its erased costs, is among what the second learns from."""
    make_workspace(tmp_path)
    workspace, store = Workspace(tmp_path), PolicyStore(tmp_path / "store")
    sets, reports = [], []
    for number, forgotten in enumerate((["bad-00", "bad-01"], ["bad-02"], ["bad-00", "bad-01"])):
        found = store_forget_set(workspace, (), forgotten, f"request {number}", "me").forget_set
        sets.append(found.id)
        workspace.job(str(number)).mkdir()
        request = PatchRequest(job_id=str(number), workspace=workspace.root, forget_set_id=found.id, steps=3, seed=3)
        reports.append(run_patch(request, lambda _: None, lambda: False))
        store.activate(reports[-1].candidate_id)
    assert [report.forgotten_before for report in reports] == [[], sets[:1], sets[:2]]

    def read(kind: type[RunSettings]) -> RunSettings:
        return kind(held_out=0.0)

    second = Unlearning(workspace, reports[0].checkpoint_id, sets[1], "safe_rule", read, 3, 3)
    kept = {record.id for record in second.keep.records}
    assert kept == {f"good-{k:02d}" for k in range(KEEP_EPISODES)} | {"bad-03"}
    assert second.certified.run.forget.size == 3 * STEPS

    first = workspace.forget_sets / f"{sets[0]}.json"
    first.unlink()
    with pytest.raises(ForgetSetError, match=sets[0]):
        Unlearning(workspace, reports[0].checkpoint_id, sets[1], "safe_rule", read, 3, 3)
    (workspace.checkpoint(reports[0].checkpoint_id) / "origin.json").write_text("{")
    with pytest.raises(OriginError, match=r"origin\.json"):
        Unlearning(workspace, reports[0].checkpoint_id, sets[1], "safe_rule", read, 3, 3)


def test_what_no_policy_needs_any_more_is_removed_and_the_next_patch_goes_on(tmp_path: Path) -> None:
    first = make_workspace(tmp_path)
    workspace, store = Workspace(tmp_path), PolicyStore(tmp_path / "store")
    reports = []
    for number, episode in enumerate(("bad-00", "bad-01", "bad-02")):
        reports.append(patch(workspace, f"job-{number}", {"checkpoint_every": 5}, steps=[(episode, 0, 9)])[0])
        (workspace.job(f"job-{number}") / REPORT_FILE).write_text(reports[-1].model_dump_json())  # as its worker does
        store.activate(reports[-1].candidate_id)
    (workspace.checkpoints / ".writing-0123-checkpoint").mkdir()  # what a kill left
    (workspace.checkpoints / "made-just-now").mkdir()
    longer_ago = time.time() - 2 * RECENT
    for folder in workspace.checkpoints.iterdir():
        if folder.name != "made-just-now":
            os.utime(folder, (longer_ago, longer_ago))
    with patch_lock(workspace, "another"), pytest.raises(WorkspaceBusy, match="another"):
        remove_unneeded_checkpoints(workspace)
    with only_worker(workspace.training / "learning"), pytest.raises(WorkspaceBusy, match="somebody learns"):
        remove_unneeded_checkpoints(workspace)
    store.prune(0)
    cleaned = remove_unneeded_checkpoints(workspace)
    assert set(cleaned.checkpoints) == {first.checkpoint_id, reports[0].checkpoint_id}
    assert cleaned.jobs == ("job-0", "job-1") and cleaned.size > 10_000
    needed = {reports[1].checkpoint_id, reports[2].checkpoint_id, "made-just-now"}  # of previous and active
    assert {folder.name for folder in workspace.checkpoints.iterdir()} == needed
    assert list((workspace.job("job-2") / "checkpoints").iterdir()) and PatchReport.load(workspace.job("job-0"))
    assert patch(workspace, "job-3", {}, steps=[("bad-03", 0, 9)])[0].success
    assert remove_unneeded_checkpoints(workspace).checkpoints == ()


def test_where_a_policy_is_damaged_no_checkpoint_is_removed(tmp_path: Path) -> None:
    made = make_workspace(tmp_path)
    (tmp_path / "store" / "bundles" / made.bundle_id / "manifest.json").write_text("{}")
    with pytest.raises(NotCleaned, match=f"policy {made.bundle_id} is damaged"):
        remove_unneeded_checkpoints(Workspace(tmp_path))


@pytest.mark.parametrize("said", [None, "another"])
def test_a_policy_whose_checkpoint_does_not_say_what_it_had_to_forget_is_not_patched(
    tmp_path: Path, said: str | None
) -> None:
    """A checkpoint that was copied without that file: the patch would learn from what was forgotten once."""
    make_workspace(tmp_path)
    workspace, store = Workspace(tmp_path), PolicyStore(tmp_path / "store")
    first, _ = patch(workspace, "first", {})
    store.activate(first.candidate_id)
    check_can_patch(workspace)
    origin = workspace.checkpoint(first.checkpoint_id) / ORIGIN_FILE
    whole = origin.read_text()
    origin.unlink()
    if said:
        origin.write_text(whole.replace(first.forget_set_id, said))
    for start in (lambda: check_can_patch(workspace), lambda: patch(workspace, "second", {}, steps=[("bad-00", 0, 4)])):
        with pytest.raises(OriginError, match=rf"had to forget {first.forget_set_id}.*{said or 'has no origin'}"):
            start()
    assert store.place("candidate") is None


def test_the_same_steps_forgotten_for_another_reason_leave_the_first_policy_patchable(tmp_path: Path) -> None:
    make_workspace(tmp_path)
    workspace, store = Workspace(tmp_path), PolicyStore(tmp_path / "store")
    reports = []
    for reason in ("unplugged", "again"):
        found = store_forget_set(workspace, (), ["bad-00"], reason, "me").forget_set
        workspace.job(reason).mkdir()
        request = PatchRequest(job_id=reason, workspace=workspace.root, forget_set_id=found.id, steps=3, seed=3)
        reports.append(run_patch(request, lambda _: None, lambda: False))
    for report in reports:
        assert Origin.load(workspace.checkpoint(report.checkpoint_id)).forget_set_id == report.forget_set_id
        store.activate(report.candidate_id)
        check_can_patch(workspace)


def test_a_policy_on_trial_is_not_patched_until_it_has_proved_good(tmp_path: Path) -> None:
    before = make_workspace(tmp_path)
    workspace, store = Workspace(tmp_path), PolicyStore(tmp_path / "store")
    first, _ = patch(workspace, "first", {})
    store.activate(first.candidate_id, trial=True)
    for start in (lambda: check_can_patch(workspace), lambda: patch(workspace, "second", {}, steps=[("bad-00", 0, 4)])):
        with pytest.raises(NotPatchable, match=f"{first.candidate_id} is on trial"):
            start()
    store.prove_good(first.candidate_id)
    assert check_can_patch(workspace).bundle_id == first.candidate_id != before.bundle_id


def test_a_cancelled_job_leaves_its_checkpoints_in_its_own_folder_only(workspace: Workspace) -> None:
    before = set(workspace.checkpoints.iterdir())
    asked = iter([False] * 7 + [True] * 9)
    with pytest.raises(PatchCancelled, match="cancelled after 7 of 12 steps"):
        patch(workspace, "cancelled", {"checkpoint_every": 3}, cancelled=lambda: next(asked))
    assert len(list((workspace.job("cancelled") / "checkpoints").iterdir())) == 2
    assert set(workspace.checkpoints.iterdir()) == before


LEARN_AND_PATCH = """
import sys
from pathlib import Path
from patch_samples import make_workspace
from test_patching_job import patch
from saferule_ros.workspace import Workspace

root = Path(sys.argv[1])
make_workspace(root)
report, _ = patch(Workspace(root), "job", {"checkpoint_every": 5})
assert report.success
print(sorted({"torch._dynamo", "torch._inductor", "sympy"} & set(sys.modules)))
"""


def test_neither_learning_nor_a_patch_imports_torchs_compiler(tmp_path: Path) -> None:
    """It is never used, and costs a robot a second of each patch, and memory."""
    done = subprocess.run(
        [sys.executable, "-c", LEARN_AND_PATCH, str(tmp_path / "robot")], cwd=Path(__file__).parent,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_share_that_makes_no_sense_is_refused(workspace: Workspace) -> None:
    with pytest.raises(SettingsError, match=r"held_out = 0\.6"):
        patch(workspace, "wrong", {"held_out": 0.6})


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_settings_are_checked_before_a_job_as_the_job_itself_reads_them(algorithm: str) -> None:
    assert type(unlearning_settings(algorithm, None)) is method_for(METHOD, ALGORITHMS[algorithm]).settings


def test_an_algorithm_that_nobody_knows_is_named_before_a_job() -> None:
    with pytest.raises(SettingsError, match=r"unknown algorithm 'td3'.*bcq_lag"):
        unlearning_settings("td3", None)


def test_a_checkpoint_that_cannot_be_read_is_named_before_a_job(tmp_path: Path) -> None:
    make_workspace(tmp_path)
    damaged = Workspace(tmp_path)
    index = next(damaged.checkpoints.iterdir()) / "checkpoint.json"
    index.write_text("{")
    with pytest.raises(NotPatchable, match=r"checkpoint.json' cannot be read.*Copy the checkpoint"):
        check_can_patch(damaged)


def test_reports_of_older_versions_are_read(report: PatchReport, tmp_path: Path) -> None:
    old = json.loads(report.model_dump_json())
    for name in ("checkpoints", "budget"):
        del old[name]
    (tmp_path / "report.json").write_text(json.dumps(old))
    assert PatchReport.load(tmp_path).checkpoints == []


def test_a_policy_of_copti_dice_is_patched_and_certified_as_well(tmp_path: Path) -> None:
    make_workspace(tmp_path, QUICK)
    workspace = Workspace(tmp_path)
    report, seen = patch(workspace, "dice", {"price_rate": 1.0})
    candidate = PolicyStore(workspace.store).get(report.candidate_id).manifest
    assert candidate.algorithm == "copti_dice+safe_rule"
    assert math.isfinite(report.q_cost_forget) and math.isfinite(report.certificate["residual_reward"])
    assert any(math.isfinite(at.loss_actor) for at in seen)
