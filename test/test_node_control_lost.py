"""Control that is lost while an answer is computed, and what the reaction damp begins from: the control path alone."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from serving_samples import SPEC, add_policy, make_store
from test_node_policy_server import Vector, vectors

from saferule_ros.nodes.lease import longest_answer, takeover_after
from saferule_ros.nodes.policy_parameters import Parameters
from saferule_ros.nodes.served import Served
from saferule_ros.nodes.serving import ControlPath
from saferule_ros.nodes.wire import Asked, Command
from saferule_ros.policy.failsafe import Reason
from saferule_ros.policy.probation import Probation, ProbationLimits
from saferule_ros.policy.runtime import PolicyRuntime

pytestmark = pytest.mark.ros

SECOND = 10**9  # [ns]
PERIOD = SECOND // 50  # of SPEC [ns]
PATIENT = {"deadline": 10.0, "stale_after": 10.0}


class Steady:
    """A control path whose time the test makes pass; an observation is as old as its answer."""

    def __init__(self, folder: Path, damp_within: float = 0.2, **parameters: float | str) -> None:
        self.store, ids = make_store(folder, 1, 2)
        self.settings = Parameters(**{**PATIENT, **parameters})
        self.now = SECOND
        self.path = ControlPath(passed=lambda _: self.now, damp_within=damp_within)
        self.served, self.other = (self.serving(policy) for policy in ids)
        self.path.switch(self.served)
        self._count = 0

    def serving(self, policy: str) -> Served:
        runtime = PolicyRuntime(*self.store.get(policy))
        return Served(runtime, self.settings.limits.of(runtime))

    def asked(self, step: int = 1, seen: Vector | None = None, cost: float = 0.0, ended: bool = False) -> Asked:
        self._count += 1
        return Asked(self._count, step, self.now, vectors(1)[0] if seen is None else seen, cost, ended)

    def answer(self, asked: Asked | None = None, in_control: bool = True) -> Command | None:
        asked = asked or self.asked()
        command = self.path.answer(asked, self.now, lambda: in_control)
        self.path.follow_up()
        self.now += PERIOD
        return command

    def sent(self, asked: Asked | None = None) -> list[float]:
        command = self.answer(asked)
        assert command is not None
        return list(command.data)

    def declared(self, after_s: float = 0.0) -> list[float]:
        safe = self.path.safe_action(after_s)
        assert safe is not None
        return list(safe)


def bad() -> Vector:
    """An observation that no policy sees."""
    return vectors(1)[0][:3]


# Control that is lost while an answer is computed.


def test_an_answer_that_is_withdrawn_leaves_no_trace_of_having_acted(tmp_path: Path) -> None:
    steady = Steady(tmp_path, reaction="hold")
    first = steady.sent(steady.asked(step=0))
    other = -vectors(1)[0]
    assert steady.answer(steady.asked(step=1, seen=other, cost=3.0), in_control=False) is None
    path = steady.path
    assert (path.sequence, path.fallbacks, path.withdrawn) == (1, 0, 1)
    assert [entry.decision.action.tolist() for entry in path.flight.copy()] == [pytest.approx(first)]
    assert steady.declared() == pytest.approx(first), "what was sent last is what is held"
    assert "control was lost" in path.last_fault
    steady.now += 60 * SECOND
    assert path.unanswered(steady.now, lambda: False) is None, "another one commands"
    again = steady.answer(steady.asked(step=2))
    assert again is not None and again.sequence == 2 and not again.fallback
    path.episode_ended(steady.asked(step=3, cost=1.0, ended=True))
    assert path.costs.record(SPEC.cost_limit).newest == (), "somebody else commanded in this episode"


def test_a_silence_is_not_answered_without_control_either(tmp_path: Path) -> None:
    steady = Steady(tmp_path, stale_after=0.1)
    steady.answer()
    steady.now += SECOND
    assert steady.path.unanswered(steady.now, lambda: False) is None and steady.path.sequence == 1
    assert steady.path.unanswered(steady.now, lambda: True) is not None and steady.path.sequence == 2


def test_silence_after_what_was_observed_without_control_is_answered_once_control_is_back(tmp_path: Path) -> None:
    """Between two beats control was lost for an instant, and nobody had taken it: the last command is the policy's."""
    steady = Steady(tmp_path, stale_after=0.1)
    steady.answer(steady.asked(step=0))
    steady.path.overheard(steady.asked(step=1))
    steady.now += SECOND
    command = steady.path.unanswered(steady.now)
    assert command is not None and command.fallback_reason == "missing_observation"
    steady.path.overheard(steady.asked(step=2, ended=True))
    steady.now += SECOND
    assert steady.path.unanswered(steady.now) is None, "the episode has ended"


def test_a_clock_that_is_set_back_while_nothing_acts_is_no_fault_afterwards(tmp_path: Path) -> None:
    steady = Steady(tmp_path, reactions="time_backwards=stop")
    steady.answer(steady.asked(step=0))
    steady.now -= SECOND // 2
    steady.path.begin()
    command = steady.answer(steady.asked(step=1))
    assert command is not None and not command.fallback and steady.path.stop is None


def test_a_policy_on_probation_that_takes_control_away_is_late_and_one_that_does_not_has_not_proved_good(
    tmp_path: Path,
) -> None:
    steady = Steady(tmp_path)
    probation = Probation(ProbationLimits(ticks=3, late=2))
    steady.path.switch(steady.other, probation)
    for _ in range(5):  # the machine stood still: control was lost, and the policy was quick
        assert steady.answer(in_control=False) is None
    assert probation.left == 3 and not steady.path.has_verdict
    steady.settings = Parameters(**{**PATIENT, "deadline": 1e-9})
    slow = Probation(ProbationLimits(ticks=3, late=2))
    steady.path.switch(steady.served)
    steady.path.switch(steady.serving(steady.other.id), slow)
    for _ in range(2):
        assert not steady.path.has_verdict
        assert steady.answer(in_control=False) is None
    verdict = steady.path.take_verdict()
    assert verdict is not None and verdict.fault.startswith("late: 2 late actions")
    assert steady.path.served is steady.served and steady.path.sequence == 0
    assert {entry.decision.reason for entry in steady.path.flight.copy()} == {Reason.LATE}, "the log has what led to it"


def test_a_fault_that_stops_for_good_does_so_although_another_one_sends_the_zeros(tmp_path: Path) -> None:
    steady = Steady(tmp_path, reactions="late=stop", deadline=1e-9)
    assert steady.answer(in_control=False) is None
    assert steady.path.stop is not None
    assert (steady.path.stop.policy_id, steady.path.stop.reason) == (steady.served.id, Reason.LATE)
    again = steady.answer()
    assert again is not None and again.fallback_reason == "stopped"


@pytest.mark.parametrize(
    ("parameters", "deadline"),
    [
        ({"fallback": False}, 0.1),
        ({"fallback": True, "heartbeat_period": 0.02}, 0.02),
        ({"fallback": True, "heartbeat_period": 0.02, "deadline": 0.05}, 0.02),
        ({"fallback": True, "heartbeat_period": 0.02, "deadline": 0.01}, 0.01),
        ({"fallback": True, "heartbeat_period": 0.5}, 0.1),
    ],
)
def test_an_action_is_late_before_control_would_be_lost(
    tmp_path: Path, parameters: dict[str, float | bool], deadline: float
) -> None:
    store, _ = make_store(tmp_path, 1)
    slower = add_policy(store, 2, tmp_path, spec=SPEC.model_copy(update={"control_rate": 10.0}))
    runtime = PolicyRuntime(*store.get(slower))
    settings = Parameters(**parameters)
    limits = settings.limits.of(runtime)
    assert limits.deadline_s == pytest.approx(deadline)
    assert not settings.fallback or limits.deadline_s <= longest_answer(settings.heartbeat_period)
    shorter = deadline < (settings.deadline or 0.1)
    told = settings.about_deadline(limits)
    assert (f"late after {deadline:g} s" in told and "heartbeat_period" in told) if shorter else not told


# What the reaction damp begins from.


def test_after_the_end_of_an_episode_damp_moves_nothing_and_hold_holds(tmp_path: Path) -> None:
    for reaction, share in (("damp", 0.0), ("hold", 1.0)):
        (tmp_path / reaction).mkdir()
        steady = Steady(tmp_path / reaction, math.inf, reaction=reaction)
        last = steady.sent()
        steady.path.episode_ended(steady.asked(step=2, ended=True))
        assert steady.declared() == pytest.approx([share * value for value in last]), "a crash between two episodes"
        first = steady.sent(steady.asked(step=0, seen=bad()))
        assert first == pytest.approx([share * value for value in last]), "a bad first observation"


@pytest.mark.parametrize("lost", ["the end", "the end, which another one answers", "the first"])
def test_an_end_of_an_episode_that_was_not_heard_is_one(tmp_path: Path, lost: str) -> None:
    steady = Steady(tmp_path, math.inf, reaction="damp")
    assert any(steady.sent())
    if lost == "the end":
        assert steady.sent(steady.asked(step=0, seen=bad())) == [0.0, 0.0]
        return
    steady.path.overheard(steady.asked(step=2 if lost.startswith("the end") else 0, ended=lost.startswith("the end")))
    assert steady.declared() == [0.0, 0.0]


def test_damp_begins_from_the_last_command_as_long_as_the_robot_carries_it_out(tmp_path: Path) -> None:
    steady = Steady(tmp_path, 0.2, reaction="damp", damping=0.5)
    last = steady.sent()
    half = [0.5 * value for value in last]
    assert steady.declared() == pytest.approx(half), "one control period after it"
    assert steady.sent(steady.asked(seen=bad())) == pytest.approx(half)
    assert steady.sent(steady.asked(seen=bad())) == pytest.approx([0.5 * value for value in half])
    steady.sent()
    steady.now += SECOND // 5 - PERIOD
    assert any(steady.declared())
    steady.now += 1
    assert steady.declared() == [0.0, 0.0], "it may have stopped by itself"
    assert steady.sent(steady.asked(seen=bad())) == [0.0, 0.0]


def test_sensors_that_fall_silent_do_not_make_a_robot_move_again(tmp_path: Path) -> None:
    for reaction, share in (("damp", 0.0), ("hold", 1.0)):
        (tmp_path / reaction).mkdir()
        steady = Steady(tmp_path / reaction, 0.2, reaction=reaction, stale_after=0.5)
        last = steady.sent()
        steady.now += SECOND
        for _ in range(3):
            command = steady.path.unanswered(steady.now)
            assert command is not None and command.fallback_reason == "missing_observation"
            assert list(command.data) == pytest.approx([share * value for value in last])
            steady.now += PERIOD


def test_sensors_that_are_missed_soon_are_damped_from_the_last_command(tmp_path: Path) -> None:
    steady = Steady(tmp_path, 0.2, reaction="damp", damping=0.5, stale_after=0.05)
    last = steady.sent()
    steady.now += 3 * PERIOD
    for beats in range(1, 16):  # for longer than a robot goes on without a command: it has these
        command = steady.path.unanswered(steady.now)
        assert command is not None and list(command.data) == pytest.approx([0.5**beats * value for value in last])
        steady.now += PERIOD


def test_the_time_until_the_fallback_begins_counts_for_what_it_is_told_to_damp(tmp_path: Path) -> None:
    steady = Steady(tmp_path, 0.2, reaction="damp")
    steady.sent()
    assert any(steady.declared(takeover_after(0.02))), "70 ms after the command"
    assert steady.declared(takeover_after(0.1)) == [0.0, 0.0], "230 ms after it"


@pytest.mark.parametrize(
    ("fallback", "rate", "asked", "deadline"),
    [(True, 10.0, 0.0, 0.01), (True, 100.0, 0.0, 0.005), (False, 10.0, 0.0, 0.05), (True, 10.0, 0.03, 0.03)],
)
def test_the_gate_passes_nothing_by_itself_that_would_be_late_in_service(
    fallback: bool, rate: float, asked: float, deadline: float
) -> None:
    settings = Parameters(fallback=fallback, heartbeat_period=0.02, gate_deadline=asked)
    assert settings.swap.deadline_of(SPEC.model_copy(update={"control_rate": rate})) == pytest.approx(deadline)
