"""Judging policies from logs: rank correlation, the model's check, the rule that chooses a checkpoint or none."""

from __future__ import annotations

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch
from evaluation_cases import HORIZON, LIMITS, SMALL, line, towards, units_of

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.pieces import piece, split_steps, whole_name
from saferule_ros.evaluation.check import ModelCheck, check_model, replay
from saferule_ros.evaluation.fitting import fit_model, untrained
from saferule_ros.evaluation.judge import Judge, Judged
from saferule_ros.evaluation.model import DynamicsEnsemble
from saferule_ros.evaluation.ranking import rank_correlation
from saferule_ros.evaluation.requirements import CannotJudge
from saferule_ros.evaluation.selection import select
from saferule_ros.evaluation.settings import JudgeSettings, SelectionSettings
from saferule_ros.learning.settings import TaskLimits

TRUSTED = ModelCheck(episodes=20, correlation=0.9, predicted=10.0, logged=10.0, within=8, shortfall=0.0)


def judged(cost: float, spread: float = 0.0, earns: float = 1.0) -> Judged:
    return Judged(cost=cost, cost_spread=spread, episode_return=earns, disagreement=0.1)


@pytest.fixture(scope="module")
def dataset():
    return line()


@pytest.fixture(scope="module")
def judge(dataset) -> Judge:
    return Judge(dataset, units_of(dataset), LIMITS, JudgeSettings(model=SMALL), seed=0)


def indifferent(dataset: EpisodeDataset) -> DynamicsEnsemble:
    """A model that charges every step the same, half of the largest cost, whatever is seen and done."""
    made = untrained(dataset, units_of(dataset), SMALL, seed=0)
    with torch.no_grad():
        made.out.weight.zero_()
        made.out.bias.zero_()
    return made


def test_rank_correlation_of_known_lists() -> None:
    assert rank_correlation([1, 2, 3], [10, 20, 90]) == pytest.approx(1.0)
    assert rank_correlation([1, 2, 3], [9, 2, 1]) == pytest.approx(-1.0)
    assert rank_correlation([1, 2, 3, 4], [1, 3, 2, 4]) == pytest.approx(1 - 6 * 2 / (4 * 15))  # the textbook formula
    assert rank_correlation([1, 1, 2], [5, 5, 7]) == pytest.approx(1.0)  # ties share their rank
    assert math.isnan(rank_correlation([1, 1, 1], [1, 2, 3]))


def test_a_replay_counts_each_episode_to_its_own_end(dataset) -> None:
    made = indifferent(dataset)
    mixed = EpisodeDataset.from_episodes([dataset.episode(0), piece(dataset.episode(1), 0, 7)])
    expected = torch.tensor([0.5 * HORIZON, 0.5 * 7])  # each step costs half of the largest cost, 1
    torch.testing.assert_close(replay(made, mixed).costs, expected.expand(SMALL.members, 2))


def test_an_end_that_is_expected_a_little_late_counts_for_episodes_that_terminated() -> None:
    falling = line(edge=2.0)
    made = untrained(falling, units_of(falling), SMALL, seed=0)
    assert made.end is not None
    with torch.no_grad():
        made.end.weight.zero_()
        made.end.bias.zero_()  # with each step the chance is a half
    fell, stayed = (next(k for k, r in enumerate(falling.records) if r.terminated is state) for state in (True, False))
    pair = EpisodeDataset.from_episodes([piece(falling.episode(fell), 0, falling.records[fell].length),
                                         piece(falling.episode(stayed), 0, 3)])  # fmt: skip
    steps = falling.records[fell].length
    for late in (0, 2):
        expected = torch.tensor([1 - 0.5 ** (steps + late), 1 - 0.5**3])
        torch.testing.assert_close(replay(made, pair, late).ended, expected.expand(SMALL.members, 2), rtol=0, atol=1e-6)
    torch.testing.assert_close(replay(made, pair, 0).costs, replay(made, pair, 2).costs)


def test_lengths_of_episodes_that_terminated_do_not_rank_their_costs(dataset) -> None:
    """A model that charges every step the same, and knows of no end, ranks short and long episodes by their totals."""
    made = indifferent(dataset)
    fell = EpisodeDataset.from_episodes(
        dataclasses.replace(piece(dataset.episode(k), 0, 2 + k % 15), id=f"fell-{k}", terminated=True, truncated=False)
        for k in range(dataset.episodes)
    )
    check = check_model(made, fell, LIMITS)
    assert not abs(check.correlation) >= 0.5
    assert (check.predicted, check.ended, check.expected_ended) == (pytest.approx(0.5 * HORIZON), 1.0, 0.0)


def test_a_good_model_passes_its_check_and_a_random_one_does_not(dataset, judge) -> None:
    assert judge.check.correlation > 0.8
    assert judge.check.predicted == pytest.approx(judge.check.logged, rel=0.3)
    random = untrained(dataset, units_of(dataset), SMALL, seed=0)
    assert not check_model(random, line(20, seed=9), LIMITS).correlation >= 0.5


def test_what_is_checked_is_cost_per_step_and_ten_episodes_at_least(dataset, judge) -> None:
    """A model that charges every step the same ranks pieces of different lengths by their totals, and knows nothing."""
    assert judge.check.episodes == 10
    made = indifferent(dataset)
    pieces = EpisodeDataset.from_episodes(
        piece(dataset.episode(index), 0, 2 + index % 15) for index in range(dataset.episodes)
    )
    assert not abs(check_model(made, pieces, LIMITS).correlation) >= 0.5


@pytest.mark.parametrize(("limit", "within"), [(9.0, 0), (15.0, 30)])
def test_the_check_measures_what_episodes_cost_that_were_to_keep_the_limit(dataset, limit: float, within: int) -> None:
    """A model that charges every step half, 10 for an episode, whole or not; what these cost by the log is known."""
    made = indifferent(dataset)
    costly = [k for k in range(dataset.episodes) if dataset.records[k].episode_cost >= 8][:30]
    held_out = EpisodeDataset.from_episodes(
        piece(dataset.episode(k), 10, 20) if n % 2 else dataset.episode(k) for n, k in enumerate(costly)
    )
    check = check_model(made, held_out, TaskLimits(cost_limit=limit, horizon=HORIZON))
    assert check.within == within and check.predicted == pytest.approx(10.0)
    cost = np.array([record.episode_cost * HORIZON / record.length for record in held_out.records])
    if within:
        error = cost.std(ddof=1) / np.sqrt(30)
        assert check.shortfall == pytest.approx(cost.mean() - 10.0 + error) and check.shortfall > 1.0
        cheap = EpisodeDataset.from_episodes(dataset.episode(k) for k in range(80) if k not in costly)
        assert check_model(made, cheap, TaskLimits(cost_limit=limit, horizon=HORIZON)).shortfall == 0.0
    else:
        assert math.isnan(check.shortfall)


def test_a_judge_ranks_policies_by_their_cost_and_return(judge) -> None:
    safe, edge, bad = (judge.judge(towards(target)) for target in (0.0, 1.0, 2.0))
    assert safe.cost < 1.0 < edge.cost + 1.0 < bad.cost
    assert safe.episode_return < edge.episode_return < bad.episode_return


def disagreeing(dataset: EpisodeDataset, drifts: torch.Tensor, logits: torch.Tensor) -> DynamicsEnsemble:
    """Members that know nothing but what each adds to the first value of an observation, and charges, in every step.

    Args:
        drifts: (E,) in standard deviations of a step's change.
        logits: (E,) of the share of the largest cost, 1.
    """
    made = indifferent(dataset)
    with torch.no_grad():
        made.out.bias[:, 0, 0] = drifts
        made.out.bias[:, 0, -1] = logits
    return made


def test_what_members_expect_differently_is_told_of_costs_and_of_the_way(dataset, judge) -> None:
    """Costs of an episode: each member's own, 20 times its charge. Observations: apart by the drift's spread times t,
    20 steps, in one of two values."""
    drifts, logits = torch.tensor([-0.02, 0.0, 0.05]), torch.tensor([-2.0, -1.0, 0.5])
    own = copy.copy(judge)
    own.model = disagreeing(dataset, drifts, logits)
    found = own.judge(towards(0.0))
    costs = HORIZON * torch.sigmoid(logits)
    assert found.cost == pytest.approx(costs.mean().item(), rel=1e-4)
    assert found.cost_spread == pytest.approx(costs.std().item(), rel=1e-4) and found.cost_spread > 1.0
    apart = drifts.std() * own.model.change[0] * torch.arange(1, HORIZON + 1)
    assert found.disagreement == pytest.approx(apart.mean().item() / 2, rel=1e-3) and found.disagreement > 0.0
    bounds = select({100: found}, TRUSTED, 25.0, SelectionSettings(pessimism=2.0)).bounds
    assert bounds[100] == pytest.approx((costs.mean() + 2.0 * costs.std()).item(), rel=1e-4)


def test_a_judge_says_how_many_episodes_it_needs(dataset) -> None:
    with pytest.raises(CannotJudge, match=r"there are 19 episodes.*needs 20"):
        Judge(dataset.subset(range(19)), units_of(dataset), LIMITS, JudgeSettings(model=SMALL), seed=0)


def test_pieces_of_one_episode_count_once(dataset) -> None:
    few = dataset.subset(range(19))
    cut = split_steps(few, np.arange(len(few)) % 7 < 6)[0]
    assert cut.episodes > 19
    with pytest.raises(CannotJudge, match="there are 19 episodes"):
        Judge(cut, units_of(dataset), LIMITS, JudgeSettings(model=SMALL), seed=0)


def test_where_episodes_terminate_a_judge_says_how_often_those_of_a_policy_do() -> None:
    falling = line(edge=1.5)
    judge = Judge(falling, units_of(falling), LIMITS, JudgeSettings(model=SMALL), seed=0)
    assert judge.check.correlation > 0.8
    assert judge.check.ended > 0.0 and judge.check.expected_ended == pytest.approx(judge.check.ended, abs=0.15)
    stays, falls = judge.judge(towards(0.0)), judge.judge(towards(2.5))
    assert stays.ended < 0.1 and falls.ended > 0.9


def test_the_model_is_checked_on_episodes_of_which_it_saw_no_piece(dataset, monkeypatch) -> None:
    seen = {}

    def fit(shown, *rest):
        seen["shown"] = {whole_name(record.id) for record in shown.records}
        return fit_model(shown, *rest)

    def check(model, held_out, limits):
        seen["held out"] = {whole_name(record.id) for record in held_out.records}
        return check_model(model, held_out, limits)

    monkeypatch.setattr("saferule_ros.evaluation.judge.fit_model", fit)
    monkeypatch.setattr("saferule_ros.evaluation.judge.check_model", check)
    cut = EpisodeDataset.from_episodes(
        piece(dataset.episode(k), begin, begin + 5) for k in range(24) for begin in (0, 5, 10)
    )
    quick = SMALL.model_copy(update={"single_steps": 2, "unroll_steps": 2, "unroll": 2})
    Judge(cut, units_of(dataset), LIMITS, JudgeSettings(model=quick), seed=0)
    assert len(seen["held out"]) == 10 and len(seen["shown"]) == 14
    assert not seen["held out"] & seen["shown"]


def test_the_candidate_that_earns_most_within_the_limit_is_chosen() -> None:
    candidates = {100: judged(5.0, earns=10.0), 200: judged(20.0, earns=30.0), 300: judged(40.0, earns=50.0)}
    found = select(candidates, TRUSTED, cost_limit=25.0, settings=SelectionSettings())
    assert found.step == 200
    assert "2 of 3" in found.reason


def test_how_often_the_chosen_one_is_expected_to_fall_is_told() -> None:
    candidates = {100: judged(5.0), 200: dataclasses.replace(judged(5.0, earns=2.0), ended=0.4)}
    found = select(candidates, TRUSTED, cost_limit=25.0, settings=SelectionSettings())
    assert found.reason.endswith("step 200 is to earn most; 40% of its episodes are to terminate before the horizon")
    del candidates[200]
    assert "terminate" not in select(candidates, TRUSTED, cost_limit=25.0, settings=SelectionSettings()).reason


def test_a_model_that_does_not_know_which_episodes_end_is_not_trusted() -> None:
    for expected, trusted in ((0.3, True), (0.39, True), (0.41, False), (0.19, False)):
        check = dataclasses.replace(TRUSTED, ended=0.3, expected_ended=expected)
        found = select({100: judged(5.0)}, check, cost_limit=25.0, settings=SelectionSettings())
        assert found.trusted is trusted and (found.step == 100) is trusted
    assert "it expects 19% of the replayed episodes to terminate, 30% did" in found.reason


def test_candidates_that_fall_can_be_ruled_out() -> None:
    candidates = {100: judged(5.0), 200: dataclasses.replace(judged(5.0, earns=2.0), ended=0.4)}
    assert select(candidates, TRUSTED, 25.0, SelectionSettings(may_end=0.4)).step == 200
    assert select(candidates, TRUSTED, 25.0, SelectionSettings(may_end=0.1)).step == 100
    del candidates[100]
    found = select(candidates, TRUSTED, 25.0, SelectionSettings(may_end=0.1))
    assert found.step is None and found.trusted
    assert found.reason == "of each candidate 40% or more episodes are to terminate, allowed are 10%"


def test_a_candidate_on_which_the_members_do_not_agree_is_not_within_the_limit() -> None:
    candidates = {100: judged(5.0, earns=10.0), 200: judged(20.0, spread=10.0, earns=30.0)}
    found = select(candidates, TRUSTED, cost_limit=25.0, settings=SelectionSettings(pessimism=1.0))
    assert (found.step, found.bounds[200]) == (100, 30.0)
    assert select(candidates, TRUSTED, 25.0, SelectionSettings(pessimism=0.0)).step == 200


def test_what_replays_cost_more_than_expected_is_added_to_every_bound() -> None:
    short = dataclasses.replace(TRUSTED, shortfall=7.0)
    candidates = {100: judged(5.0, earns=10.0), 200: judged(20.0, earns=30.0)}
    found = select(candidates, short, 25.0, SelectionSettings())
    assert (found.step, found.bounds) == (100, {100: 12.0, 200: 27.0})


@pytest.mark.parametrize("within", [0, 1])
def test_a_model_that_hardly_expects_a_replay_to_keep_the_limit_is_not_trusted(within: int) -> None:
    check = dataclasses.replace(TRUSTED, within=within, shortfall=float("nan"))
    found = select({100: judged(1.0)}, check, 25.0, SelectionSettings())
    assert found.step is None and not found.trusted and found.bounds == {100: 1.0}
    assert f"it expects {within} of 20 replayed episodes to keep the limit" in found.reason


def test_none_is_proposed_if_all_cost_too_much() -> None:
    found = select({100: judged(50.0), 200: judged(31.0)}, TRUSTED, 25.0, SelectionSettings())
    assert found.step is None
    assert "least bound is 31.0" in found.reason


@pytest.mark.parametrize("correlation", [0.3, float("nan")])
def test_none_is_proposed_if_the_model_is_not_trusted(correlation: float) -> None:
    check = dataclasses.replace(TRUSTED, correlation=correlation)
    found = select({100: judged(0.0)}, check, 25.0, SelectionSettings())
    assert found.step is None
    assert "not trusted" in found.reason


def test_the_same_seed_judges_alike(dataset) -> None:
    quick = JudgeSettings(model=SMALL.model_copy(update={"single_steps": 5, "unroll_steps": 2}))
    first, again = (Judge(dataset, units_of(dataset), LIMITS, quick, 3).judge(towards(1.0)) for _ in range(2))
    assert first == again
    assert np.isfinite(first.cost)
