# ruff: noqa: F811  (a fixture that is imported is redefined by each parameter of its name)
"""fallback beside a policy_server that is killed, stopped, or ended in order; times are taken by the probe."""

from __future__ import annotations

import array
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rclpy.time import Time
from ros_helpers import DEADLINE, READY, Ros, ros  # noqa: F401
from saferule_ros.msg import Action, Control, Heartbeat, Observation
from serving_samples import make_store
from test_node_policy_server import vectors

from saferule_ros.nodes import qos
from saferule_ros.nodes.fallback import REASON
from saferule_ros.nodes.lease import SLACK, lease, takeover_after
from saferule_ros.policy.store import PolicyStore

pytestmark = pytest.mark.ros

PERIOD = 0.1  # a busy machine stands still for tens of milliseconds now and then, which is no failure of anybody
ALLOWED = 2 * PERIOD + SLACK
TRIES = 5  # a busy machine can only make the nodes look slower: the best of so many tells


def test_the_server_stops_before_the_fallback_begins_and_that_in_time() -> None:
    for period in (0.002, 0.02, 0.1, 1.0):
        assert lease(period) < takeover_after(period) <= 2 * period + SLACK


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
        self.ros.runner.start("policy_server", parameters={
            "store": str(self.store.root), "fallback": True, "heartbeat_period": PERIOD, "reaction": "hold",
            "deadline": 10.0, "stale_after": 10.0,
        })  # fmt: skip
        self.ros.runner.wait_ready(READY)

    def _on_beat(self, beat: Heartbeat) -> None:
        self.newest_beat, self.beat = time.monotonic(), beat

    def await_holder(self, holder: str) -> None:
        self.probe.wait_for(lambda: self.control and self.control[-1].holder == holder, f"{holder} commands")

    def observe(self, stamp: Time | None = None) -> int:
        """One observation, of now or of another time; its number."""
        self._sequence += 1
        message = Observation(
            sequence=self._sequence, step=self._sequence, episode_id="e", data=array.array("f", vectors(1)[0].tobytes())
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


def test_without_its_fallback_a_guarded_server_commands_nothing(ros: Ros, tmp_path: Path) -> None:
    store, _ = make_store(tmp_path, 1)
    actions = ros.probe.record(Action, "action")
    ros.runner.start("policy_server", parameters={"store": str(store.root), "fallback": True})
    ros.runner.wait_ready(READY)
    observations = ros.probe.publisher(Observation, "observation")
    for number in range(20):
        observations.publish(Observation(sequence=number + 1, step=number))
    ros.runner.start("fallback")
    ros.runner.wait_ready(READY)
    ros.probe.wait_for(lambda: observations.publish(Observation(sequence=100)) or actions, "it commands")
    assert {action.observation_sequence for action in actions} == {100}


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
