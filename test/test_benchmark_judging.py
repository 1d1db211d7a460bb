"""What the measurements of judges are made from: the data that the product judges from, and nothing of other rules."""

import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("gymnasium", reason="the simulator is not installed")

from patch_samples import BAD_BAG, MODEL, make_workspace

from saferule_ros.evaluation.requirements import CannotJudge
from saferule_ros.evaluation.settings import JudgeSettings
from saferule_ros.experiments.preparation import Preparation
from saferule_ros.patching.forget import store_forget_set
from saferule_ros.patching.judging import trusted
from saferule_ros.patching.unlearning import Unlearning
from saferule_ros.unlearning.safe_rule import SafeRule
from saferule_ros.workspace import Workspace

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
import checkpoint_selection as benchmark
from checkpoint_selection import FINAL, JUDGED, PATCH, Candidate, Group
from selection_trails import RUNS, Run, Trial

pytestmark = pytest.mark.usefixtures("quick_classifiers")

SETTINGS = JudgeSettings.model_validate({"model": MODEL, "starts": 3})
SUSPECTS = {"good-03": 20, "good-17": 4}


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Trial:
    """As a grid leaves it."""
    root = tmp_path_factory.mktemp("grid") / "seed-1"
    workspace = Workspace(root / "workspace")
    checkpoint_id = make_workspace(workspace.root, keep_episodes=24).checkpoint_id
    forget_set = store_forget_set(workspace, [BAD_BAG], (), "test", "me").forget_set
    prepared = Preparation(config={}, forget_set_id=forget_set.id, data={}, checkpoint_id=checkpoint_id)
    (root / "preparation.json").write_text(prepared.model_dump_json())
    return Trial("Sample/bcq_lag/injected-0.15/seed-1", root, "Sample", 1)


def judged_from(trial: Trial, run: Run, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The episodes that a judge of its patches is learned from."""
    shown: set[str] = set()

    def judge(data, *_):
        shown.update(record.id for record in data.records)
        raise CannotJudge("enough is seen", "")

    with monkeypatch.context() as patched:
        patched.setattr(benchmark, "Judge", judge)
        with pytest.raises(CannotJudge):
            benchmark.new_judge(trial, SETTINGS, run)
    return shown


def test_judges_are_learned_from_what_a_patch_with_that_method_is_judged_from(trial: Trial, monkeypatch) -> None:
    monkeypatch.setattr(SafeRule, "left_out", property(lambda _: SUSPECTS))
    every = {f"good-{k:02d}" for k in range(24)}
    for name, left_out in ((FINAL, SUSPECTS), ("defaults", SUSPECTS), ("fine-tune", {}), ("learning", {})):
        run = benchmark.run_of(Group(trial, name, []))
        assert judged_from(trial, run, monkeypatch) == every - set(left_out), name
        prepared = Preparation.model_validate_json((trial.root / "preparation.json").read_bytes())
        patch = Unlearning(
            Workspace(trial.root / "workspace"), prepared.checkpoint_id, prepared.forget_set_id, run.method,
            lambda kind, run=run: kind.model_validate(run.settings), 0, trial.seed,
        )  # fmt: skip
        assert {record.id for record in trusted(patch).records} == every - set(left_out), name
    assert (PATCH.method, RUNS["learning"].method) == ("safe_rule", "retrain")


def test_judgements_of_other_versions_or_settings_are_made_again_and_those_of_these_are_not(
    trial: Trial, tmp_path: Path
) -> None:
    workspace = Workspace(trial.root / "workspace")
    prepared = Preparation.model_validate_json((trial.root / "preparation.json").read_bytes())
    candidate = Candidate("step 40", 40, workspace.checkpoint(prepared.checkpoint_id), 1.0, 1.0, None)
    group = Group(trial, "defaults", [candidate])
    asked = []

    def judge():
        asked.append(len(asked))
        return benchmark.new_judge(trial, SETTINGS)

    first = benchmark.judged(group, tmp_path, SETTINGS, judge)
    again = benchmark.judged(group, tmp_path, SETTINGS, judge)
    assert again["judged"] == first["judged"] and len(asked) == 1
    file = tmp_path / trial.name / "defaults" / JUDGED
    without_version = {name: value for name, value in first.items() if name != "version"}
    others = {"settings": JudgeSettings.model_validate({"model": MODEL, "starts": 4}).model_dump()}
    for old in (without_version, first | {"version": 1}, first | others):
        file.write_text(json.dumps(old))
        assert benchmark.stored(group, tmp_path, SETTINGS) is None
    assert benchmark.judged(group, tmp_path, SETTINGS, judge)["judged"] == first["judged"] and len(asked) == 2
