#!/usr/bin/env python3
"""How long an observation waits for its action, beside a bare echo of the same messages, in one run.

    saferule_ros$ make shell
    (…) $ cd /tmp && python …/benchmarks/action_latency.py --rates 50 100 200 500 --out …/docs/results/latency.md

Both are processes of their own, asked in turns of 100 messages, so that a busy machine is busy for both. policy_server
has all its checks on, and its heartbeat. Reported: round-trip time as the asking process sees it, answers that came
later than the next observation was due (missed), policy_server's own time per action and its memory.
"""

from __future__ import annotations

import argparse
import array
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import rclpy
from rclpy.node import Node
from rclpy.serialization import deserialize_message, serialize_message
from saferule_ros.msg import Action, Observation

from saferule_ros.nodes import process, qos
from saferule_ros.nodes.raw_subscription import RawSubscription
from saferule_ros.nodes.runner import Runner
from saferule_ros.nodes.wire import Command, read_observation
from saferule_ros.policy.failsafe import Limits, Tick, decide, input_fault
from saferule_ros.policy.runtime import PolicyRuntime
from saferule_ros.policy.store import PolicyStore

sys.path.append(str(Path(__file__).resolve().parent.parent / "test"))
from serving_samples import SPEC, make_store

TURN = 100  # messages to one of the two before the other has its turn
CONNECT_DEADLINE = 30.0  # [s]
WARM_UP = 50  # first messages to each, not counted: connections are made


class Echo(Node):
    """What any server costs: takes an observation, sends an action, does nothing."""

    def __init__(self) -> None:
        super().__init__("echo")
        publisher = self.create_publisher(Action, "echo/action", qos.DATA)
        data = array.array("f", [0.0] * SPEC.action_size)
        self.create_subscription(
            Observation,
            "echo/observation",
            lambda m: publisher.publish(Action(observation_sequence=m.sequence, data=data)),
            qos.DATA,
        )

    def start(self) -> None:
        """See process.Stoppable."""

    def stop(self) -> None:
        """See process.Stoppable."""


class Asker:
    """Sends observations to one server and times the answers, with as little in between as can be: what the asking
    process takes for itself is in both servers' times, and would hide how they differ."""

    def __init__(self, node: Node, namespace: str) -> None:
        self._node, self._topic = node, f"{namespace}action"
        self._publisher = node.create_publisher(Observation, f"{namespace}observation", qos.DATA)
        self._answers = RawSubscription(node, Action, self._topic, qos.DATA)
        self._sequence = 0
        self.times: list[float] = []
        self.own_times: list[float] = []
        self.fallbacks = 0

    def connect(self) -> None:
        end = time.monotonic() + CONNECT_DEADLINE
        while not (self._publisher.get_subscription_count() and self._node.count_publishers(self._topic)):
            if time.monotonic() > end:
                sys.exit(f"after {CONNECT_DEADLINE:g} s nobody answers on {self._topic}")
            time.sleep(0.05)

    def ask(self) -> float:
        """One round trip [s]."""
        self._sequence += 1
        message = Observation(sequence=self._sequence, step=self._sequence, data=DATA)
        message.header.stamp = self._node.get_clock().now().to_msg()
        payload = serialize_message(message)
        with self._answers as answers:
            start = time.perf_counter()
            self._publisher.publish(payload)
            while (answer := answers.take()) is None:
                answers.wait(1.0)
            answered = time.perf_counter()
        action = deserialize_message(answer, Action)
        self.fallbacks += action.fallback
        self.own_times.append(action.inference_time)
        return answered - start

    def restart(self) -> None:
        """Forgets what was measured."""
        self.times, self.own_times, self.fallbacks = [], [], 0


DATA = array.array("f", np.random.default_rng(0).standard_normal(SPEC.observation_size).astype(np.float32).tobytes())


@dataclass(frozen=True)
class Times:
    """Round trips of one server at one rate [s], and its own time per action [s]."""

    trips: np.ndarray
    own: np.ndarray
    period: float
    fallbacks: int

    def row(self, name: str, rate: float) -> str:
        p50, p99, worst = 1e3 * np.percentile(self.trips, (50, 99, 100))
        missed = int((self.trips > self.period).sum())
        return f"| {rate:g} | {name} | {p50:.3f} | {p99:.3f} | {worst:.3f} | {missed} of {len(self.trips)} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rates", type=float, nargs="+", default=[50.0, 100.0, 200.0, 500.0], help="[Hz]")
    parser.add_argument("--seconds", type=float, default=10.0, help="measured time of either at each rate [s]")
    parser.add_argument("--out", type=Path, help="Markdown file to write")
    parser.add_argument("--echo", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.echo:
        return process.run(Echo, [])
    folder = Path(tempfile.mkdtemp(prefix="saferule-latency-"))
    store, _ = make_store(folder, 1)
    with Runner(folder / "logs") as runner:
        echo = subprocess.Popen([sys.executable, str(Path(__file__).resolve()), "--echo"])
        try:
            text = measure(runner, store, options.rates, options.seconds)
        finally:
            echo.send_signal(signal.SIGINT)
            echo.wait()
    print(text)
    if options.out:
        options.out.write_text(text)
    return 0


def measure(runner: Runner, store: PolicyStore, rates: list[float], seconds: float) -> str:
    # Silent while the other has its turn: no reason for safe actions here.
    server = runner.start("policy_server", parameters={"store": str(store.root), "stale_after": 60.0})
    runner.wait_ready()
    rclpy.init()
    node = rclpy.create_node("asker", enable_rosout=False, start_parameter_services=False)
    askers = {"policy_server": Asker(node, ""), "bare echo": Asker(node, "echo/")}
    for asker in askers.values():
        asker.connect()
        for _ in range(WARM_UP):
            asker.ask()
    found = {rate: at_rate(askers, rate, seconds) for rate in rates}
    memory = resident(server.pid)
    node.destroy_node()
    rclpy.shutdown()
    return report(found, memory, parts(store))


def at_rate(askers: dict[str, Asker], rate: float, seconds: float) -> dict[str, Times]:
    for asker in askers.values():
        asker.restart()
    for _ in range(max(1, round(rate * seconds / TURN))):
        for asker in askers.values():
            due = time.perf_counter()
            for _ in range(TURN):
                due += 1.0 / rate
                time.sleep(max(0.0, due - time.perf_counter()))
                asker.times.append(asker.ask())
    return {
        name: Times(np.asarray(asker.times), np.asarray(asker.own_times), 1.0 / rate, asker.fallbacks)
        for name, asker in askers.items()
    }


def parts(store: PolicyStore) -> dict[str, float]:
    """Median time of each part of an answer, and of what rclpy would do in their place [us]; in this process, alone."""
    runtime = PolicyRuntime(*store.active())
    limits = Limits(runtime.spec, stale_after_s=1.0, deadline_s=1.0)
    message = Observation(sequence=7, step=7, episode_id="SafetyPointCircle1-s7-000003", data=DATA)
    payload = serialize_message(message)
    asked = read_observation(payload)
    assert asked is not None
    action = runtime.act(asked.data)
    tick = Tick(True, asked.data, 0, 0, 0, last_action=action, action=action)
    command = Command(1, 2, 3, action, 4, runtime.bundle_id, False, "", 0.0)
    reply = deserialize_message(command.serialized(), Action)
    return {
        "read the observation's bytes": median(lambda: read_observation(payload)),
        "(rclpy: bytes to message)": median(lambda: deserialize_message(payload, Observation)),
        "judge the input": median(lambda: input_fault(limits, tick)),
        "inference": median(lambda: runtime.act(asked.data)),
        "decide": median(lambda: decide(limits, tick)),
        "write the action's bytes": median(command.serialized),
        "(rclpy: message to bytes)": median(lambda: serialize_message(reply)),
    }


def median(call: Callable[[], object], count: int = 2000) -> float:
    times = []
    for _ in range(count):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return 1e6 * float(np.median(times))


def resident(pid: int) -> float:
    """Memory that a process holds [MiB]."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def report(found: dict[float, dict[str, Times]], memory: float, spent: dict[str, float]) -> str:
    rows = [times.row(name, rate) for rate, both in found.items() for name, times in both.items()]
    ratios = []
    for rate, both in found.items():
        ours, bare = (1e3 * np.percentile(both[name].trips, (50, 99)) for name in ("policy_server", "bare echo"))
        own = 1e3 * np.percentile(both["policy_server"].own, (50, 99))
        ratios.append(
            f"| {rate:g} | {ours[0] / bare[0]:.2f} | {ours[1] / bare[1]:.2f} | {own[0]:.3f} | {own[1]:.3f} "
            f"| {both['policy_server'].fallbacks} |"
        )
    return f"""# From observation to action

Written by `benchmarks/action_latency.py` on {datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, load \
{os.getloadavg()[0]:.1f}, Python {sys.version.split()[0]}. Other processes ran on this machine: what counts are the \
ratios within one run.

| rate [Hz] | | p50 [ms] | p99 [ms] | worst [ms] | missed |
|---|---|---|---|---|---|
{chr(10).join(rows)}

policy_server beside the bare echo, and its own part: judging the input and inference. It answers the last observation \
once more, for nobody, 1 ms before the next is due (parameter `rehearse_ahead`): a processor that slept for most of a \
period has other things in its caches.

| rate [Hz] | ratio p50 | ratio p99 | own p50 [ms] | own p99 [ms] | safe actions |
|---|---|---|---|---|---|
{chr(10).join(ratios)}

Where its time goes, each part alone and over and over, median [us]; in service, caches are colder. The rest of a \
round trip is the middleware and waking up, twice:

| | us |
|---|---|
{chr(10).join(f"| {name} | {value:.1f} |" for name, value in spent.items())}

policy_server holds {memory:.0f} MiB; it loads neither torch nor onnx.
"""


if __name__ == "__main__":
    sys.exit(main())
