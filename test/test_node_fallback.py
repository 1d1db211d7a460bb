# ruff: noqa: F811  (a fixture that is imported is redefined by each parameter of its name)
"""fallback beside a policy_server that is killed, stopped, or ended in order; times are taken by the probe."""

from __future__ import annotations

import array
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from faulty_policies import TRAP_LOW
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile
from rclpy.time import Time
from ros_helpers import DEADLINE, READY, Ros, ros  # noqa: F401
from saferule_ros.msg import Action, Control, Heartbeat, Observation
from serving_samples import make_store
from std_msgs.msg import Empty
from test_node_policy_server import vectors

from saferule_ros.nodes import qos
from saferule_ros.nodes.fallback import REASON, Fallback
from saferule_ros.nodes.lease import SLACK, lease, longest_answer, takeover_after
from saferule_ros.nodes.node_process import NodeProcess
from saferule_ros.nodes.process import EXIT_FAULT
from saferule_ros.policy.store import PolicyStore

pytestmark = pytest.mark.ros

PERIOD = 0.1  # a busy machine stands still for tens of milliseconds now and then, which is no failure of anybody
ALLOWED = 2 * PERIOD + SLACK
TRIES = 5  # a busy machine can only make the nodes look slower: the best of so many tells


def test_the_server_stops_before_the_fallback_begins_and_that_in_time() -> None:
    for period in (0.002, 0.02, 0.1, 1.0):
        assert lease(period) < takeover_after(period) <= 2 * period + SLACK


def test_an_answer_within_its_deadline_ends_within_the_lease_whenever_it_began() -> None:
    for period in (0.002, 0.02, 0.1, 1.0):
        begins_at_latest = period  # after the newest heartbeat: then the next one is due
        assert 0.0 < begins_at_latest + longest_answer(period) <= lease(period)


class Guarded:
    """A policy_server with its fallback, and what they say. The robot asks for an action whenever `ask` is called."""

    def __init__(self, ros: Ros, store: PolicyStore) -> None:
        self.ros, self.probe = ros, ros.probe
        self.control = ros.probe.record(Control, "fallback/control", qos.LATCHED)
        self.newest_beat = 0.0
        self.beat = Heartbeat()
        self.actions: list[tuple[float, Action]] = []
        ros.probe.subscribe(Heartbeat, "policy_server/heartbeat", self._on_beat, qos.HEARTBEAT)
        ros.probe.subscribe(Action, "action", lambda m: self.actions.append((time.monotonic(), m)))
        self._observations = ros.probe.node.create_publisher(Observation, "observation", qos.DATA)
        self._sequence = 0
        ros.runner.start("fallback", parameters={"command_period": 0.01})
        self.store = store
        self.start_server()
        self.await_holder("policy_server")
        self.probe.wait_for(lambda: self.ask() is not None, "an action came")

    def start_server(self) -> None:
        self.ros.runner.start("policy_server", parameters=self.server_settings())
        self.ros.runner.wait_ready(READY)

    def server_settings(self) -> dict[str, Any]:
        return {
            "store": str(self.store.root), "fallback": True, "heartbeat_period": PERIOD, "reaction": "hold",
            "deadline": 10.0, "stale_after": 10.0,
        }  # fmt: skip

    def _on_beat(self, beat: Heartbeat) -> None:
        self.newest_beat, self.beat = time.monotonic(), beat

    def await_holder(self, holder: str) -> None:
        self.probe.wait_for(lambda: self.control and self.control[-1].holder == holder, f"{holder} commands")

    def observe(self, stamp: Time | None = None, place: float = 0.0, **rest: Any) -> int:
        """One observation, of now or of another time; its number."""
        self._sequence += 1
        data = vectors(1)[0]
        data[0] = place
        message = Observation(
            sequence=self._sequence, step=self._sequence, episode_id="e", data=array.array("f", data.tobytes()), **rest
        )
        message.header.stamp = (stamp or self.probe.node.get_clock().now()).to_msg()
        self._observations.publish(message)
        return self._sequence

    def ask(self) -> Action | None:
        """One observation; its answer, if one comes soon."""
        number = self.observe()

        def answer() -> Action | None:
            return next((m for _, m in reversed(self.actions) if m.observation_sequence == number), None)

        return self.probe.becomes(answer, 0.5)

    def safe(self) -> list[tuple[float, Action]]:
        """What the fallback sent, with times of arrival."""
        return [(at, m) for at, m in self.actions if m.fallback_reason == REASON]


@pytest.fixture
def guarded(ros: Ros, tmp_path: Path) -> Guarded:
    store, _ = make_store(tmp_path, 1)
    return Guarded(ros, store)


def test_a_stopped_server_is_replaced_in_time_and_gets_control_back_only_when_it_is_given(guarded: Guarded) -> None:
    server = guarded.ros.runner.processes["policy_server"]
    delays = []
    for _ in range(TRIES):
        last = guarded.probe.wait_for(guarded.ask, "the server answers")
        assert not last.fallback
        guarded.probe.wait_for(lambda last=last: guarded.beat.sequence >= last.sequence, "a beat tells of it")
        changes, before = guarded.control[-1].changes, len(guarded.safe())
        server.signal(signal.SIGSTOP)
        guarded.probe.wait_for(lambda before=before: len(guarded.safe()) > before + 3, "the fallback acts")
        at, safe = guarded.safe()[before]
        delays.append(at - guarded.newest_beat)
        assert safe.fallback and safe.policy_id == "" and list(safe.data) == pytest.approx(list(last.data))  # hold
        guarded.await_holder("fallback")
        asleep = guarded.probe.node.get_clock().now()
        missed = [guarded.observe() for _ in range(5)]
        server.signal(signal.SIGCONT)
        guarded.await_holder("policy_server")
        given = guarded.control[-1]
        assert given.changes >= changes + 2 and "beats again" in given.reason
        taken = next(m for m in guarded.control if m.changes > changes and m.holder == "fallback")
        assert taken.silence >= 2 * PERIOD
        missed += [guarded.observe(asleep) for _ in range(5)]  # the middleware brings some when control is back
        guarded.probe.wait_for(guarded.ask, "the server answers again")
        # Nothing was answered that the server had slept over.
        assert not [m for _, m in guarded.actions if m.observation_sequence in missed]
    assert min(delays) <= ALLOWED, delays


def test_a_killed_server_is_replaced_in_time_and_the_next_one_has_to_be_given_control(guarded: Guarded) -> None:
    runner = guarded.ros.runner
    delays = []
    for _ in range(2):
        guarded.probe.wait_for(guarded.ask, "the server answers")
        before = len(guarded.safe())
        runner.processes["policy_server"].signal(signal.SIGKILL)
        guarded.probe.wait_for(lambda before=before: len(guarded.safe()) > before, "the fallback acts")
        delays.append(guarded.safe()[before][0] - guarded.newest_beat)
        runner.processes["policy_server"].wait(DEADLINE)
        guarded.await_holder("fallback")
        guarded.start_server()
        guarded.await_holder("policy_server")
        guarded.probe.wait_for(lambda: guarded.ask() is not None, "the new server answers")
    assert min(delays) <= ALLOWED, delays


def test_a_server_that_ends_in_order_is_not_replaced(guarded: Guarded) -> None:
    server = guarded.ros.runner.processes["policy_server"]
    server.signal(signal.SIGINT)
    assert server.wait(DEADLINE) == 0
    guarded.probe.wait_for(lambda: not guarded.beat.serving, "it says so")
    end = time.monotonic() + 5 * PERIOD
    guarded.probe.becomes(lambda: time.monotonic() > end, 5 * PERIOD + 1.0)
    assert not guarded.safe() and guarded.control[-1].holder == "policy_server"
    assert guarded.actions[-1][1].fallback_reason == "shutdown"


STALL = 5 * PERIOD  # the fallback has taken over long before
FAULTY_SERVER = f"""
import time
from std_msgs.msg import Empty
from saferule_ros.nodes import process
from saferule_ros.nodes.policy_server import PolicyServer
from saferule_ros.policy.runtime import PolicyRuntime

act = PolicyRuntime.act

def stalls_in_the_trap(runtime, observation):
    if observation[0] > {TRAP_LOW}:
        time.sleep({STALL})
    if observation[0] < -{TRAP_LOW}:
        raise MemoryError("a fault in the control thread")
    return act(runtime, observation)

PolicyRuntime.act = stalls_in_the_trap

class Faulty(PolicyServer):
    def start(self):
        super().start()
        self.create_subscription(Empty, "break", self._break, 1)

    def _break(self, _):
        raise RuntimeError("a fault in the program")

process.main(Faulty)
"""


class GuardedFaulty(Guarded):
    """A server that a message on `break` ends, by a fault in the program, and whose policies stall in the trap."""

    def start_server(self) -> None:
        settings = self.server_settings()
        told = [word for name, value in settings.items() for word in ("-p", f"{name}:={str(value).lower()}")]
        command = [sys.executable, "-P", "-c", FAULTY_SERVER, "--ros-args", *told]
        log = self.store.root.parent / "faulty.log"
        self.ros.runner.processes["policy_server"] = NodeProcess("policy_server", command, dict(os.environ), log)
        self.ros.runner.wait_ready(READY)


@pytest.mark.long
def test_a_server_that_a_fault_ends_is_replaced_for_good(ros: Ros, tmp_path: Path) -> None:
    store, _ = make_store(tmp_path, 1)
    guarded = GuardedFaulty(ros, store)
    last = guarded.probe.wait_for(guarded.ask, "the server answers")
    guarded.probe.wait_for(lambda: guarded.beat.sequence >= last.sequence, "a beat tells of it")
    told = guarded.beat.count
    guarded.probe.wait_for(lambda: guarded.beat.count > told, "and everyone has heard it")
    ros.probe.publisher(Empty, "break", QoSProfile(depth=1)).publish(Empty())
    assert ros.runner.processes.pop("policy_server").wait(DEADLINE) != 0
    guarded.probe.wait_for(lambda: len(guarded.safe()) > 3, "the fallback acts")
    guarded.await_holder("fallback")
    assert guarded.beat.serving, "it did not say that this was meant"
    assert list(guarded.safe()[-1][1].data) == pytest.approx(list(last.data)), "what is held goes on being held"


def test_a_server_whose_control_thread_a_fault_ends_is_replaced_and_says_so_in_its_exit_status(
    ros: Ros, tmp_path: Path
) -> None:
    store, _ = make_store(tmp_path, 1)
    guarded = GuardedFaulty(ros, store)
    guarded.probe.wait_for(guarded.ask, "the server answers")
    guarded.observe(place=-2.0 * TRAP_LOW)
    assert ros.runner.processes.pop("policy_server").wait(DEADLINE) == EXIT_FAULT
    guarded.probe.wait_for(guarded.safe, "the fallback acts")


@pytest.mark.long
def test_what_a_policy_computes_while_the_fallback_takes_over_never_goes_out(ros: Ros, tmp_path: Path) -> None:
    store, _ = make_store(tmp_path, 1)
    guarded = GuardedFaulty(ros, store)
    guarded.probe.wait_for(guarded.ask, "the server answers")
    before, changes = len(guarded.actions), guarded.control[-1].changes
    stalled = guarded.observe(place=TRAP_LOW + 1.0)
    guarded.probe.wait_for(
        lambda: any(m.holder == "fallback" and m.changes > changes for m in guarded.control), "the fallback acts"
    )
    guarded.await_holder("policy_server")  # it beats again, so the answer was there
    meanwhile = [m.fallback_reason == REASON for _, m in guarded.actions[before:]]
    guarded.probe.wait_for(guarded.ask, "the server answers again")
    own = [m for _, m in guarded.actions if m.fallback_reason != REASON]
    assert stalled not in {m.observation_sequence for m in own}
    assert [m.sequence for m in own] == list(range(own[0].sequence, own[0].sequence + len(own))), "no number is missing"
    assert any(meanwhile) and all(meanwhile[meanwhile.index(True) :]), "while one commands, the other does not"


class DampingFaulty(GuardedFaulty):
    """The same, and the robot is brought to rest slowly."""

    def server_settings(self) -> dict[str, Any]:
        return super().server_settings() | {"reaction": "damp", "damping": 0.5, "damp_within": 60.0}


@pytest.mark.long
def test_a_crash_between_episodes_moves_no_robot_that_stands_and_one_within_an_episode_comes_to_rest(
    ros: Ros, tmp_path: Path
) -> None:
    store, _ = make_store(tmp_path, 1)
    guarded = DampingFaulty(ros, store)
    for between_episodes in (False, True):
        last = guarded.probe.wait_for(guarded.ask, "the server answers")
        if between_episodes:
            guarded.observe(terminated=True)
        declared = [0.0, 0.0] if between_episodes else [0.5 * value for value in last.data]
        guarded.probe.wait_for(
            lambda last=last, declared=declared: (
                guarded.beat.sequence >= last.sequence and list(guarded.beat.safe_action) == pytest.approx(declared)
            ),
            "a beat declares it",
        )
        before = len(guarded.safe())
        guarded.ros.runner.processes["policy_server"].signal(signal.SIGKILL)
        guarded.probe.wait_for(lambda before=before: len(guarded.safe()) > before, "the fallback acts")
        assert list(guarded.safe()[before][1].data) == pytest.approx(declared)
        guarded.await_holder("fallback")
        if not between_episodes:
            guarded.ros.runner.processes.pop("policy_server").wait(DEADLINE)
            guarded.start_server()
            guarded.await_holder("policy_server")


class StopsSoon(DampingFaulty):
    """A robot that stops by itself before a fallback of this period can have taken over."""

    def server_settings(self) -> dict[str, Any]:
        return super().server_settings() | {"damp_within": 1.5 * PERIOD}


@pytest.mark.long
def test_a_fallback_that_comes_when_the_robot_has_stopped_is_told_to_let_it_stand(ros: Ros, tmp_path: Path) -> None:
    store, _ = make_store(tmp_path, 1)
    beats = ros.probe.record(Heartbeat, "policy_server/heartbeat", qos.HEARTBEAT)
    guarded = StopsSoon(ros, store)
    last = guarded.probe.wait_for(guarded.ask, "the server answers")
    assert any(last.data)
    of_then = guarded.probe.wait_for(lambda: [b for b in beats if b.sequence >= last.sequence], "a beat tells of it")
    assert all(list(beat.safe_action) == [0.0, 0.0] for beat in of_then)


class Beating:
    """A fallback alone, and the beats of a server that the test plays."""

    def __init__(self, ros: Ros, command_period: float = 0.01) -> None:
        self.ros, self.probe = ros, ros.probe
        self.control = ros.probe.record(Control, "fallback/control", qos.LATCHED)
        self.actions = ros.probe.record(Action, "action")
        ros.runner.start("fallback", parameters={"command_period": command_period})
        ros.runner.wait_ready(READY)
        self.beats = ros.probe.publisher(Heartbeat, "policy_server/heartbeat", qos.HEARTBEAT)
        ros.probe.wait_for(lambda: ros.probe.node.count_publishers("/action") == 1, "the fallback may act")
        self.count = 0

    def beat(self, safe: list[float], damping: float = 1.0, waits: bool = False, commanded: int = 1) -> None:
        self.count += 1
        self.beats.publish(Heartbeat(
            count=self.count, period=PERIOD, serving=True, waits=waits, safe_action=array.array("f", safe),
            damping=damping, sequence=commanded,
        ))  # fmt: skip

    def holder(self) -> str:
        return self.control[-1].holder if self.control else ""


def test_what_is_to_be_damped_gets_less_with_every_command_and_ends_at_rest(ros: Ros) -> None:
    robot = Beating(ros)
    robot.beat([1.0, -0.5], damping=0.5)
    ros.probe.wait_for(lambda: len(robot.actions) >= 4, "the fallback acts")
    sent = [list(action.data) for action in robot.actions[:4]]
    assert sent == [[1.0, -0.5], [0.5, -0.25], [0.25, -0.125], [0.125, -0.0625]]
    ros.runner.processes["fallback"].signal(signal.SIGTERM)
    assert ros.runner.processes["fallback"].wait(DEADLINE) == 0
    ros.probe.wait_for(lambda: list(robot.actions[-1].data) == [0.0, 0.0], "at rest in the end")


def test_what_is_held_is_held_until_a_server_that_began_anew_has_control(ros: Ros) -> None:
    robot = Beating(ros)
    robot.beat([0.3, 0.7])
    ros.probe.wait_for(lambda: robot.actions, "the fallback acts")
    for _ in range(2):  # a new server, which does not know where the robot is: not steady yet
        seen = len(robot.actions)
        robot.beat([0.0, 0.0], waits=True, commanded=0)
        ros.probe.wait_for(lambda seen=seen: len(robot.actions) > seen + 3, "the fallback goes on")
    assert robot.holder() == "fallback"

    def beats_again() -> bool:
        robot.beat([0.0, 0.0], waits=True, commanded=0)
        return bool(ros.probe.becomes(lambda: robot.holder() == "policy_server", PERIOD / 4))

    ros.probe.wait_for(beats_again, "it has control")
    seen = len(robot.actions)  # and dies before its first command
    ros.probe.wait_for(lambda: len(robot.actions) > seen + 3, "the fallback acts again")
    assert np.unique([action.data for action in robot.actions], axis=0) == pytest.approx(np.array([[0.3, 0.7]]))


def test_what_the_server_commanded_last_is_held_though_the_next_one_dies_before_its_first_command(ros: Ros) -> None:
    robot = Beating(ros)
    robot.beat([0.1, 0.1], commanded=1)
    ros.probe.wait_for(lambda: robot.holder() == "fallback", "the fallback acts")

    def beats_again() -> bool:
        robot.beat([0.1, 0.1], waits=True, commanded=1)
        return bool(ros.probe.becomes(lambda: robot.holder() == "policy_server", PERIOD / 4))

    ros.probe.wait_for(beats_again, "it has control")
    for commanded, safe in ((2, 0.5), (3, 0.9), (0, 0.0), (0, 0.0)):  # it goes on; another one begins anew
        robot.beat([safe, safe], commanded=commanded)
        ros.probe.becomes(lambda: False, PERIOD / 4)
    assert robot.holder() == "policy_server"
    seen = len(robot.actions)
    ros.probe.wait_for(lambda: len(robot.actions) > seen + 3, "the fallback acts again")
    assert np.unique([action.data for action in robot.actions[seen:]], axis=0) == pytest.approx(np.array([[0.9, 0.9]]))


def test_what_was_damped_moves_no_robot_again_after_control_was_given_back(ros: Ros) -> None:
    """A server that began anew, and ends before its first command: meanwhile the robot has stopped by itself."""
    robot = Beating(ros)
    slowly = 0.999
    robot.beat([1.0, -0.5], damping=slowly)
    ros.probe.wait_for(lambda: robot.actions and robot.holder() == "fallback", "the fallback acts")

    def beats_again() -> bool:
        robot.beat([0.0, 0.0], damping=slowly, waits=True, commanded=0)
        return bool(ros.probe.becomes(lambda: robot.holder() == "policy_server", PERIOD / 4))

    ros.probe.wait_for(beats_again, "it has control")
    assert robot.actions[-1].data[0] > 0.5, "it was not at rest by then"
    ros.probe.wait_for(lambda: robot.holder() == "fallback", "the fallback acts again")
    seen = len(robot.actions)  # what it sent before came in before this silence
    ros.probe.wait_for(lambda: len(robot.actions) > seen + 3, "it goes on")
    assert all(list(action.data) == [0.0, 0.0] for action in robot.actions[seen:])


def test_a_fallback_that_was_held_up_itself_takes_nothing_from_a_server_that_beats(ros: Ros) -> None:
    robot = Beating(ros)
    fallback = ros.runner.processes["fallback"]
    robot.beat([0.3, 0.7])
    fallback.signal(signal.SIGSTOP)
    end = time.monotonic() + 4 * PERIOD
    while time.monotonic() < end:
        robot.beat([0.3, 0.7])
        ros.probe.becomes(lambda: False, PERIOD / 4)
    fallback.signal(signal.SIGCONT)
    end = time.monotonic() + 4 * PERIOD
    while time.monotonic() < end:
        robot.beat([0.3, 0.7])
        ros.probe.becomes(lambda: False, PERIOD / 4)
    assert not robot.actions and robot.holder() == "policy_server"
    ros.probe.wait_for(lambda: robot.actions, "and acts when the server is silent indeed")


def test_a_beat_that_waits_where_a_silence_seems_to_be_over_counts(ros: Ros) -> None:
    """rclpy runs a timer that is due before it takes a message that has come."""
    rclpy.init(domain_id=ros.domain)
    try:
        fallback = Fallback()
        executor = SingleThreadedExecutor()
        executor.add_node(fallback)
        beats = ros.probe.publisher(Heartbeat, "policy_server/heartbeat", qos.HEARTBEAT)
        beat = Heartbeat(count=1, period=PERIOD, serving=True, safe_action=array.array("f", [1.0]), sequence=1)
        while fallback._newest is None:
            beats.publish(beat)
            executor.spin_once(PERIOD)
        due = time.monotonic() + takeover_after(PERIOD)
        beats.publish(beat)
        ros.probe.becomes(lambda: False, due + SLACK / 4 - time.monotonic())  # it does not spin
        executor.spin_once(0.0)
        assert not fallback._holds
        executor.shutdown()
        fallback.destroy_node()
    finally:
        rclpy.try_shutdown()


@pytest.mark.long
def test_without_its_fallback_a_guarded_server_commands_nothing(ros: Ros, tmp_path: Path) -> None:
    store, _ = make_store(tmp_path, 1)
    actions = ros.probe.record(Action, "action")
    ros.runner.start("policy_server", parameters={
        "store": str(store.root), "fallback": True, "heartbeat_period": PERIOD,
    })  # fmt: skip
    ros.runner.wait_ready(READY)
    health = ros.probe.record(DiagnosticArray, "/diagnostics", qos.REPORTS)

    def told() -> list[str]:
        return [status.message for array in health for status in array.status if "policy_server" in status.name]

    ros.probe.wait_for(lambda: any("nobody commands the robot: no node" in line for line in told()), "it says so")
    observations = ros.probe.publisher(Observation, "observation")
    for number in range(20):
        observations.publish(Observation(sequence=number + 1, step=number))
    ros.runner.start("fallback")
    ros.runner.wait_ready(READY)

    def answered() -> set[int]:
        observations.publish(Observation(sequence=100))
        return {action.observation_sequence for action in actions}

    ros.probe.wait_for(lambda: 100 in answered(), "it commands")
    # 0: what is sent where observations stopped coming in the middle of an episode, as they did.
    assert answered() <= {0, 100}, "nothing that came before is answered"


def test_the_fallback_needs_no_machine_learning_and_little_memory() -> None:
    program = (
        "import sys\nimport saferule_ros.nodes.fallback\n"
        "wrong = {'torch', 'onnx', 'onnxruntime', 'pydantic', 'scipy', 'cryptography'} & set(sys.modules)\n"
        # The peak of this program alone: getrusage's also holds that of the process that started it.
        "assert not wrong, wrong\nprint(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"
    )
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 150_000  # kilobytes
