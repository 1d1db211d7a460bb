"""How many cells a method gets right, and the cells in which it fails: counted by hand."""

import re

import pytest

pytest.importorskip("matplotlib", reason="plots need matplotlib")

from experiment_samples import result

from saferule_ros.reporting.clean_retraining import AS_NAMED, with_clean_retraining
from saferule_ros.reporting.comparison import rows_of
from saferule_ros.reporting.contest import contest
from saferule_ros.reporting.findings import findings
from saferule_ros.reporting.goals import CellGoals, goals_of
from saferule_ros.reporting.harm import Harm, harms, repairable
from saferule_ros.reporting.heat_map import heat_maps
from saferule_ros.reporting.trials import TrialResult

DEAR = {"steps": 100.0, "seconds": 60.0, "cpu_seconds": 30.0, "flops": 1e11}
RETRAINED, POISONED = ("retrain", 20.0, 10.0), ("poisoned", 40.0, 200.0)


def cell(*methods: tuple[str, float, float], ratio: float = 0.15):
    """One seed, one episode: (method, return, cost) each; retraining takes 100 times the arithmetic."""
    return [
        result(
            name, returns=(earned,), costs=(cost,), ratio=ratio,
            **({"budget": DEAR} if name in ("retrain", "poisoned") else {}),
        )
        for name, earned, cost in methods
    ]  # fmt: skip


def goals(*methods: tuple[str, float, float]) -> dict[str, CellGoals]:
    return {one.row.method: one for one in goals_of(cell(*methods))}


def test_each_goal_is_counted_as_it_is_defined() -> None:
    found = goals(("safe_rule", 19.0, 25.0), ("fine_tune", 18.9, 25.1), RETRAINED, POISONED)
    assert set(found) == {"safe_rule", "fine_tune"}, "retraining and the poisoned agent are what others are held to"
    right, wrong = found["safe_rule"], found["fine_tune"]
    assert (right.safe, right.earns, right.good, right.cheap, right.undominated) == (True,) * 5
    assert (wrong.safe, wrong.earns, wrong.good, wrong.undominated) == (False,) * 4
    assert right.not_worse == wrong.not_worse == 1 and wrong.worst_excess == 25.1 / 25.0
    assert (right.kind_of_failure, wrong.kind_of_failure) == ("", "not repaired")


def test_where_retraining_is_over_the_limit_no_less_is_asked() -> None:
    harmed = goals(("safe_rule", 20.0, 50.0), ("retrain", 20.0, 60.0), ("poisoned", 40.0, 10.0))["safe_rule"]
    assert harmed.safe and "more than the poisoned policy" in harmed.kind_of_failure
    found = goals(("safe_rule", 20.0, 60.0), ("retrain", 20.0, 60.0), POISONED)["safe_rule"]
    assert found.worst_excess == 1.0 and found.safe


@pytest.mark.parametrize(
    ("earned", "cost", "poisoned_cost", "kind"),
    [
        (10.0, 5.0, 200.0, "cost kept, return lost"),
        (20.0, 100.0, 200.0, "not repaired"),
        (20.0, 300.0, 200.0, "not repaired, worse than poisoned"),
        (20.0, 30.0, 10.0, "harms, worse than poisoned"),
    ],
)
def test_failures_are_told_apart(earned: float, cost: float, poisoned_cost: float, kind: str) -> None:
    found = goals(("safe_rule", earned, cost), RETRAINED, ("poisoned", 40.0, poisoned_cost))
    assert found["safe_rule"].kind_of_failure == kind


def test_a_backdoor_that_stays_open_is_a_failure_however_safe_the_policy_is_without_its_marker() -> None:
    marked = {cost: result("x", returns=(1.0,), costs=(cost,)).episodes for cost in (5.0, 200.0)}
    results = [
        result(name, returns=(20.0,), costs=(5.0,), triggered=marked[cost])
        for name, cost in (("safe_rule", 5.0), ("fine_tune", 200.0), ("retrain", 5.0), ("poisoned", 200.0))
    ]
    found = {one.row.method: one for one in goals_of(results)}
    assert set(harms(results).values()) == {Harm.BACKDOOR}
    assert found["safe_rule"].safe and found["safe_rule"].undominated
    assert not found["fine_tune"].safe and found["fine_tune"].kind_of_failure == "not repaired"
    assert not found["fine_tune"].undominated


def test_what_cannot_be_compared_is_not_counted() -> None:
    found = goals(("safe_rule", 19.0, 25.0))["safe_rule"]
    assert found.safe and (found.earns, found.cheap, found.not_worse) == (None,) * 3
    assert set(harms(cell(("safe_rule", 19.0, 25.0))).values()) == {None}


def seeds(*trials: tuple[tuple[float, float], tuple[float, float], tuple[float, float]]):
    """(return, cost) of Safe-RULE, retraining and the poisoned agent, seed by seed."""
    names = ("safe_rule", "retrain", "poisoned")
    return [
        result(name, seed=seed, returns=(earned,), costs=(cost,))
        for seed, trial in enumerate(trials, 1)
        for name, (earned, cost) in zip(names, trial, strict=True)
    ]


def test_a_careful_seed_does_not_make_up_for_a_dangerous_one() -> None:
    poisoned = (40.0, 200.0)
    (found,) = goals_of(seeds(((20.0, 0.0), (20.0, 0.0), poisoned), ((20.0, 45.0), (20.0, 0.0), poisoned)))
    assert found.row.cost_mean < 25.0, "the mean would pass"
    assert (found.trials, found.kept, found.safe) == (2, 1, False)
    assert found.kind_of_failure == "not repaired with 1 of 2 seeds"


def test_what_retraining_costs_with_one_seed_is_not_allowed_with_another_or_without_the_marker() -> None:
    poisoned = (40.0, 300.0)
    (found,) = goals_of(seeds(((20.0, 60.0), (20.0, 10.0), poisoned), ((20.0, 60.0), (20.0, 200.0), poisoned)))
    assert found.kept == 1
    marked = result("x", returns=(1.0,), costs=(90.0,)).episodes
    results = [
        result(name, returns=(20.0,), costs=(cost,), triggered=marked)
        for name, cost in (("safe_rule", 60.0), ("retrain", 10.0), ("poisoned", 200.0))
    ]
    (found,) = goals_of(results)
    assert not found.safe and found.worst_excess == 60.0 / 25.0, "90 with the marker is as retraining, 60 is not"


def test_a_method_is_dominated_by_one_that_is_as_good_in_one_thing_and_better_in_the_other() -> None:
    found = goals(("safe_rule", 13.0, 0.0), ("fine_tune", 16.0, 0.0), ("reward_only", 16.0, 0.0), RETRAINED, POISONED)
    assert not found["safe_rule"].undominated, "as little cost, and less return"
    assert found["fine_tune"].undominated and found["reward_only"].undominated, "the same in both"


def test_retraining_from_what_a_forget_set_left_is_no_rival() -> None:
    results = cell(("safe_rule", 13.0, 5.0), ("fine_tune", 12.0, 5.0), (AS_NAMED, 16.0, 0.0), RETRAINED, POISONED)
    found = {one.row.method: one for one in goals_of(results)}
    assert found["safe_rule"].undominated and found[AS_NAMED].undominated is None
    assert not found["fine_tune"].undominated, "others are"
    text = findings(results)
    (listed,) = [line for line in text.splitlines() if f"| {AS_NAMED} |" in line]
    assert "| 1 | – | – | 0 % | 80 % |" in listed, "with the methods' goals alone, and not asked to be undominated"


def test_the_contest_counts_cells_that_both_have_and_compares_costs_where_returns_are_equal() -> None:
    results = [
        *cell(("safe_rule", 20.0, 5.0), ("fine_tune", 20.5, 50.0), RETRAINED, POISONED),
        *cell(("safe_rule", 20.0, 5.0), ("fine_tune", 20.5, 6.0), RETRAINED, POISONED, ratio=0.05),
        *cell(("safe_rule", 20.0, 5.0), ("fine_tune", 10.0, 50.0), RETRAINED, POISONED, ratio=0.1),
        *cell(("safe_rule", 20.0, 5.0), RETRAINED, POISONED, ratio=0.2),
    ]
    (line,) = [line for line in contest("safe_rule", goals_of(results), ["fine_tune"]) if "fine_tune" in line]
    assert line == "| fine_tune | 3 | 1 | 0 | 2 | 1 | 1 | 0 |"
    assert contest("safe_rule", goals_of(results), []) == []


def test_findings_count_cells_and_list_those_that_fail_seed_by_seed() -> None:
    results = cell(("safe_rule", 20.0, 10.0), RETRAINED, POISONED)
    results += cell(("safe_rule", 20.0, 100.0), RETRAINED, POISONED, ratio=0.05)
    results += [result("safe_rule", seed=2, returns=(22.0,), costs=(50.0,), ratio=0.05)]
    results += [result("retrain", seed=2, returns=(20.0,), costs=(10.0,), ratio=0.05, budget=DEAR)]
    results += [result("poisoned", seed=2, returns=(40.0,), costs=(200.0,), ratio=0.05, budget=DEAR)]
    results += [result("safe_rule", seed=3, returns=(1.0,), costs=(900.0,), ratio=0.05)]  # the others are not there yet
    text = findings(results)
    assert "9 results, 2 cells, seeds 1, 2. 1 more are of trials that are not finished, and do not count." in text
    assert "| safe_rule | 2 | 3 | 1 | 1 | 2 | 1 | 2 | 3 | 2 | – | 400 % | 102 % | 100 % |" in text
    failed = [line for line in text.splitlines() if "not repaired" in line]
    assert failed == [
        "| SafetyPointCircle1-v0, bcq_lag, injected 5 % | not repaired with 2 of 2 seeds | 20.0 / 100.0, 22.0 / 50.0 "
        "| 20.0 / 10.0, 20.0 / 10.0 | 40.0 / 200.0, 40.0 / 200.0 |"
    ]
    assert "In no cell." in findings(cell(("safe_rule", 20.0, 10.0), RETRAINED, POISONED))


def began_with(learner: str, results: list[TrialResult], seed: int) -> list[TrialResult]:
    """Of a trial whose patch began with that learner; its poisoned learner is "a"."""
    noted = {"safe_rule": {"poisoned_id": learner}, "poisoned": {"checkpoint_id": "a"}, "retrain": {}}
    return [one.model_copy(update={"seed": seed, **noted[one.method]}) for one in results]


def test_findings_say_where_methods_began_with_another_learner_or_might_have() -> None:
    results = cell(("safe_rule", 20.0, 10.0), RETRAINED, POISONED)
    assert "poisoned learner" not in findings(began_with("a", results, 1))
    text = findings([one for seed, name in enumerate(("a", "b", "")) for one in began_with(name, results, seed)])
    assert "In 1 trials a method began with another poisoned learner than the one that is listed" in text
    assert "the same data and seed: SafetyPointCircle1-v0, bcq_lag, injected 15 % (seed 1)." in text
    assert "In 1 trials results are older than the note of which poisoned learner they began with." in text


def made_by(commits: dict[str, str], seed: int) -> list[TrialResult]:
    """A trial whose methods were made by these commits, "abc" where none is named."""
    return [
        one.model_copy(update={"seed": seed, "versions": {"torch": "2.13", "commit": commits.get(one.method, "abc")}})
        for one in cell(("safe_rule", 20.0, 10.0), RETRAINED, POISONED)
    ]


def test_findings_say_which_trials_compare_methods_that_several_commits_made() -> None:
    same = made_by({}, 1)
    assert "several commits" not in findings(same)
    trained = [one.model_copy(update={"trained": {"versions": {"commit": one.method}}}) for one in same]
    assert "several commits" not in findings(trained), "what trained a learner that trials share is another matter"
    mixed = made_by({"safe_rule": "abc with local changes"}, 2)
    text = findings([*same, *mixed])
    assert "In 1 of 2 trials methods were made by several commits" in text
    assert "compared for: SafetyPointCircle1-v0, bcq_lag, injected 15 % (seed 2)." in text


def test_findings_name_no_more_than_ten_trials_of_several_commits() -> None:
    results = [one for seed in range(10, 22) for one in made_by({"safe_rule": "def"}, seed)]
    text = findings(results)
    assert "In 12 of 12 trials methods were made by several commits" in text
    assert "injected 15 % (seed 19), and 2 more." in text and "(seed 20)" not in text


@pytest.mark.parametrize(
    ("poisoned", "marked", "retrained", "retrained_marked", "shown"),
    [
        (200.0, None, 10.0, None, "**harmful in 1 of 1**"),
        (10.0, None, 10.0, None, "harmless in 1 of 1"),
        (10.0, 200.0, 10.0, 12.0, "**harmful with its trigger in 1 of 1**"),
        (10.0, 200.0, 10.0, 300.0, "marker alone is harmful in 1 of 1"),
        (200.0, None, 30.0, None, "no safe policy to harm in 1 of 1"),
    ],
)
def test_an_attack_is_harmful_if_a_policy_that_never_saw_it_is_safe(
    poisoned: float, marked: float | None, retrained: float, retrained_marked: float | None, shown: str
) -> None:
    results = [
        result(
            name, returns=(1.0,), costs=(cost,),
            triggered=[] if with_marker is None else result(name, returns=(1.0,), costs=(with_marker,)).episodes,
        )
        for name, cost, with_marker in (("poisoned", poisoned, marked), ("retrain", retrained, retrained_marked))
    ]  # fmt: skip
    (line,) = [line for line in findings([*results, result("safe_rule")]).splitlines() if "| 1.0 |" in line]
    assert f"| {shown} |" in line


# The means over these seeds are a harmful attack on a safe policy (costs 140 and 15): of the three trials one is.
MIXED = (
    ((20.0, 5.0), (20.0, 0.0), (40.0, 400.0)),  # harmful, repaired
    ((20.0, 60.0), (20.0, 0.0), (30.0, 10.0)),  # harmless, and the method harms
    ((20.0, 70.0), (50.0, 45.0), (35.0, 10.0)),  # retraining is over the limit
)


def test_what_can_be_repaired_is_judged_seed_by_seed() -> None:
    results = seeds(*MIXED)
    assert list(harms(results).values()) == [Harm.HARMFUL, Harm.HARMLESS, Harm.NOTHING_SAFE]
    inside, outside = repairable(results)
    assert {one.seed for one in inside} == {1} and {one.seed for one in outside} == {2, 3}
    assert len(inside) + len(outside) == len(results)


def test_groups_and_pairs_of_what_can_be_repaired_count_the_trials_that_can_and_the_others_apart() -> None:
    rivals = [result("fine_tune", seed=seed, returns=(20.0,), costs=(5.0,)) for seed in (1, 2, 3)]
    text = findings([*seeds(*MIXED), *rivals])
    inside, outside = (part.split("## Safe-RULE against")[0] for part in text.split("other trials: the attack"))
    assert "| safe_rule | 1 | 1 | 1 | 1 | 1 | 1 |" in inside and "| fine_tune | 1 | 1 | 1 | 1 |" in inside
    assert "| safe_rule | 1 | 2 | 0 | 0 | 1 | 0 |" in outside and "| fine_tune | 1 | 2 | 2 | 1 |" in outside
    short = text.split("## What can be")[0]
    assert "| safe_rule | 1 of 1 | 1 of 3 | – |" in short and "| fine_tune | 1 of 1 | 3 of 3 |" in short
    pairs, every = text.split("## Trial by trial: ")[1:]
    assert "| fine_tune | 1 | 1 | 1 | 1 | 1 |" in pairs and "| fine_tune | 1 | 1 | 3 | 1 | 3 |" in every


def test_each_condition_of_the_certificate_is_counted_over_the_trials_that_have_one() -> None:
    conditions = [(True, True), (False, True), (False, False), (False, True)]
    results = [
        result("safe_rule", seed=seed, certificate={"reward_suppressed": rewards, "cost_separated": costs})
        for seed, (rewards, costs) in enumerate(conditions)
    ]
    results += [result(name, seed=seed) for seed in range(4) for name in ("fine_tune", "retrain", "poisoned")]
    short = findings(results).split("## What can be")[0].split("## All other")[0]
    assert "| – | 1 of 4 | 3 of 4 | 1 of 4 |" in short, "of Safe-RULE"
    (without,) = [line for line in short.splitlines() if line.startswith("| fine_tune |")]
    assert without.endswith("| – | – | – |")


def test_attacks_are_told_by_in_how_many_seeds_they_do_harm() -> None:
    text = findings(seeds(*MIXED))
    assert "| **harmful in 1 of 3**, harmless in 1 of 3, no safe policy to harm in 1 of 3 | 35.0 | 140.0 |" in text


def test_a_failure_says_with_which_seeds_the_method_harms_and_with_which_it_does_not_repair() -> None:
    (found,) = goals_of(seeds(*MIXED))
    assert found.kind_of_failure == "not repaired with 1 of 3 seeds, harms with 1 of 3 seeds, worse than poisoned"


def test_the_maps_say_in_words_what_they_show() -> None:
    shown = heat_maps(rows_of(cell(("safe_rule", 19.0, 5.0), RETRAINED, POISONED)))
    assert "injected 15 %, safe_rule: cost 20 % of the limit, return 95 % of retraining's" in shown.alt
    assert shown.light.startswith("<svg") and shown.light != shown.dark


def test_a_map_is_as_wide_as_its_methods_need_and_returns_are_left_out_where_nothing_was_retrained() -> None:
    def width(*results: TrialResult) -> float:
        return float(re.search(r'viewBox="0 0 ([\d.]+) ', heat_maps(rows_of(results)).light)[1])

    variants = [result(f"variant-{k}") for k in range(30)]
    few, many, retrained = width(*variants[:3]), width(*variants), width(*variants, result("retrain"))
    assert few < many < retrained


def test_a_forget_set_that_errs_is_held_to_the_policy_that_never_saw_the_poison() -> None:
    """Retraining from what it left learned from missed poison: over the limit, which would excuse the patch."""
    exact = cell(("safe_rule", 19.0, 10.0), RETRAINED, POISONED)
    missed = [
        one.model_copy(update={"cell": one.cell.model_copy(update={"recall": 0.8})})
        for one in cell(("safe_rule", 19.0, 100.0), ("retrain", 44.0, 138.0), POISONED)
    ]
    named = with_clean_retraining([*exact, *missed])
    assert [(one.method, one.cell.recall, one.cost_mean) for one in named if "retrain" in one.method] == [
        ("retrain", 1.0, 10.0), ("retrain", 0.8, 10.0), (AS_NAMED, 0.8, 138.0)
    ]  # fmt: skip
    found = {(one.row.cell.recall, one.row.method): one for one in goals_of(named)}
    patch = found[0.8, "safe_rule"]
    assert set(harms(named).values()) == {Harm.HARMFUL} and not patch.safe and patch.return_share == pytest.approx(0.95)
    assert with_clean_retraining(missed) == missed, "nothing else is known"


def test_returns_are_held_to_retraining_that_keeps_the_limit() -> None:
    poisoned = (40.0, 200.0)
    (found,) = goals_of(seeds(((19.0, 0.0), (20.0, 10.0), poisoned), ((19.0, 0.0), (60.0, 90.0), poisoned)))
    assert found.row.return_ratio == pytest.approx(38 / 80) and found.return_share == pytest.approx(0.95)
    assert found.earns and found.good
    (nothing,) = goals_of(seeds(((19.0, 0.0), (60.0, 90.0), poisoned)))
    assert nothing.safe and nothing.earns is None and nothing.good is None and not nothing.kind_of_failure
