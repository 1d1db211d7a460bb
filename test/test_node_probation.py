"""What a policy on probation is blamed for, and what not: the control path alone, its time made to pass by the test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_node_control_lost import Steady
from test_node_policy_server import Vector, vectors

from saferule_ros.policy.probation import Probation, ProbationLimits

pytestmark = pytest.mark.ros

LIMIT = 25.0


def on_trial(folder: Path, ticks: int = 500, **parameters: float | str) -> Steady:
    """A path whose other policy was just swapped in."""
    steady = Steady(folder, **parameters)
    steady.path.switch(steady.other, Probation(ProbationLimits(ticks=ticks, cost=LIMIT)))
    return steady


def unreadable() -> Vector:
    """An observation that no policy sees."""
    return np.full_like(vectors(1)[0], np.nan)


@pytest.mark.parametrize("first", ["answered", "bad input", "overheard"])
def test_costs_of_two_episodes_are_never_summed(tmp_path: Path, first: str) -> None:
    steady = on_trial(tmp_path)
    path = steady.path
    steady.answer(steady.asked(step=0))
    for step in range(1, 20):
        steady.answer(steady.asked(step=step, cost=float(step > 1)))
    path.episode_ended(steady.asked(step=20, cost=1.0, ended=True))
    if first == "overheard":
        path.overheard(steady.asked(step=0))
    else:
        steady.answer(steady.asked(step=0, seen=unreadable() if first == "bad input" else None))
    steady.answer(steady.asked(step=1))  # without cost: what costs from here on is its own again
    for step in range(2, 12):
        steady.answer(steady.asked(step=step, cost=1.0))
    assert not path.has_verdict, path.take_verdict()
    for step in range(12, 30):
        steady.answer(steady.asked(step=step, cost=1.0))
    verdict = path.take_verdict()
    assert verdict is not None and verdict.fault == "cost: 26 since the swap, limit 25", "of the second alone"


@pytest.mark.parametrize("who", ["fallback", "somebody, while the server was not active"])
def test_where_somebody_else_drove_the_robot_is_not_its_fault_until_it_is_out_of_it(tmp_path: Path, who: str) -> None:
    steady = on_trial(tmp_path)
    path = steady.path
    for step in range(2):
        steady.answer(steady.asked(step=step))
    if who == "fallback":
        path.overheard(steady.asked(step=2, cost=30.0))
    else:
        path.parting(steady.now)
        path.begin()
    for step in range(3, 6):
        steady.answer(steady.asked(step=step, cost=30.0))
    assert not path.has_verdict, path.take_verdict()
    steady.answer(steady.asked(step=6))
    steady.answer(steady.asked(step=7, cost=30.0))
    verdict = path.take_verdict()
    assert verdict is not None and verdict.fault.startswith("cost: 30")


def test_what_its_action_cost_counts_though_the_observation_that_says_so_cannot_be_answered(tmp_path: Path) -> None:
    steady = on_trial(tmp_path, ticks=3)
    steady.answer(steady.asked(step=0))
    assert not steady.path.has_verdict
    steady.answer(steady.asked(step=1, cost=30.0, seen=unreadable()))
    verdict = steady.path.take_verdict()
    assert verdict is not None and verdict.fault.startswith("cost: 30")
    assert steady.path.served is steady.served


def test_bad_input_proves_nothing_for_it_either(tmp_path: Path) -> None:
    steady = on_trial(tmp_path, ticks=3)
    for step in range(10):
        steady.answer(steady.asked(step=step, seen=unreadable()))
    probation = steady.path.probation
    assert probation is not None and probation.left == 3 and not steady.path.has_verdict


def test_how_far_its_first_action_is_from_the_other_policys_last_is_no_fault_but_how_fast_it_goes_on_is(
    tmp_path: Path,
) -> None:
    steady = Steady(tmp_path, largest_rate=5.0, reaction="hold")
    last = [steady.sent(steady.asked(step=step)) for step in range(3)][-1]
    steady.path.switch(steady.other, Probation(ProbationLimits(ticks=50)))
    first = steady.sent(steady.asked(step=3))
    assert max(abs(a - b) for a, b in zip(first, last, strict=True)) > 5.0 / 50.0, "faster than one policy may"
    assert not steady.path.has_verdict and steady.path.served is steady.other
    steady.answer(steady.asked(step=4, seen=-4.0 * vectors(1)[0]))
    verdict = steady.path.take_verdict()
    assert verdict is not None and verdict.fault.startswith("too_fast")
    assert steady.path.served is steady.served
    back = steady.answer(steady.asked(step=5))
    assert back is not None and not back.fallback, "the one that comes back is not held to what the failed one did"
