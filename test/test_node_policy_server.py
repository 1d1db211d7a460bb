# ruff: noqa: F811  (a fixture that is imported is redefined by each parameter of its name)
"""policy_server as a real process over DDS; the robot is played by the test's probe."""

from __future__ import annotations

import array
import itertools
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from numpy.typing import NDArray
from ros_helpers import DEADLINE, READY, Ros, ros  # noqa: F401
from saferule_ros.msg import Action, Observation, PolicyStatus
from saferule_ros.srv import ListPolicies, RollbackPolicy, SwapPolicy
from serving_samples import SPEC, TanhPolicy, add_policy, make_store

from saferule_ros.nodes import qos
from saferule_ros.nodes.policy_parameters import Parameters
from saferule_ros.nodes.served import Served
from saferule_ros.nodes.serving import ControlHangsError, ControlPath
from saferule_ros.nodes.wire import Asked, Command
from saferule_ros.policy import flight
from saferule_ros.policy.probation import Probation, ProbationLimits
from saferule_ros.policy.runtime import PolicyRuntime
from saferule_ros.policy.store import PolicyStore

pytestmark = pytest.mark.ros

SWAP = 120.0  # a gate is niced: on a machine that is busy otherwise it takes its time [s]
FIRST_ANSWER = 5.0  # within this an observation that was delivered has been answered [s]

STALE_AFTER = 10.0  # after so long a silence comes an action unasked: no test hesitates that long on a busy machine [s]

Vector = NDArray[np.float32]


class Robot:
    """Publishes observations, and keeps what comes back."""

    def __init__(self, ros: Ros, listeners: int = 1) -> None:
        self.probe = ros.probe
        self.status = ros.probe.record(PolicyStatus, "policy_server/status", qos.LATCHED)
        self.actions = ros.probe.record(Action, "action")
        self.observations = ros.probe.publisher(Observation, "observation", listeners=listeners)
        self.probe.wait_for(lambda: ros.probe.node.count_publishers("/action") == listeners, "the server may act")
        self.sequence = 0
        self.time_shift = 0.0

    def observe(self, data: Vector, **rest: Any) -> None:
        self.sequence += 1
        stamp = self.probe.node.get_clock().now().nanoseconds + round(self.time_shift * 1e9)
        message = Observation(
            sequence=self.sequence, step=self.sequence, episode_id="e", data=array.array("f", data.tobytes()), **rest
        )
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 10**9)
        self.observations.publish(message)

    def ask(self, data: Vector, **rest: Any) -> Action:
        """One observation and its answer."""
        before = len(self.actions)
        self.observe(data, **rest)
        if self.sequence == 1 and not self.probe.becomes(lambda: self.actions, FIRST_ANSWER):
            # The server had not met this publisher yet, although that had met the server: it was not delivered.
            self.sequence = 0
            self.observe(data, **rest)
        self.probe.wait_for(lambda: len(self.actions) > before, f"observation {self.sequence} is answered")
        return self.actions[-1]


def start(ros: Ros, store: PolicyStore, **parameters: Any) -> None:
    # A busy machine is late now and then; what these tests look at must not depend on it.
    # Probation is what test_node_policy_swap is about.
    chosen = {
        "store": str(store.root), "deadline": 10.0, "stale_after": STALE_AFTER, "gate_deadline": 1.0,
        "probation_ticks": 0, **parameters,
    }  # fmt: skip
    ros.runner.start("policy_server", parameters=chosen)
    ros.runner.wait_ready(READY)


def vectors(count: int, seed: int = 5) -> Vector:
    return np.random.default_rng(seed).standard_normal((count, SPEC.observation_size)).astype(np.float32)


def swap(ros: Ros, policy_id: str = "") -> SwapPolicy.Response:
    return ros.probe.call(SwapPolicy, "policy_server/swap", SwapPolicy.Request(policy_id=policy_id), SWAP)


def roll_back(ros: Ros, reason: str = "test") -> RollbackPolicy.Response:
    return ros.probe.call(RollbackPolicy, "policy_server/rollback", RollbackPolicy.Request(reason=reason))


def test_every_observation_is_answered_once_with_the_active_policys_action(
    ros: Ros,
    tmp_path: Path,
) -> None:
    store, ids = make_store(tmp_path, 1)
    start(ros, store)
    robot = Robot(ros)
    given = vectors(200)
    robot.ask(given[0])  # from now on server and publisher have met
    for vector in given[1:]:
        robot.observe(vector)
    ros.probe.wait_for(lambda: len(robot.actions) == len(given), "all were answered")
    assert [a.observation_sequence for a in robot.actions] == list(range(1, 201))
    assert [a.sequence for a in robot.actions] == list(range(1, 201))
    np.testing.assert_allclose([a.data for a in robot.actions], TanhPolicy(1).act(given), atol=1e-6)
    assert {(a.policy_id, a.policy_generation, a.fallback) for a in robot.actions} == {(ids[0], 1, False)}
    assert all(0 < a.inference_time < 1 for a in robot.actions)
    status = robot.status[-1]
    assert (status.state, status.active_id, status.policy_generation, status.first_sequence) == (
        "serving",
        ids[0],
        1,
        1,
    )


@pytest.mark.parametrize("end", [{"terminated": True}, {"truncated": True}])
def test_the_end_of_an_episode_asks_for_no_action(ros: Ros, tmp_path: Path, end: dict[str, bool]) -> None:
    store, _ = make_store(tmp_path, 1)
    start(ros, store)
    robot = Robot(ros)
    robot.observe(vectors(1)[0], **end)
    assert robot.ask(vectors(1)[0]).observation_sequence == 2
    assert len(robot.actions) == 1


def test_bad_observations_get_the_safe_action_with_the_reason(ros: Ros, tmp_path: Path) -> None:
    store, _ = make_store(tmp_path, 1)
    start(ros, store)
    robot = Robot(ros)
    good = vectors(1)[0]

    def reason(data: Vector, shift: float = 0.0) -> str:
        robot.time_shift = shift
        action = robot.ask(data)
        assert action.fallback == (action.fallback_reason != "")
        assert not action.fallback or (list(action.data) == [0.0, 0.0] and action.policy_id == "")
        return action.fallback_reason

    assert reason(good) == ""
    assert reason(good[:-1]) == "wrong_size"
    assert reason(np.zeros(0, np.float32)) == "wrong_size"
    assert reason(np.where(np.arange(28) == 3, np.nan, good).astype(np.float32)) == "non_finite_observation"
    assert reason(good, shift=-0.5) == "time_backwards"
    assert reason(good) == ""
    ros.probe.wait_for(lambda: len(robot.actions) == 6, "six answers")
    robot.time_shift = -1.5 * STALE_AFTER
    robot.sequence = -1  # a new episode, so time may have gone back
    assert robot.ask(good).fallback_reason == "stale_observation"
    assert [a.sequence for a in robot.actions] == list(range(1, 8))


def test_a_robot_whose_sensors_fall_silent_gets_the_safe_action_until_they_are_back(ros: Ros, tmp_path: Path) -> None:
    store, (policy,) = make_store(tmp_path, 1)
    start(ros, store, stale_after=1.0)
    robot = Robot(ros)
    assert not robot.ask(vectors(1)[0]).fallback
    ros.probe.wait_for(lambda: len(robot.actions) >= 5, "safe actions come unasked")
    unasked = robot.actions[1:5]
    assert {(a.fallback_reason, a.observation_sequence, a.policy_id) for a in unasked} == {
        ("missing_observation", 0, "")
    }
    assert all(list(a.data) == [0.0, 0.0] for a in unasked)
    ros.probe.wait_for(lambda: list((tmp_path / "flights").glob("*.jsonl")), "what led to it is written down")
    (log,) = (tmp_path / "flights").glob("*.jsonl")
    replayed = flight.replay(log)
    assert replayed.differing == () and replayed.reasons == {"none": 1, "missing_observation": 1}
    robot.observe(vectors(1)[0])
    answer = ros.probe.wait_for(
        lambda: next((a for a in robot.actions if a.observation_sequence == robot.sequence), None), "the policy acts"
    )
    assert (answer.policy_id, answer.fallback) == (policy, False)
    assert [a.sequence for a in robot.actions] == list(range(1, len(robot.actions) + 1))


def test_only_in_the_middle_of_an_episode_is_an_observation_missed(tmp_path: Path) -> None:
    store, (policy,) = make_store(tmp_path, 1)
    runtime = PolicyRuntime(*store.get(policy))
    second, patience = 10**9, 120_000_000  # 0.1 s and the control period of 0.02 s
    now = 0
    path = ControlPath(passed=lambda _: now)
    path.switch(Served(runtime, Parameters(stale_after=0.1).limits.of(runtime)))
    set_back = 3600 * second  # the clock that stamps is set back, again and again: nothing hangs on it

    def unanswered(at: int) -> Command | None:
        nonlocal now
        now = at
        return path.unanswered(at - set_back)

    def answered(at: int, ended: bool = False) -> None:
        nonlocal now
        now = at
        asked = Asked(at // second, at // second, at, vectors(1)[0], 0.0, ended)
        path.episode_ended(asked) if ended else path.answer(asked, at)

    assert unanswered(100 * second) is None, "none came yet"
    answered(second)
    assert unanswered(second + patience) is None
    for _ in range(3):
        command = unanswered(second + patience + 1)
        assert command is not None and command.fallback_reason == "missing_observation"
    newest = path.flight.copy()[-1]
    assert str(newest.decision.reason) == "missing_observation" and "0.120000 s" in newest.decision.detail
    assert len(path.flight.copy()) == 2
    answered(2 * second)
    assert unanswered(2 * second + patience) is None
    answered(3 * second, ended=True)
    assert unanswered(100 * second) is None, "the episode has ended"
    answered(101 * second)
    now = 102 * second
    path.overheard(Asked(102, 102, now, vectors(1)[0], 0.0, False))
    assert unanswered(200 * second) is not None, "another one commanded when the next came; no end of the episode did"
    path.overheard(Asked(103, 103, 200 * second, vectors(1)[0], 0.0, True))
    assert unanswered(300 * second) is None, "the episode has ended while another one commanded"
    answered(301 * second)
    path.begin()
    assert unanswered(400 * second) is None, "it was deactivated in between"


def test_a_publisher_that_counts_no_steps_is_told_that_nothing_is_watched(tmp_path: Path) -> None:
    store, (policy,) = make_store(tmp_path, 1)
    path = ControlPath()
    runtime = PolicyRuntime(*store.get(policy))
    path.switch(Served(runtime, Parameters().limits.of(runtime)))

    def observed(*steps: int, end: bool = False) -> str:
        for step in steps:
            now = time.time_ns()
            path.answer(Asked(1, step, now, vectors(1)[0], 0.0, ended=False), now)
            if end:
                path.episode_ended(Asked(2, step + 1, now, vectors(1)[0], 0.0, ended=True))
        return path.steps.complaint

    assert observed(*[0] * 9) == ""
    assert "the last 10 observations have step 0" in observed(0)
    assert observed(1) == ""
    assert observed(*[0] * 30, end=True) == "", "episodes of one step end, and say so"


@pytest.mark.parametrize("between", ["nothing", "another one commands", "a new activation", "a switch", "a reaction"])
def test_an_episode_counts_that_one_policy_drove_from_its_first_observation_to_its_end(
    tmp_path: Path, between: str
) -> None:
    store, (policy,) = make_store(tmp_path, 1)
    runtime = PolicyRuntime(*store.get(policy))
    path = ControlPath(passed=lambda stamp: stamp)
    served = Served(runtime, Parameters(stale_after=0.1, deadline=10.0).limits.of(runtime))
    path.switch(served)
    changes = {
        "another one commands": lambda: path.overheard(asked), "a new activation": path.begin,
        "a switch": lambda: path.switch(served),
    }  # fmt: skip
    for step in range(3):
        asked = Asked(step + 1, step, step * 10**7, vectors(1)[0], 2.0, False)
        command = path.answer(asked, asked.stamp_ns + (10**9 if between == "a reaction" and step == 1 else 0))
        assert command.fallback == (between == "a reaction" and step == 1)
        path.follow_up()
        if step == 1 and between in changes:
            changes[between]()
    path.episode_ended(Asked(4, 3, 3 * 10**7, vectors(1)[0], 2.0, True))
    counts = between in ("nothing", "a reaction")
    assert path.costs.record(SPEC.cost_limit).newest == ((6.0,) if counts else ()), (
        "the first observation's cost is nobody's"
    )


def test_who_rolls_back_while_an_answer_hangs_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saferule_ros.nodes.serving.HANGS_AFTER", 0.05)
    store, (old, new) = make_store(tmp_path, 1, 2)
    before, after = (PolicyRuntime(*store.get(policy)) for policy in (old, new))
    path = ControlPath()
    limits = Parameters().limits
    path.switch(Served(before, limits.of(before)))
    path.switch(Served(after, limits.of(after)), Probation(ProbationLimits(ticks=10)))
    hangs, goes_on = threading.Event(), threading.Event()

    def act(_: Vector) -> Vector:
        hangs.set()
        goes_on.wait(DEADLINE)
        return np.zeros(2, np.float32)

    monkeypatch.setattr(after, "act", act)
    asked = Asked(1, 0, 0, vectors(1)[0], 0.0, False)
    control = threading.Thread(target=lambda: path.answer(asked, 0))
    control.start()
    assert hangs.wait(DEADLINE)
    for change in (lambda: path.take_back("it hangs"), lambda: path.switch(None)):
        with pytest.raises(ControlHangsError, match="fallback"):
            change()
    goes_on.set()
    control.join(DEADLINE)
    assert path.take_back("it hung") and path.served is not None and path.served.id == old


def test_a_swap_is_gated_and_then_switched_between_two_actions(ros: Ros, tmp_path: Path) -> None:
    store, (old, new) = make_store(tmp_path, 1, 2)
    store.set_candidate(new)
    start(ros, store)
    robot = Robot(ros)
    given = vectors(4000)
    robot.ask(given[0])
    response = ros.probe.call_later(SwapPolicy, "policy_server/swap", SwapPolicy.Request(), SWAP)
    # One observation per answer, for as long as the swap takes, and some more.
    after = itertools.count()
    for vector in given[1:]:
        if robot.ask(vector).policy_id == new and next(after) > 20:
            break
    reply = response()
    assert reply.success and "gate passed" in reply.message, reply.message
    assert (reply.policy_id, reply.policy_generation) == (new, 2)
    assert 0.0 < reply.gate_seconds < SWAP
    by_old = [a for a in robot.actions if a.policy_id == old]
    by_new = [a for a in robot.actions if a.policy_id == new]
    assert len(by_old) > 20 and len(by_new) > 20  # it went on while the gate ran
    assert robot.actions == by_old + by_new
    assert by_new[0].sequence == reply.first_sequence
    count = len(robot.actions)
    assert [a.sequence for a in robot.actions] == list(range(1, count + 1))
    assert [a.observation_sequence for a in robot.actions] == list(range(1, count + 1))
    assert {a.policy_generation for a in by_old} == {1} and {a.policy_generation for a in by_new} == {2}
    expected = [TanhPolicy(1 if a.policy_id == old else 2).act(given[a.sequence - 1][None])[0] for a in robot.actions]
    np.testing.assert_allclose([a.data for a in robot.actions], expected, atol=1e-6)
    places = store.places()
    assert (places.active, places.previous, places.candidate) == (new, old, None)
    ros.probe.wait_for(lambda: robot.status[-1].policy_generation == 2, "the status tells")
    status = robot.status[-1]
    assert (status.state, status.active_id, status.previous_id, status.candidate_id) == ("serving", new, old, "")
    assert status.first_sequence == reply.first_sequence and f"swapped {old} -> {new}" in status.last_event
    assert "verifying" in {s.state for s in robot.status}


def test_roll_back_and_forward_again(ros: Ros, tmp_path: Path) -> None:
    store, (old, new) = make_store(tmp_path, 1, 2)
    start(ros, store)
    robot = Robot(ros)
    vector = vectors(1)[0]
    nothing = roll_back(ros)
    assert not nothing.success and "no previous policy" in nothing.message and nothing.policy_id == old
    assert swap(ros, new).success
    for generation, seed, policy_id in ((3, 1, old), (4, 2, new), (5, 1, old)):
        reply = roll_back(ros, "the cost went up")
        assert reply.success and "the cost went up" in reply.message, reply.message
        assert (reply.policy_id, reply.policy_generation) == (policy_id, generation)
        action = robot.ask(vector)
        assert (action.policy_id, action.policy_generation) == (policy_id, generation)
        assert action.sequence == reply.first_sequence
        np.testing.assert_allclose(action.data, TanhPolicy(seed).act(vector[None])[0], atol=1e-6)
        assert store.place("active") == policy_id
    assert [e.event for e in store.audit()][-3:] == ["rollback"] * 3


def corrupt_bytes(store: PolicyStore, policy_id: str) -> None:
    path = store.path(policy_id) / "policy.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def no_model(store: PolicyStore, policy_id: str) -> None:
    (store.path(policy_id) / "policy.onnx").write_bytes(b"not a model")


def gone(store: PolicyStore, policy_id: str) -> None:
    shutil.rmtree(store.path(policy_id))


def test_a_policy_that_may_not_serve_is_refused_and_what_serves_goes_on(
    ros: Ros,
    tmp_path: Path,
) -> None:
    store, (old, corrupt, empty, missing) = make_store(tmp_path, 1, 2, 3, 4)
    other = add_policy(store, 5, tmp_path, spec=SPEC.model_copy(update={"observation_size": 27}))
    for harm, policy_id in ((corrupt_bytes, corrupt), (no_model, empty), (gone, missing)):
        harm(store, policy_id)
    start(ros, store)
    robot = Robot(ros)
    cases = {
        corrupt: "digests",
        empty: "digests",
        missing: "has no policy",
        other: "observation_size",
        "0123456789abcdef": "has no policy '0123456789abcdef'",
        "": "no candidate policy",
        old: "active already",
    }
    for count, (policy_id, says) in enumerate(cases.items(), start=1):
        reply = swap(ros, policy_id)
        assert not reply.success and policy_id in reply.message and says in reply.message, reply.message
        assert (reply.policy_id, reply.policy_generation, reply.first_sequence) == (old, 1, 1)
        action = robot.ask(vectors(1)[0])
        assert (action.policy_id, action.policy_generation, action.sequence) == (old, 1, count)
        ros.probe.wait_for(lambda reply=reply: robot.status[-1].last_event == reply.message, "the status tells")  # type: ignore[misc]
        assert robot.status[-1].state == "serving"
    assert store.place("active") == old
    refused = [event for event in store.audit() if event.event == "refuse_swap"]
    assert [event.after for event in refused] == [corrupt, empty, other]
    assert "digests" in refused[0].reason


@pytest.mark.long
def test_a_second_swap_during_a_swap_is_refused(ros: Ros, tmp_path: Path) -> None:
    store, (_, new, third) = make_store(tmp_path, 1, 2, 3)
    start(ros, store)
    robot = Robot(ros)
    first = ros.probe.call_later(SwapPolicy, "policy_server/swap", SwapPolicy.Request(policy_id=new), SWAP)
    ros.probe.wait_for(lambda: robot.status and robot.status[-1].state == "verifying", "the swap is under way")
    reply = swap(ros, third)
    assert not reply.success and "under way" in reply.message
    assert first().success
    assert swap(ros, third).success  # and afterwards it may


def test_without_a_store_the_node_says_so_and_serves_as_soon_as_there_is_one(
    ros: Ros,
    tmp_path: Path,
) -> None:
    missing = PolicyStore(tmp_path / "store")
    start(ros, missing)
    status = ros.probe.record(PolicyStatus, "policy_server/status", qos.LATCHED)
    ros.probe.wait_for(lambda: status, "a status came")
    assert status[-1].state == "unconfigured" and str(missing.root) in status[-1].last_event
    refused = swap(ros)
    assert not refused.success and "not active" in refused.message
    _, ids = make_store(tmp_path, 1)
    ros.probe.wait_for(lambda: status[-1].state == "serving", "it serves")
    assert status[-1].active_id == ids[0]
    assert Robot(ros).ask(vectors(1)[0]).policy_id == ids[0]


def test_a_damaged_active_policy_is_not_served(ros: Ros, tmp_path: Path) -> None:
    store, (old,) = make_store(tmp_path, 1)
    corrupt_bytes(store, old)
    start(ros, store)
    status = ros.probe.record(PolicyStatus, "policy_server/status", qos.LATCHED)
    ros.probe.wait_for(lambda: status, "a status came")
    assert status[-1].state == "unconfigured"
    assert f"policy {old} is damaged" in status[-1].last_event
    assert ros.runner.processes["policy_server"].returncode is None
    assert ros.probe.node.count_publishers("/action") == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_sends_the_safe_action_last(ros: Ros, tmp_path: Path, number: int) -> None:
    store, ids = make_store(tmp_path, 1)
    start(ros, store)
    robot = Robot(ros)
    for vector in vectors(10):
        robot.ask(vector)
    node = ros.runner.processes["policy_server"]
    node.signal(number)
    assert node.wait(DEADLINE) == 0
    ros.probe.wait_for(lambda: len(robot.actions) == 11, "a last action came")
    last = robot.actions[-1]
    assert (last.sequence, last.observation_sequence, last.fallback, last.fallback_reason) == (11, 0, True, "shutdown")
    assert list(last.data) == [0.0, 0.0]
    ros.probe.wait_for(lambda: robot.status[-1].state == "shutdown", "the status tells")
    assert robot.status[-1].active_id == ids[0]
    assert "Traceback" not in node.log.read_text()


@pytest.mark.long
def test_held_commands_are_held_by_the_safe_action(ros: Ros, tmp_path: Path) -> None:
    store, _ = make_store(tmp_path, 1)
    start(ros, store, reaction="hold")
    robot = Robot(ros)
    vector = vectors(1)[0]
    last = list(robot.ask(vector).data)
    assert list(robot.ask(vector[:3]).data) == last != [0.0, 0.0]


def test_lifecycle_transitions_are_the_users_when_autostart_is_off(ros: Ros, tmp_path: Path) -> None:
    store, _ = make_store(tmp_path, 1)
    start(ros, store, autostart=False)

    def change(transition: int) -> bool:
        request = ChangeState.Request(transition=Transition(id=transition))
        return bool(ros.probe.call(ChangeState, "policy_server/change_state", request).success)

    def state() -> str:
        return str(ros.probe.call(GetState, "policy_server/get_state", GetState.Request()).current_state.label)

    assert state() == "unconfigured"
    assert change(Transition.TRANSITION_CONFIGURE) and state() == "inactive"
    assert ros.probe.node.count_publishers("/action") == 0
    assert change(Transition.TRANSITION_ACTIVATE) and state() == "active"
    robot = Robot(ros)
    robot.ask(vectors(1)[0])
    assert change(Transition.TRANSITION_DEACTIVATE) and state() == "inactive"
    ros.probe.wait_for(lambda: len(robot.actions) == 2, "a last action came")
    assert robot.actions[-1].fallback_reason == "shutdown"
    assert change(Transition.TRANSITION_ACTIVATE)
    ros.probe.wait_for(lambda: robot.observations.get_subscription_count() == 1, "it listens again")
    ros.probe.wait_for(lambda: ros.probe.node.count_publishers("/action") == 1, "it may act again")
    assert robot.ask(vectors(1)[0]).sequence == 3  # counted on
    assert change(Transition.TRANSITION_DEACTIVATE) and change(Transition.TRANSITION_CLEANUP)
    corrupt_bytes(store, store.require("active"))
    assert not change(Transition.TRANSITION_CONFIGURE) and state() == "unconfigured"


def test_the_list_shows_places_parents_and_damage(ros: Ros, tmp_path: Path) -> None:
    store, (old,) = make_store(tmp_path, 1)
    new, broken = add_policy(store, 2, tmp_path, parent=old), add_policy(store, 3, tmp_path)
    store.set_candidate(new)
    corrupt_bytes(store, broken)
    start(ros, store)
    reply = ros.probe.call(ListPolicies, "policy_server/list", ListPolicies.Request())
    assert reply.success and f"damaged: {broken}" in reply.message
    assert list(reply.policy_ids) == [old, new, broken]
    assert list(reply.places) == ["active", "candidate", ""]
    assert list(reply.parents) == ["", old, ""]
    assert list(reply.algorithms) == ["tanh", "tanh", ""]
    assert 0 < reply.created[0].sec <= reply.created[1].sec


def test_the_status_tells_of_a_candidate_that_another_process_made(ros: Ros, tmp_path: Path) -> None:
    store, (_, new) = make_store(tmp_path, 1, 2)
    start(ros, store)
    status = ros.probe.record(PolicyStatus, "policy_server/status", qos.LATCHED)
    ros.probe.wait_for(lambda: status and status[-1].state == "serving", "it serves")
    store.set_candidate(new)
    ros.probe.wait_for(lambda: status[-1].candidate_id == new, "the status names the candidate")


def test_diagnostics_count_safe_actions_and_time_actions(ros: Ros, tmp_path: Path) -> None:
    store, ids = make_store(tmp_path, 1)
    start(ros, store)
    robot = Robot(ros)
    seen: list[dict[str, str]] = []

    def on_report(report: DiagnosticArray) -> None:
        for status in report.status:
            if status.name == "/policy_server":
                seen.append({"message": status.message, **{v.key: v.value for v in status.values}})

    ros.probe.subscribe(DiagnosticArray, "/diagnostics", on_report, qos.REPORTS)
    for vector in vectors(20):
        robot.ask(vector)
    robot.ask(np.zeros(3, np.float32))
    ros.probe.wait_for(lambda: seen and seen[-1]["fallbacks"] == "1", "the safe action is counted")
    report = next(r for r in seen if r["fallbacks"] == "1")
    assert report["actions_served"] == "21" and report["policy_id"] == ids[0]
    assert "wrong_size" in report["last_fault"] and "1 safe actions" in report["message"]
    assert 0 < float(report["time per action p50 [ms]"]) <= float(report["time per action p99 [ms]"]) < 1000


@pytest.mark.long
def test_what_episodes_cost_is_told_and_a_violated_limit_is_a_warning(ros: Ros, tmp_path: Path) -> None:
    store, (first, second) = make_store(tmp_path, 1, 2)
    start(ros, store)
    robot, good = Robot(ros), vectors(1)[0]
    diagnostics = ros.probe.record(DiagnosticArray, "/diagnostics")

    def episode(*costs: float, whole: bool = True) -> None:
        """By what each of its actions cost; the last one leads to its end."""
        robot.sequence = -1
        for cost in (7.0, *costs[:-1]):  # no action led to the first observation: its cost is nobody's
            robot.ask(good, cost=cost)
        if whole:
            robot.observe(good, cost=costs[-1], truncated=True)

    def told(episodes: int) -> PolicyStatus:
        ros.probe.wait_for(
            lambda: robot.status and robot.status[-1].episodes == episodes, f"{episodes} episodes are told"
        )
        return robot.status[-1]

    robot.ask(good, cost=99.0)  # in the middle of an episode, of which nobody knows the rest
    episode(1.0, 2.0, 3.0)
    one = told(1)
    assert (one.cost_limit, one.episode_cost_mean, one.episodes_over_limit) == (25.0, 6.0, 0)
    episode(40.0, 8.0)
    two = told(2)
    assert (two.episode_cost_mean, two.episodes_over_limit, two.active_id) == (27.0, 1, first)
    says = "costs 27 in the mean of its newest 2 episodes, 1 of them over its limit of 25"

    def warned() -> bool:
        of_server = [s for array in diagnostics for s in array.status if "policy_server" in s.name]
        return any(s.level == DiagnosticStatus.WARN and s.message == f"the policy {says}" for s in of_server)

    ros.probe.wait_for(warned, "the diagnostics warn")
    log = ros.runner.processes["policy_server"].log
    assert log.read_text().count(f"policy {first} {says}") == 1

    episode(5.0, 5.0, whole=False)
    assert swap(ros, second).success
    robot.observe(good, cost=90.0, truncated=True)  # of both policies
    episode(2.0)
    after = told(1)
    assert (after.episode_cost_mean, after.episodes_over_limit, after.active_id) == (2.0, 0, second)


def test_serving_and_swapping_never_load_torch_or_onnx(ros: Ros, tmp_path: Path) -> None:
    store, (_, new) = make_store(tmp_path, 1, 2)
    start(ros, store)
    assert swap(ros, new).success and roll_back(ros).success
    maps = Path(f"/proc/{ros.runner.processes['policy_server'].pid}/maps").read_text()
    assert "onnxruntime" in maps and "torch" not in maps and "onnx_cpp2py" not in maps


@pytest.mark.parametrize(("number", "status"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 0)])
@pytest.mark.long
def test_ended_in_the_middle_of_a_swap_it_comes_back_with_what_the_store_says(
    ros: Ros, tmp_path: Path, number: int, status: int
) -> None:
    store, (old, new) = make_store(tmp_path, 1, 2)
    start(ros, store)
    robot = Robot(ros)
    ros.probe.call_later(SwapPolicy, "policy_server/swap", SwapPolicy.Request(policy_id=new), SWAP)
    ros.probe.wait_for(lambda: robot.status and robot.status[-1].state == "verifying", "the swap is under way")
    node = ros.runner.processes["policy_server"]
    node.signal(number)
    assert node.wait(DEADLINE) == status
    assert "Traceback" not in node.log.read_text()
    active = store.require("active")
    assert active in (old, new)
    ros.renew_probe()
    start(ros, store)
    assert Robot(ros).ask(vectors(1)[0]).policy_id == active
    assert swap(ros, new if active == old else old).success


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({}, "neither workspace nor store"),
        ({"store": "x", "deadline": 100.0}, "deadline of policy_server is 100.0. Allowed: 0 to 60 s"),
        ({"store": "x", "reaction": "limp"}, "reaction of policy_server is 'limp'. Allowed: 'zero', 'hold', 'damp'"),
        ({"stor": "x"}, "no parameter 'stor'. Did you mean store?"),
    ],
)
def test_a_wrong_parameter_ends_the_node_with_what_is_allowed(
    ros: Ros,
    parameters: dict[str, Any],
    says: str,
) -> None:
    node = ros.runner.start("policy_server", parameters=parameters)
    assert node.wait(READY) == 2
    assert says in node.log_tail(), node.log_tail()


def test_the_node_ends_when_its_starter_is_gone(ros: Ros, tmp_path: Path) -> None:
    store, _ = make_store(tmp_path, 1)
    start(ros, store)
    node = ros.runner.processes["policy_server"]
    node.let_go()  # what the kernel does for a starter that is killed
    assert node.wait(DEADLINE) == 0
