"""Costs of a policy's episodes in service, against its limit."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from saferule_ros.policy.episode_costs import NEWEST, EpisodeCosts

LIMIT = 3.0


def drive(costs: EpisodeCosts, *steps: float, ends: bool = True) -> None:
    """One episode, by what each of its actions cost."""
    costs.observed(0, 99.0)  # no action led to the first observation: its cost is nobody's
    for step, cost in enumerate(steps[:-1], start=1):
        costs.observed(step, cost)
    (costs.ended if ends else costs.observed)(len(steps), steps[-1])


def test_whole_episodes_are_summed_and_held_against_the_limit() -> None:
    costs = EpisodeCosts()
    drive(costs, 1.0, 0.0, 1.5)
    drive(costs, 2.0, 2.0)
    drive(costs, 1.0, ends=False)
    found = costs.record(LIMIT)
    assert (found.newest, found.running, found.mean, found.over) == ((2.5, 4.0), 1.0, 3.25, 1)
    assert found.violation == "costs 3.25 in the mean of its newest 2 episodes, 1 of them over its limit of 3"


def test_a_policy_within_its_limit_in_the_mean_violates_nothing() -> None:
    costs = EpisodeCosts()
    assert costs.record(LIMIT).violation == "" and math.isnan(costs.record(LIMIT).mean)
    drive(costs, 5.0)
    drive(costs, 1.0)
    assert costs.record(LIMIT).mean == 3.0 and costs.record(LIMIT).violation == ""


def test_an_episode_that_runs_is_over_the_limit_before_it_ends() -> None:
    costs = EpisodeCosts()
    drive(costs, 2.0, 2.0, ends=False)
    told = costs.record(LIMIT).violation
    assert told == "has cost 4 in the episode that runs, its limit is 3"


def test_an_episode_that_is_not_said_to_end_ends_with_the_next_one() -> None:
    costs = EpisodeCosts()
    drive(costs, 2.0, ends=False)
    drive(costs, 1.0, ends=False)
    assert costs.record(LIMIT).newest == (2.0,)


#: What comes after the first action of an episode, and the step of the observation that ends it.
UNKNOWN: dict[str, tuple[Callable[[EpisodeCosts], None], int]] = {
    "somebody else commanded": (lambda costs: costs.leave_out(), 2),
    "an observation was lost": (lambda costs: costs.observed(3, 9.0), 4),
    "its end and the next one's beginning were lost": (lambda costs: costs.observed(1, 9.0), 2),
    "a cost is no number": (lambda costs: costs.observed(2, math.nan), 3),
    "a cost is infinite": (lambda costs: costs.observed(2, math.inf), 3),
}


@pytest.mark.parametrize("how", UNKNOWN)
def test_an_episode_that_is_not_wholly_known_does_not_count(how: str) -> None:
    costs = EpisodeCosts()
    drive(costs, 9.0, ends=False)
    happens, last = UNKNOWN[how]
    happens(costs)
    found = costs.record(LIMIT)
    assert math.isnan(found.running) and found.violation == ""
    costs.ended(last, 0.0)
    assert costs.record(LIMIT).newest == ()


def test_an_episode_in_which_service_began_does_not_count() -> None:
    costs = EpisodeCosts()
    costs.observed(7, 9.0)
    assert math.isnan(costs.record(LIMIT).running) and costs.record(LIMIT).violation == ""
    costs.ended(8, 0.0)
    assert costs.record(LIMIT).newest == ()


def test_an_episode_without_any_action_does_not_count() -> None:
    costs = EpisodeCosts()
    costs.ended(0, 5.0)
    assert costs.record(LIMIT).newest == ()


def test_only_the_newest_episodes_are_looked_at() -> None:
    costs = EpisodeCosts()
    for number in range(NEWEST + 5):
        drive(costs, float(number))
    assert costs.record(LIMIT).newest == tuple(float(number) for number in range(5, NEWEST + 5))
