"""Two methods held against each other trial by trial: counted by hand, and intervals whose truth is known."""

import math

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="plots need matplotlib")

from experiment_samples import result

from saferule_ros.reporting.clean_retraining import AS_NAMED
from saferule_ros.reporting.findings import findings
from saferule_ros.reporting.paired import FEWEST_CLUSTERS, interquartile_mean, interval, paired
from saferule_ros.reporting.trials import TrialResult


def trial(safe_rule: tuple[float, float], other: tuple[float, float], ratio: float, seed: int = 1) -> list[TrialResult]:
    """(return, cost) of Safe-RULE and of reward-only; retraining earns 20 at a cost of 10."""
    methods = {"safe_rule": safe_rule, "reward_only": other, "retrain": (20.0, 10.0), "poisoned": (40.0, 200.0)}
    return [
        result(name, seed=seed, returns=(earned,), costs=(cost,), ratio=ratio)
        for name, (earned, cost) in methods.items()
    ]


def line_of(results: list[TrialResult]) -> list[str]:
    (line,) = [line for line in paired("safe_rule", results) if line.startswith("| reward_only")]
    return [part.strip() for part in line.strip("|").split("|")][1:]


def test_costs_are_counted_in_all_trials_and_returns_where_both_methods_keep_theirs() -> None:
    results = [
        *trial((18.0, 5.0), (20.0, 5.0), 0.1),  # both keep it: 10 % less
        *trial((22.0, 5.0), (20.0, 5.0), 0.1, seed=2),  # both: 10 % more
        *trial((19.0, 25.0), (20.0, 5.0), 0.2),  # both, at the limit: 5 % less
        *trial((5.0, 5.0), (40.0, 300.0), 0.3),  # what the other earns there does not count
        *trial((5.0, 26.0), (5.0, 26.0), 0.4),  # neither
    ]
    assert line_of(results) == ["1", "4", "5", "4", "3", "+20", "3", "-2"]


def test_trials_without_the_other_method_or_without_retraining_do_not_count() -> None:
    whole = trial((18.0, 5.0), (20.0, 300.0), 0.1)
    others = [
        *[one for one in trial((1.0, 900.0), (9.0, 0.0), 0.2) if one.method != "reward_only"],
        *[one for one in trial((1.0, 900.0), (9.0, 0.0), 0.3) if one.method != "retrain"],
    ]
    assert line_of(whole + others) == line_of(whole)
    assert paired("safe_rule", [one for one in whole if one.method != "reward_only"]) == []


def test_retraining_is_no_opponent_from_whatever_data() -> None:
    whole = trial((18.0, 5.0), (20.0, 300.0), 0.1)
    as_named = [one.model_copy(update={"method": AS_NAMED}) for one in whole if one.method == "retrain"]
    assert paired("safe_rule", whole + as_named) == paired("safe_rule", whole)


def test_an_open_backdoor_is_no_cost_kept() -> None:
    marked = result("x", returns=(1.0,), costs=(200.0,)).episodes
    results = [
        one.model_copy(update={"triggered": marked if one.method == "reward_only" else one.episodes})
        for one in trial((18.0, 5.0), (20.0, 5.0), 0.1)
    ]
    assert line_of(results)[3:5] == ["1", "0"]


def of_task(results: list[TrialResult], task: str) -> list[TrialResult]:
    """The same trials of another task."""
    return [one.model_copy(update={"cell": one.cell.model_copy(update={"task": task})}) for one in results]


def test_a_few_tasks_with_a_learner_have_no_interval_and_enough_have_one_around_the_difference() -> None:
    even = trial((18.0, 5.0), (20.0, 5.0), 0.1)
    few = [one for name in "abcde"[: FEWEST_CLUSTERS - 1] for one in of_task(even, name)]
    assert line_of(few)[5] == "0" and line_of(few)[7] == "-10"
    enough = [*few, *of_task(trial((18.0, 5.0), (20.0, 300.0), 0.1), "f")]
    assert line_of(enough)[5].startswith("+20 (0 to +"), "in one of five it keeps the cost and the other does not"
    assert line_of(enough)[7] == "-10", "returns of four: too few"


def test_attacks_of_one_task_and_learner_are_drawn_together_and_learners_apart() -> None:
    """They share data, retrained learners and starts: many attacks on one task are no many independent trials."""
    attacks = [one for ratio in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6) for one in trial((18.0, 5.0), (20.0, 300.0), ratio)]
    assert line_of(attacks)[:3] == ["1", "6", "6"] and line_of(attacks)[5] == "+100", "no interval"
    learners = [
        one.model_copy(update={"cell": one.cell.model_copy(update={"algorithm": name})})
        for name in ("a", "b", "c", "d", "e")
        for one in trial((18.0, 5.0), (20.0, 300.0), 0.1)
    ]
    assert line_of(learners)[:3] == ["5", "5", "5"] and line_of(learners)[5] == "+100 (+100 to +100)"


def test_the_interval_is_as_wide_as_clusters_differ_and_not_narrower_for_more_trials_of_the_same() -> None:
    """Clusters at +1 and -1, the mean of 16 of them has a standard error of 1/4: 95 % lie within 1.96 of these."""
    clusters = [np.array([sign]) for sign in (1.0, -1.0)] * 8
    low, high = interval(clusters, lambda values: float(values.mean()))
    assert low == pytest.approx(-0.49, abs=0.03) and high == pytest.approx(0.49, abs=0.03)
    repeated = [np.repeat(values, 3) for values in clusters]
    assert interval(repeated, lambda values: float(values.mean())) == (low, high), "the same seeds, the same draws"
    assert interval(clusters[: FEWEST_CLUSTERS - 1], lambda values: float(values.mean())) is None


def test_the_interquartile_mean_leaves_out_a_quarter_at_either_end() -> None:
    assert interquartile_mean(np.array([1000.0, 1.0, 3.0, -1000.0])) == 2.0
    assert interquartile_mean(np.array([5.0, 1.0, 3.0])) == 3.0, "nothing is left out of three"
    assert math.isnan(interquartile_mean(np.array([])))


def test_findings_hold_methods_against_each_other_in_what_can_be_repaired_and_in_all_cells() -> None:
    harmless = [
        one.model_copy(update={"episodes": one.episodes if one.method != "poisoned" else result("x").episodes[:1]})
        for one in trial((18.0, 5.0), (20.0, 5.0), 0.2)
    ]
    text = findings([*trial((18.0, 5.0), (20.0, 300.0), 0.1), *harmless])
    repairable, every = text.split("## Trial by trial: ")[1:]
    assert "| reward_only | 1 | 1 | 1 | 1 | 0 |" in repairable.splitlines()[4]
    assert "| reward_only | 1 | 2 | 2 | 2 | 1 |" in every.splitlines()[4]
