import pytest
from experiment_samples import result
from reporting_samples import make_results

from saferule_ros.reporting.clean_retraining import with_clean_retraining
from saferule_ros.reporting.findings import findings
from saferule_ros.reporting.readme import DEMO, EVIDENCE, update_demo, update_evidence
from saferule_ros.reporting.results import ResultsError


def test_the_last_run_stands_between_the_marks_and_nothing_else_changes(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"above\n{DEMO.begin}\nold table\n{DEMO.end}\nbelow\n")
    runs = [make_results(1, started="2026-01-02T00:00:00"), make_results(2, started="2026-01-01T00:00:00")]
    update_demo(readme, runs)
    text = readme.read_text()
    assert text.startswith(f"above\n{DEMO.begin}\n") and text.endswith(f"{DEMO.end}\nbelow\n")
    assert "old table" not in text
    assert "seed 1, limit 25" in text  # started last
    patched = next(e for e in runs[0].evaluations if e.name == "patched")
    assert f"| {patched.heading} | {len(patched.episodes)} | {patched.return_mean:.1f} |" in text
    once = readme.read_bytes()
    update_demo(readme, runs)
    assert readme.read_bytes() == once


def test_what_a_grid_showed_in_short_stands_between_its_own_marks(tmp_path):
    """Finished trials alone count, and the text leads to the grid's folder."""
    readme = tmp_path / "README.md"
    readme.write_text(f"{DEMO.begin}\nruns\n{DEMO.end}\n{EVIDENCE.begin}\nold\n{EVIDENCE.end}\nbelow\n")
    trial = [
        result("safe_rule", costs=(10.0, 10.0)), result("fine_tune", costs=(90.0, 90.0)),
        result("retrain", costs=(20.0, 20.0)), result("poisoned", costs=(200.0, 200.0)),
    ]  # fmt: skip
    unfinished = [result("safe_rule", seed=2, costs=(0.0, 0.0))]
    update_evidence(readme, trial + unfinished, tmp_path / "docs" / "grid")
    text = readme.read_text()
    assert "| safe_rule | 1 of 1 | 1 of 1 |" in text and "| fine_tune | 0 of 1 | 0 of 1 |" in text
    assert "| poisoned |" not in text and "| retrain |" not in text
    assert "Trials: 1, cells: 1 (SafetyPointCircle1-v0; bcq_lag; injected; seeds 1)." in text
    assert "](docs/grid/findings.md)" in text and 'src="docs/grid/plots/heat-maps-light.svg"' in text
    assert "old" not in text
    assert text.startswith(f"{DEMO.begin}\nruns\n{DEMO.end}\n") and text.endswith("below\n")


def test_where_a_forget_set_errs_a_patch_is_held_to_the_policy_that_never_saw_the_poison_as_in_the_findings(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"{EVIDENCE.begin}\n{EVIDENCE.end}\n")
    exact = result("safe_rule").cell
    errs = exact.model_copy(update={"recall": 0.8})
    costs = {
        (exact, "safe_rule"): 20.0, (exact, "retrain"): 10.0, (exact, "poisoned"): 200.0,
        (errs, "safe_rule"): 40.0, (errs, "retrain"): 50.0, (errs, "poisoned"): 200.0,
    }  # fmt: skip
    results = [result(method, costs=(cost, cost), cell=cell) for (cell, method), cost in costs.items()]
    update_evidence(readme, results, tmp_path)
    assert "| safe_rule | 1 of 2 | 1 of 2 |" in readme.read_text()
    assert "| safe_rule | 1 of 2 | 1 of 2 |" in findings(with_clean_retraining(results))


@pytest.mark.parametrize("text", ["no place", f"{EVIDENCE.end}{EVIDENCE.begin}{DEMO.end}{DEMO.begin}"])
def test_a_file_without_marks_is_refused_and_left_alone(tmp_path, text):
    readme = tmp_path / "README.md"
    readme.write_text(text)
    with pytest.raises(ResultsError, match="no place for the table"):
        update_demo(readme, [make_results(1)])
    with pytest.raises(ResultsError, match="no place for the table"):
        update_evidence(readme, [result("safe_rule"), result("retrain"), result("poisoned")], tmp_path)
    assert readme.read_text() == text


def test_a_grid_of_which_no_trial_is_finished_has_nothing_to_show(tmp_path):
    with pytest.raises(ResultsError, match=r"no trial in .* is finished"):
        update_evidence(tmp_path / "README.md", [result("safe_rule", seed=1), result("retrain", seed=2)], tmp_path)
