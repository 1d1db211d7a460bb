"""A trial from data to results, stopped and gone on with; what is asked is checked before anything runs."""

import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("gymnasium", reason="the simulator is not installed")

from experiment_samples import SMALL, TASK, tiny_grid, tiny_trial

from saferule_ros import __version__
from saferule_ros.errors import SettingsError
from saferule_ros.experiments import settings as experiment_settings
from saferule_ros.experiments.cancelling import TrialCancelled
from saferule_ros.experiments.plan import plan
from saferule_ros.experiments.preparation import OtherSettings
from saferule_ros.experiments.runner import run_trials
from saferule_ros.experiments.saying import TrialProgress
from saferule_ros.experiments.settings import Trial
from saferule_ros.experiments.sharing import only_one
from saferule_ros.experiments.trial import finished, run_trial
from saferule_ros.learning.algorithms import ALGORITHMS
from saferule_ros.reporting.trials import TrialResult
from saferule_ros.unlearning.methods import NAMES as METHOD_NAMES

NEVER = lambda: False  # noqa: E731


def test_a_plan_has_every_combination_once_and_every_cell_before_the_next_seed() -> None:
    block = {"tasks": ["SafetyPointCircle1"], "algorithms": ["bcq_lag", "copti_dice"], "ratios": [0.05, 0.1]}
    trials = plan(tiny_grid(cells=[block, {**block, "algorithms": ["bcq_lag"]}], seeds=[1, 2, 2]))
    assert len(trials) == 2 * 2 * 2
    assert [trial.seed for trial in trials] == [1] * 4 + [2] * 4
    assert len({trial.name for trial in trials}) == len(trials)
    assert trials[0].cell.task == TASK, "with its version"


def test_a_plan_has_every_method_on_every_learner_with_the_settings_that_it_has_there() -> None:
    block = {"tasks": ["SafetyPointCircle1"], "algorithms": list(ALGORITHMS)}
    trials = {trial.cell.algorithm: trial for trial in plan(tiny_grid(cells=[block], methods=list(METHOD_NAMES)))}
    assert all(tuple(trial.methods) == METHOD_NAMES for trial in trials.values())
    for method in ("safe_rule", "reward_only"):
        assert "price_cap" in trials["copti_dice"].methods[method]
        assert "price_cap" not in trials["bcq_lag"].methods[method]
    assert "cost_weight" not in trials["copti_dice"].methods["reward_only"]


def test_data_of_attacks_that_moved_observations_in_stretches_is_not_that_of_before_and_all_other_is() -> None:
    def versions(attack: str, segment: int) -> set[str]:
        cell = {"tasks": ["SafetyPointCircle1"], "attacks": [attack]}
        return {name for name in tiny_trial(cells=[cell], attacks={attack: {"segment": segment}}).preparation
                if name.endswith("version")}  # fmt: skip

    for attack in ("trigger", "max_cost"):
        assert versions(attack, 5) - versions(attack, 0) == {"stretches_version"}
    assert versions("baffle", 5) == versions("baffle", 0) == versions("trigger", 0)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"cells": [{"tasks": ["SafetyPointCircle1"], "algorithms": ["bcq-lag"]}]}, "unknown algorithm 'bcq-lag'"),
        ({"cells": [{"tasks": ["SafetyPointCircle1"], "attacks": ["injection"]}]}, "unknown attack 'injection'"),
        ({"cells": [{"tasks": ["SafetyPointCircel1"]}]}, "SafetyPointCircel1"),
        ({"methods": ["saferule"]}, "unknown unlearning method 'saferule'.*Did you mean 'safe_rule'"),
        ({"learners": {"bcq_lag": {"hiden": 8}}}, "settings of bcq_lag: hiden = 8"),
        ({"unlearning": {"safe_rule": {"held_out": 0.9}}}, r"settings of safe_rule: held_out = 0\.9"),
        ({"attacks": {"injected": {"ratio": 0.3}}}, r"settings of attack injected: ratio = 0\.3.*under ratios"),
        ({"unlearning": {"retrain": {"held_out": 0.1}}}, "settings of retrain: held_out.*its steps alone"),
        ({"training_steps_of": {"bcq": 9}}, "unknown algorithm 'bcq'"),
        ({"data": {"clean": {"SafetyPointCircle1": "nowhere"}}}, "there is no dataset in '.*/nowhere'"),
    ],
)  # fmt: skip
def test_what_cannot_be_run_is_named_before_anything_runs(changes, what) -> None:
    with pytest.raises(Exception, match=what) as error:
        plan(tiny_grid(**changes))
    assert isinstance(error.value, SettingsError) or "SafetyPoint" in what


def test_variants_are_methods_with_other_settings_under_names_of_their_own() -> None:
    variants = {
        "no-repulsion": {"settings": {"actor_weight": 0.0}},
        "slow": {"method": "retrain", "settings": {"steps": 7}},
    }
    trial = tiny_trial(variants=variants)
    assert list(trial.methods) == ["safe_rule", "retrain", "no-repulsion", "slow"]
    assert trial.methods["no-repulsion"] == trial.methods["safe_rule"] | {"actor_weight": 0.0}
    assert [trial.method_of(name) for name in trial.methods] == ["safe_rule", "retrain", "safe_rule", "retrain"]
    assert trial.method_steps("slow") == 7
    assert trial.config("safe_rule") == tiny_trial().config("safe_rule")  # results of before still count
    assert trial.config("no-repulsion") != trial.config("safe_rule")


def test_a_variant_that_is_called_as_a_method_or_is_of_none_is_refused() -> None:
    with pytest.raises(SettingsError, match="a variant is called 'retrain'"):
        tiny_trial(variants={"retrain": {"settings": {}}})
    with pytest.raises(SettingsError, match="unknown unlearning method 'safe_rul'"):
        tiny_trial(variants={"x": {"method": "safe_rul", "settings": {}}})
    with pytest.raises(SettingsError, match="settings of x: percentil"):
        tiny_trial(variants={"x": {"settings": {"percentil": 3}}})


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("grid")


@pytest.fixture(scope="module")
def trial() -> Trial:
    return tiny_trial()


@pytest.fixture(scope="module")
def results(out: Path, trial: Trial) -> list[TrialResult]:
    return run_trial(trial, out, lambda _: None, NEVER)


def test_a_trial_measures_the_poisoned_agent_and_every_method(trial, results) -> None:
    assert [result.method for result in results] == ["poisoned", "safe_rule", "retrain"]
    poisoned, safe_rule, retrain = results
    assert poisoned.certificate is None and safe_rule.certified is not None
    assert safe_rule.certificate["held_out_forget"] > 0 and retrain.certificate is None
    assert safe_rule.budget["steps"] == 20 and retrain.budget["steps"] == poisoned.budget["steps"] == 20
    assert retrain.budget["flops"] == poisoned.budget["flops"], "the same training, on less data"
    assert len({result.checkpoint_id for result in results}) == 3
    assert {result.poisoned_id for result in results} == {results[0].checkpoint_id}, "all began with the same learner"
    starts = {tuple(episode.seed for episode in result.episodes) for result in results}
    assert len(starts) == 1, "the same starts for all"
    assert abs(safe_rule.data["poisoned_ratio"] - 0.3) < 0.05
    assert safe_rule.config["settings"]["steps"] == 20 and safe_rule.config["learner"]["hidden"] == SMALL["hidden"]
    assert safe_rule.versions["python"] and safe_rule.machine["cores"]


def test_a_second_call_makes_nothing_again(out, trial, results) -> None:
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.json")}
    seen: list[TrialProgress] = []
    again = run_trial(trial, out, seen.append, NEVER)
    assert [r.model_dump_json() for r in again] == [r.model_dump_json() for r in results]
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.json")} == before
    assert (seen[-1].done, seen[-1].skipped) == (60, 60), "nothing of it counts for the time that is left"
    assert finished(trial, out)


def test_only_what_is_missing_is_made_and_it_comes_out_the_same(out, trial, results) -> None:
    path = next(out.rglob("results/safe_rule.json"))
    path.unlink()
    assert not finished(trial, out)
    others = {other: other.stat().st_mtime_ns for other in out.rglob("results/*.json")}
    again = run_trial(trial, out, lambda _: None, NEVER)
    assert again[1].checkpoint_id == results[1].checkpoint_id and again[1].costs == results[1].costs
    assert all(other.stat().st_mtime_ns == then for other, then in others.items())


def test_results_of_other_settings_are_refused_and_named(out, trial, results) -> None:
    more = tiny_trial(evaluation_episodes=2)
    with pytest.raises(OtherSettings, match=r"evaluation_episodes was 1, now it is 2\. Give another folder"):
        finished(more, out)
    longer = tiny_trial(training_steps=21, methods=["fine_tune"])
    with pytest.raises(OtherSettings, match="training_steps was 20, now it is 21"):
        run_trial(longer, out, lambda _: None, NEVER)


@pytest.mark.parametrize(
    ("kind", "told"), [("DATA", "data_version"), ("LEARNING", "learning_version"), ("UNLEARNING", "unlearning_version")]
)
def test_results_of_code_that_made_others_are_refused(
    out, trial, results, monkeypatch: pytest.MonkeyPatch, kind: str, told: str
) -> None:
    monkeypatch.setattr(experiment_settings, f"{kind}_VERSION", 1000)
    with pytest.raises(OtherSettings, match=rf"{told} was \d+, now it is 1000"):
        finished(trial, out)


def test_a_result_says_with_what_a_learner_was_trained_that_trials_share(out, trial, results, tmp_path) -> None:
    poisoned, patched, retrained = results
    assert patched.trained == {} and patched.versions["saferule_ros"] == __version__
    for shared in (poisoned, retrained):
        assert shared.trained["versions"] == patched.versions and shared.trained["machine"] == patched.machine
    elsewhere = tmp_path / "copy"
    shutil.copytree(out, elsewhere)
    next(elsewhere.rglob("results/retrain.json")).unlink()
    (learned,) = (
        path.parent.parent for path in elsewhere.glob(f"data/*/*/learners/*/{retrained.checkpoint_id}/*.json")
    )
    made = json.loads((learned / "trained.json").read_bytes())
    made["provenance"]["machine"]["processor"] = "another"
    (learned / "trained.json").write_text(json.dumps(made))
    again = run_trial(trial, elsewhere, lambda _: None, NEVER)[2]
    assert again.checkpoint_id == retrained.checkpoint_id
    assert (again.trained["machine"]["processor"], again.machine) == ("another", patched.machine)


def test_a_cancelled_trial_goes_on_where_it_was(out, trial, results, tmp_path) -> None:
    """Cancelled in the middle of retraining: training and Safe-RULE are there already, retraining goes on."""
    learned = out / "data" / TASK / "seed-1" / "learners"
    (retrained,) = learned.glob(f"*/{results[2].checkpoint_id}")
    shutil.rmtree(retrained.parent)
    stop: list[bool] = []

    def listen(at: TrialProgress) -> None:
        if at.words.startswith("retrain 10/"):
            stop.append(True)

    path = next(out.rglob("results/retrain.json"))
    path.unlink()
    with pytest.raises(TrialCancelled):
        run_trial(trial, out, listen, lambda: bool(stop))
    assert list(learned.glob("*/unfinished/latest.json"))
    again = run_trial(trial, out, lambda _: None, NEVER)
    assert again[2].checkpoint_id == results[2].checkpoint_id, "bit for bit what it would have been"
    assert again[2].budget["flops"] == results[2].budget["flops"]
    assert not list(learned.glob("*/unfinished"))


def test_a_trigger_is_tried_with_and_without_its_marker(out) -> None:
    """The data is there already: it is shared by all cells of the task."""
    cell = {"tasks": ["SafetyPointCircle1"], "attacks": ["trigger"], "ratios": [0.3]}
    trial = tiny_trial(cells=[cell], methods=["fine_tune"], attacks={"trigger": {"pool": 1.0}},
                       unlearning={"fine_tune": {"steps": 5}})  # fmt: skip
    words: list[str] = []
    _, tuned = run_trial(trial, out, lambda at: words.append(at.words), NEVER)
    assert len(tuned.triggered) == len(tuned.episodes) == 1
    assert [e.seed for e in tuned.triggered] == [e.seed for e in tuned.episodes]
    assert not any(word.startswith("collecting behaviour") for word in words)


def test_trials_run_in_processes_and_one_that_fails_does_not_stop_the_others(out, trial, results) -> None:
    bad = {"tasks": ["SafetyPointCircle1"], "attacks": ["baffle"], "ratios": [0.9]}
    good = {"tasks": ["SafetyPointCircle1"], "ratios": [0.3]}
    trials = plan(tiny_grid(cells=[bad, good], methods=["safe_rule"], attacks={"baffle": {"adversary_steps": 1}}))
    next(out.rglob("injected-0.3/seed-1/results/safe_rule.json")).unlink()
    heard = []
    failed = run_trials(trials, out, processes=2, listen=heard.append)
    assert list(failed) == [trials[0].name] and "ratio 0.9" in failed[trials[0].name]
    assert finished(trials[1], out)
    assert (heard[-1].finished, heard[-1].trials) == (1, 2)
    assert heard[-1].steps == heard[-1].all_steps, "what failed is not waited for"
    log = next(out.rglob("baffle-0.9/seed-1/log.txt")).read_text()
    assert "Traceback" in log


def test_retraining_on_the_same_keep_data_is_done_once(out, results) -> None:
    """Injected episodes are added: without them the clean data is left, at any ratio."""
    more = tiny_trial(cells=[{"tasks": ["SafetyPointCircle1"], "ratios": [0.5]}], methods=["retrain"])
    learned = out / "data" / TASK / "seed-1" / "learners"
    before = set(learned.glob("bcq_lag-*"))
    poisoned, retrained = run_trial(more, out, lambda _: None, NEVER)
    assert retrained.checkpoint_id == results[2].checkpoint_id
    assert poisoned.checkpoint_id != results[0].checkpoint_id, "it learned from other data"
    (new,) = set(learned.glob("bcq_lag-*")) - before
    assert (new / poisoned.checkpoint_id).is_dir()


def test_cells_with_another_forget_set_begin_with_the_same_poisoned_learner(out, results) -> None:
    cell = {"tasks": ["SafetyPointCircle1"], "ratios": [0.3], "precisions": [0.5]}
    trial = tiny_trial(cells=[cell], methods=["fine_tune"], unlearning={"fine_tune": {"steps": 5}})
    assert trial.name.endswith("injected-0.3-precision-0.5/seed-1")
    poisoned, tuned = run_trial(trial, out, lambda _: None, NEVER)
    assert poisoned.checkpoint_id == results[0].checkpoint_id and poisoned.costs == results[0].costs
    assert tuned.data["precision"] == 0.5 and tuned.data["recall"] == 1.0
    assert tuned.data["forget_transitions"] == 2 * results[0].data["forget_transitions"]


def test_an_algorithm_can_have_a_number_of_training_steps_of_its_own() -> None:
    block = {"tasks": ["SafetyPointCircle1"], "algorithms": ["bcq_lag", "cpq"]}
    bcq, cpq = plan(tiny_grid(cells=[block], training_steps_of={"cpq": 33}, learners={}))
    assert (bcq.training_steps, cpq.training_steps) == (20, 33)
    assert cpq.method_steps("retrain") == 33


def test_waiting_for_what_another_process_makes_can_be_cancelled(tmp_path) -> None:
    folder = tmp_path / "made"
    with only_one(folder, NEVER):
        asked = iter([False, True])
        with pytest.raises(TrialCancelled, match="another trial made made"), only_one(folder, lambda: next(asked)):
            pytest.fail("two at the same time")
    with only_one(folder, NEVER):
        pass  # it is free again


def test_every_result_is_a_file_that_speaks_for_itself(out, results) -> None:
    stored = json.loads(next(out.rglob("results/safe_rule.json")).read_text())
    for name in ("cell", "seed", "config", "versions", "machine", "budget", "certificate", "episodes"):
        assert stored[name], name
