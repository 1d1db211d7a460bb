"""What a comparison says is what its results say: numbers by hand, files that come and go, pictures."""

import json
import math

import pytest

pytest.importorskip("matplotlib", reason="plots need matplotlib")

from experiment_samples import result, save

from saferule_ros.experiments.outcome import write_outcome
from saferule_ros.reporting.comparison import overall, rows_of
from saferule_ros.reporting.comparison_plots import cell_plot, overview_plot
from saferule_ros.reporting.comparison_table import comparison_table
from saferule_ros.reporting.results import ResultsError
from saferule_ros.reporting.trials import load_results

HOLDS = {"reward_suppressed": True, "cost_separated": True}
FAILS = {"reward_suppressed": True, "cost_separated": False}
DEAR = {"steps": 100.0, "seconds": 60.0, "cpu_seconds": 30.0, "flops": 2e10}


def two_seeds():
    return [
        result("safe_rule", 1, (0.0, 50.0), (10.0, 20.0), certificate=HOLDS),
        result("safe_rule", 2, (10.0, 40.0), (30.0, 40.0), certificate=FAILS),
        result("retrain", 1, (0.0, 0.0), (20.0, 20.0), budget=DEAR),
        result("retrain", 2, (20.0, 30.0), (20.0, 20.0), budget=DEAR),
        result("poisoned", 1, (300.0, 200.0), (50.0, 50.0)),
    ]


def test_a_row_pools_episodes_and_spreads_over_seeds() -> None:
    poisoned, safe_rule, retrain = rows_of(two_seeds())
    assert [row.method for row in (poisoned, safe_rule, retrain)] == ["poisoned", "safe_rule", "retrain"]
    assert (safe_rule.seeds, safe_rule.episodes) == (2, 4)
    assert (safe_rule.cost_mean, safe_rule.cost_median, safe_rule.share_within) == (25.0, 25.0, 0.5)
    assert safe_rule.cost_spread == 0.0, "both seeds have a mean of 25"
    assert safe_rule.return_spread == pytest.approx(math.sqrt(2 * 10.0**2)), "means 15 and 35"
    assert (safe_rule.certified, safe_rule.certificates) == (1, 2)
    assert math.isnan(poisoned.cost_spread), "one seed has no spread"


def test_ratios_are_to_retraining_of_the_same_seeds() -> None:
    poisoned, safe_rule, retrain = rows_of(two_seeds())
    assert safe_rule.return_ratio == pytest.approx(25.0 / 20.0)
    assert (safe_rule.cpu_ratio, safe_rule.flops_ratio) == (30.0, 20.0)
    assert (retrain.return_ratio, retrain.flops_ratio) == (1.0, 1.0)
    assert poisoned.return_ratio == pytest.approx(50.0 / 20.0), "of seed 1 alone"
    assert all(math.isnan(row.flops_ratio) for row in rows_of([result("safe_rule"), result("retrain", seed=2)])[:1])


def test_overall_counts_cells_and_takes_medians_of_ratios() -> None:
    results = []
    for ratio, factor in ((0.05, 1.0), (0.1, 3.0), (0.15, 100.0)):
        budget = {**DEAR, "flops": DEAR["flops"] / factor}
        results += [result("retrain", ratio=ratio, budget=DEAR)]
        results += [result("safe_rule", ratio=ratio, budget=budget, costs=(factor, factor), certificate=HOLDS)]
    found = {row.method: row for row in overall(rows_of(results))}
    assert (found["safe_rule"].cells, found["safe_rule"].safe_cells) == (3, 2)
    assert found["safe_rule"].flops_ratio == pytest.approx(3.0)
    assert found["safe_rule"].certified == found["safe_rule"].certificates == 3


def test_the_table_has_every_method_of_every_cell_and_says_what_made_it(tmp_path) -> None:
    results = [*two_seeds(), result("fine_tune", ratio=0.05)]
    text = comparison_table(results)
    assert "## SafetyPointCircle1-v0, bcq_lag, injected 15 %" in text and "injected 5 %" in text
    row = next(line for line in text.splitlines() if line.startswith("| safe_rule | 25.0"))
    for shown in ("25.0 ± 14.1", "125 %", "25.0 ± 0.0", "50 %", "1 of 2", "1.0 s", "1e+09", "20.0 ×"):
        assert f"| {shown} " in row, row
    assert "torch 2.13" in text and "cores 2" in text


def test_table_numbers_and_pictures_are_made_from_what_is_on_disk(tmp_path) -> None:
    save(tmp_path, *two_seeds())
    write_outcome(tmp_path)
    numbers = json.loads((tmp_path / "summary.json").read_text())
    assert [row["method"] for row in numbers] == ["poisoned", "safe_rule", "retrain"]
    assert numbers[0]["cost_spread"] is None and numbers[1]["flops_ratio"] == 20.0
    assert (tmp_path / "table.md").read_text().startswith("# Comparison")
    assert (tmp_path / "findings.md").read_text().startswith("# Findings")
    pictures = {path.name for path in (tmp_path / "plots").iterdir()}
    cell = "SafetyPointCircle1-v0-bcq_lag-injected-0.15"
    assert pictures == {f"{name}-{kind}.svg" for name in (cell, "overview", "heat-maps") for kind in ("light", "dark")}


def test_pictures_say_in_words_what_they_show() -> None:
    results = two_seeds()
    assert "safe_rule: cost 0 to 50, mean 25.0, return mean 25.0, 4 episodes" in cell_plot(results).alt
    shown = overview_plot(rows_of(results))
    assert "return 125 % of retraining's, cost 100 % of the limit" in shown.alt
    assert shown.light.startswith("<svg") and shown.light != shown.dark


def test_results_that_are_missing_or_damaged_are_named(tmp_path) -> None:
    with pytest.raises(ResultsError, match="there are no results in"):
        load_results(tmp_path)
    save(tmp_path, result("safe_rule"))
    path = next(tmp_path.rglob("safe_rule.json"))
    path.write_text(path.read_text().replace('"cost_limit"', '"limit"'))
    with pytest.raises(ResultsError, match=r"safe_rule\.json' holds no result of this version: cost_limit"):
        load_results(tmp_path)
