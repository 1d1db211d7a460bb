"""The failsafe decision: every fault has its reason, and no bad value ever goes out."""

from __future__ import annotations

import array
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saferule_ros.policy.errors import SpecError
from saferule_ros.policy.failsafe import (
    Decision,
    Limits,
    Reaction,
    Reason,
    Tick,
    decide,
    input_fault,
    tick_from_record,
    tick_record,
)
from saferule_ros.policy.spec import PolicySpec
from saferule_ros.units import NANOSECONDS

SPEC = PolicySpec(
    observation_size=3, action_size=2, action_low=(-1.0, -0.1), action_high=(1.0, 0.3), control_rate=20.0, task="t",
    cost_limit=1.0,
)  # fmt: skip
LIMITS = Limits(SPEC, stale_after_s=0.1, deadline_s=0.05, future_tolerance_s=0.02, largest_rate=30.0)
NOW = 1_800_000_000 * NANOSECONDS
GOOD = Tick(
    has_policy=True, observation=[1.0, 2.0, 3.0], stamp_ns=NOW - 5_000_000, previous_stamp_ns=NOW - 55_000_000,
    now_ns=NOW, last_action=[0.5, 0.1], action=[1.0, -0.1], elapsed_s=0.001,
)  # fmt: skip


def test_a_good_tick_sends_the_policys_action() -> None:
    decision = decide(LIMITS, GOOD)
    assert decision.use_policy and decision.reason is Reason.NONE and decision.detail == ""
    assert decision.action.dtype == np.float32 and decision.action.tolist() == pytest.approx([1.0, -0.1])


NAN, INF = math.nan, math.inf
FAULTS: dict[str, tuple[dict[str, object], Reason, str]] = {
    "shutting down": ({"shutting_down": True}, Reason.SHUTDOWN, ""),
    "no policy": ({"has_policy": False}, Reason.NO_POLICY, ""),
    "no observation": ({"observation": None}, Reason.MISSING_OBSERVATION, "for 0.005000 s, limit 0.15 s"),
    "too few values": ({"observation": [1.0, 2.0]}, Reason.WRONG_SIZE, r"(2,), expected (3,)"),
    "no values": ({"observation": []}, Reason.WRONG_SIZE, "(0,)"),
    "a matrix": ({"observation": [[1.0, 2.0, 3.0]]}, Reason.WRONG_SIZE, "(1, 3)"),
    "no numbers": ({"observation": ["a", "b", "c"]}, Reason.WRONG_SIZE, "no vector"),
    "a NaN": ({"observation": [1.0, NAN, 3.0]}, Reason.NON_FINITE_OBSERVATION, "observation[1] is nan"),
    "an infinity": ({"observation": [-INF, 0.0, 3.0]}, Reason.NON_FINITE_OBSERVATION, "observation[0] is -inf"),
    "too large for float32": ({"observation": [1e300, 0.0, 0.0]}, Reason.NON_FINITE_OBSERVATION, "inf"),
    "an old observation": (
        {"now_ns": NOW + NANOSECONDS // 10},
        Reason.STALE_OBSERVATION,
        "0.105000 s old, limit 0.1 s",
    ),
    "time going back": ({"previous_stamp_ns": NOW}, Reason.TIME_BACKWARDS, "0.005000 s before"),
    "a stamp far ahead": ({"stamp_ns": NOW + NANOSECONDS}, Reason.TIME_BACKWARDS, "1.000000 s behind"),
    "an unsafe state": ({"unsafe": "state pushed"}, Reason.UNSAFE, "the safeguard says: state pushed"),
    "a failed inference": ({"action": None, "error": "boom"}, Reason.INFERENCE_ERROR, "boom"),
    "an action despite an error": ({"error": "boom"}, Reason.INFERENCE_ERROR, "boom"),
    "nothing": ({"action": None}, Reason.INFERENCE_ERROR, "nothing"),
    "a short action": ({"action": [0.0]}, Reason.WRONG_SIZE, "action has shape (1,)"),
    "a NaN action": ({"action": [0.0, NAN]}, Reason.NON_FINITE_ACTION, "action[1] is nan"),
    "an infinite action": ({"action": [INF, 0.0]}, Reason.NON_FINITE_ACTION, "action[0] is inf"),
    "a large action": ({"action": [0.0, 0.3001]}, Reason.OUT_OF_BOUNDS, "0.3001, bounds -0.1..0.3"),
    "a small action": ({"action": [-1.01, 0.0]}, Reason.OUT_OF_BOUNDS, "-1.01"),
    "a fast change": (
        {"last_action": [-1.0, 0.1], "last_was_policy": True, "previous_stamp_ns": NOW - 45_000_000},
        Reason.TOO_FAST,
        "action[0] changed by 2 in 0.050000 s",
    ),
    "a stop before": ({"stopped": True}, Reason.STOPPED, "activated again"),
    "a late action": ({"elapsed_s": 0.051}, Reason.LATE, "0.051000 s, deadline 0.05 s"),
    "an unknown time": ({"elapsed_s": NAN}, Reason.LATE, "nan"),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_each_fault_gives_its_reason_and_the_declared_reaction(kind: str) -> None:
    change, reason, detail = FAULTS[kind]
    tick = replace(GOOD, **change)
    decision = decide(LIMITS, tick)
    assert not decision.use_policy and decision.reason is reason and detail in decision.detail
    assert decision.action.tolist() == [0.0, 0.0]
    held = decide(replace(LIMITS, reaction=Reaction.HOLD), tick)
    assert not held.use_policy and held.reason is reason
    assert held.action.tolist() == pytest.approx([0.0, 0.0] if reason is Reason.STOPPED else tick.last_action)


def test_the_reaction_can_be_another_for_each_reason() -> None:
    reactions = {Reason.LATE: Reaction.DAMP, Reason.WRONG_SIZE: Reaction.STOP}
    limits = replace(LIMITS, reaction=Reaction.HOLD, reactions=reactions, damping=0.5)
    late = decide(limits, replace(GOOD, elapsed_s=1.0))
    assert late.reaction is Reaction.DAMP and late.action.tolist() == pytest.approx([0.25, 0.05])
    assert decide(limits, replace(GOOD, observation=None)).reaction is Reaction.HOLD
    stopped = decide(limits, replace(GOOD, observation=[1.0]))
    assert stopped.reaction is Reaction.STOP and stopped.action.tolist() == [0.0, 0.0]
    after = decide(limits, replace(GOOD, stopped=True))
    assert after.reaction is Reaction.STOP and after.reason is Reason.STOPPED
    assert decide(limits, GOOD).reaction is None


def test_damping_brings_every_command_to_rest() -> None:
    limits, action = replace(LIMITS, reaction=Reaction.DAMP), np.asarray([1.0, -0.1], np.float32)
    sizes = []
    for _ in range(80):
        action = decide(limits, replace(GOOD, has_policy=False, last_action=action)).action
        sizes.append(float(np.abs(action).max()))
    assert sizes == sorted(sizes, reverse=True) and sizes[-1] < 1e-6


def test_a_robot_that_may_stand_already_is_not_moved_by_damping_and_holds_its_position() -> None:
    faulty = replace(GOOD, observation=None, last_action=[0.5, 0.1])
    standing = replace(faulty, at_rest=True)
    damps, holds = replace(LIMITS, reaction=Reaction.DAMP), replace(LIMITS, reaction=Reaction.HOLD)
    assert decide(damps, faulty).action.tolist() == pytest.approx([0.4, 0.08])
    assert decide(damps, standing).action.tolist() == [0.0, 0.0]
    assert decide(holds, standing).action.tolist() == pytest.approx([0.5, 0.1])


def test_only_the_policys_own_changes_are_held_against_the_rate() -> None:
    jump = {"action": [1.0, 0.0], "last_action": [-1.0, 0.0]}
    fast = replace(GOOD, **jump, last_was_policy=True)
    assert decide(LIMITS, fast).reason is Reason.TOO_FAST
    assert decide(LIMITS, replace(fast, last_was_policy=False)).use_policy  # after a fault it begins anew
    assert decide(LIMITS, replace(fast, previous_stamp_ns=None)).use_policy  # as in a new episode
    assert decide(LIMITS, replace(fast, previous_stamp_ns=NOW - 75_000_000)).use_policy  # an observation was lost
    assert decide(replace(LIMITS, largest_rate=0.0), fast).use_policy
    together = replace(fast, previous_stamp_ns=fast.stamp_ns, action=[0.4, 0.0])
    assert decide(LIMITS, together).use_policy  # a period at least: jitter is not its doing


def test_every_reason_has_a_fault_in_the_table() -> None:
    assert {reason for _, reason, _ in FAULTS.values()} == set(Reason) - {Reason.NONE}


def test_clock_jitter_is_no_fault_and_the_first_or_an_equal_stamp_neither() -> None:
    for change in (
        {"stamp_ns": NOW + 20_000_000},  # ahead of the clock by the tolerance
        {"stamp_ns": NOW - 55_000_000},  # equal to the stamp before
        {"previous_stamp_ns": None},
        {"now_ns": NOW - 25_000_000},
    ):
        assert decide(LIMITS, replace(GOOD, **change)).use_policy, change


def test_bounds_allow_for_float32_rounding_only() -> None:
    high = np.float32(0.3)
    assert decide(LIMITS, replace(GOOD, action=np.asarray([0.0, np.nextafter(high, np.float32(1))]))).use_policy
    assert not decide(LIMITS, replace(GOOD, action=[0.0, 0.30001])).use_policy


def test_bad_input_is_known_before_the_policy_runs() -> None:
    waiting = replace(GOOD, action=None)
    assert input_fault(LIMITS, waiting) is None
    fault = input_fault(LIMITS, replace(waiting, observation=[NAN] * 3))
    assert fault is not None and fault.reason is Reason.NON_FINITE_OBSERVATION


@pytest.mark.parametrize("last", [None, [NAN, 0.0], [5.0, 0.0], [0.0], ["x", "y"]])
def test_holding_a_command_that_may_not_go_out_means_zero(last: object) -> None:
    limits = replace(LIMITS, reaction=Reaction.HOLD)
    assert decide(limits, replace(GOOD, has_policy=False, last_action=last)).action.tolist() == [0.0, 0.0]


def test_decisions_own_their_action() -> None:
    action, last = np.zeros(2, np.float32), np.full(2, 0.1, np.float32)
    limits = replace(LIMITS, reaction=Reaction.HOLD)
    for tick in (replace(GOOD, action=action, last_action=last), replace(GOOD, error="x", last_action=last)):
        decision = decide(limits, tick)
        assert not np.shares_memory(decision.action, action) and not np.shares_memory(decision.action, last)


def test_message_arrays_are_taken_as_they_come() -> None:
    tick = replace(GOOD, observation=array.array("f", [1, 2, 3]), last_action=array.array("f", [0, 0]))
    assert decide(LIMITS, tick).use_policy


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"stale_after_s": 0.0}, "stale_after_s is 0.0"),
        ({"deadline_s": NAN}, "deadline_s is nan"),
        ({"future_tolerance_s": -1.0}, "future_tolerance_s is -1.0"),
        ({"reaction": "limp"}, "'limp'.*zero, hold, damp, stop"),
        ({"reactions": {Reason.LATE: "limp"}}, "'limp'"),
        ({"reactions": {"tired": Reaction.HOLD}}, "'tired'"),
        ({"damping": 1.0}, "damping is 1.0"),
        ({"largest_rate": -1.0}, "largest_rate is -1.0"),
    ],
)
def test_senseless_limits_are_refused_with_the_value(change: dict[str, object], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        replace(LIMITS, **change)


numbers = st.floats(width=32) | st.sampled_from([NAN, INF, -INF, 1e39, -0.0])
vectors = st.none() | st.lists(numbers, max_size=5)
stamps = st.integers(-(2**31) * NANOSECONDS, 2**31 * NANOSECONDS)
ticks = st.builds(
    Tick, has_policy=st.booleans(), observation=vectors, stamp_ns=stamps, previous_stamp_ns=st.none() | stamps,
    now_ns=stamps, last_action=vectors, action=vectors, error=st.sampled_from(["", "boom"]),
    elapsed_s=st.floats(), shutting_down=st.booleans(), at_rest=st.booleans(),
)  # fmt: skip
# Mostly good ticks with some fields drawn: these come close to being allowed.
near_good = st.builds(
    lambda changes: replace(GOOD, **changes),
    st.fixed_dictionaries({}, optional={
        "observation": vectors, "action": vectors, "last_action": vectors, "elapsed_s": st.floats(),
        "at_rest": st.booleans(),
        "stamp_ns": st.integers(NOW - NANOSECONDS, NOW + NANOSECONDS),
        "previous_stamp_ns": st.none() | st.integers(NOW - NANOSECONDS, NOW + NANOSECONDS),
    }),
)  # fmt: skip
reactions = st.sampled_from(list(Reaction))


def sound(values: object, size: int) -> bool:
    """Said without the code under test: `size` numbers that float32 can hold."""
    largest = float(np.finfo(np.float32).max)
    return isinstance(values, list) and len(values) == size and all(abs(float(value)) <= largest for value in values)


@given(tick=ticks | near_good, reaction=reactions)
def test_no_bad_value_is_ever_used_or_sent(tick: Tick, reaction: Reaction) -> None:
    decision = decide(replace(LIMITS, reaction=reaction), tick)
    assert decision.action.shape == (2,) and decision.action.dtype == np.float32
    assert np.isfinite(decision.action).all()
    assert (decision.action >= [-1.000001, -0.1000005]).all() and (decision.action <= [1.000001, 0.3000005]).all()
    assert decision.use_policy == (decision.reason is Reason.NONE)
    if not sound(tick.observation, 3) or not sound(tick.action, 2):
        assert not decision.use_policy
    if decision.use_policy:
        assert tick.has_policy and not tick.error and not tick.shutting_down and tick.elapsed_s <= 0.05
        assert -0.02 <= (tick.now_ns - tick.stamp_ns) / NANOSECONDS <= 0.1
        assert tick.previous_stamp_ns is None or tick.previous_stamp_ns <= tick.stamp_ns
        assert decision.action.tolist() == np.asarray(tick.action, np.float32).tolist()


def same(first: Decision, second: Decision) -> bool:
    return (first.use_policy, first.reason, first.detail, first.action.tobytes()) == (
        second.use_policy, second.reason, second.detail, second.action.tobytes(),
    )  # fmt: skip


@given(tick=ticks | near_good, reaction=reactions)
def test_a_log_replays_to_the_same_decisions(tick: Tick, reaction: Reaction) -> None:
    limits = replace(LIMITS, reaction=reaction)
    line = json.dumps(tick_record(tick), allow_nan=False)
    assert same(decide(limits, tick), decide(limits, tick_from_record(json.loads(line))))
