#!/usr/bin/env python3
"""How long an observation waits for its action, beside a bare echo of the same messages, in one run.

    saferule_ros$ make shell
    (…) $ cd /tmp && python …/benchmarks/action_latency.py --rate 200 --seconds 10

Both are processes of their own, asked in turns of 100 messages, so that a busy machine is busy for both. Reported:
round-trip time as the asking process sees it, policy_server's own time per action, and lock-step round trips per
second.
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
from pathlib import Path

import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from saferule_ros.msg import Action, Observation

from saferule_ros.nodes import process, qos
from saferule_ros.nodes.runner import Runner
from saferule_ros.policy.store import PolicyStore

sys.path.append(str(Path(__file__).resolve().parent.parent / "test"))
from serving_samples import SPEC, make_store

TURN = 100  # messages to one of the two before the other has its turn
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
    """Publishes observations to one server and times the answers."""

    def __init__(self, node: Node, executor: SingleThreadedExecutor, namespace: str) -> None:
        self._node, self._executor = node, executor
        self._publisher = node.create_publisher(Observation, f"{namespace}observation", qos.DATA)
        node.create_subscription(Action, f"{namespace}action", self._on_action, qos.DATA)
        self._topic = f"{namespace}action"
        self._sequence = 0
        self._answered = 0.0
        self.times: list[float] = []
        self.own_times: list[float] = []
        self.fallbacks = 0

    def connect(self) -> None:
        while not (self._publisher.get_subscription_count() and self._node.count_publishers(self._topic)):
            self._executor.spin_once(0.05)

    def ask(self) -> float:
        """One round trip [s]."""
        self._sequence += 1
        message = Observation(sequence=self._sequence, step=self._sequence, data=DATA)
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._answered = 0.0
        start = time.perf_counter()
        self._publisher.publish(message)
        while not self._answered:
            self._executor.spin_once()
        return self._answered - start

    def _on_action(self, message: Action) -> None:
        self._answered = time.perf_counter()
        self.fallbacks += message.fallback
        self.own_times.append(message.inference_time)


DATA = array.array("f", np.random.default_rng(0).standard_normal(SPEC.observation_size).astype(np.float32).tobytes())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=200.0, help="observations per second [Hz]")
    parser.add_argument("--seconds", type=float, default=10.0, help="measured time of either [s]")
    parser.add_argument("--echo", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.echo:
        return process.run(Echo, [])
    folder = Path(tempfile.mkdtemp(prefix="saferule-latency-"))
    store, _ = make_store(folder, 1)
    with Runner(folder / "logs") as runner:
        echo = subprocess.Popen([sys.executable, str(Path(__file__).resolve()), "--echo"])
        try:
            report(measure(runner, store, options.rate, options.seconds))
        finally:
            echo.send_signal(signal.SIGINT)
            echo.wait()
    return 0


def measure(runner: Runner, store: PolicyStore, rate: float, seconds: float) -> dict[str, Asker]:
    runner.start("policy_server", parameters={"store": str(store.root)})
    runner.wait_ready()
    rclpy.init()
    node = rclpy.create_node("asker", enable_rosout=False, start_parameter_services=False)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    askers = {"policy_server": Asker(node, executor, ""), "bare echo": Asker(node, executor, "echo/")}
    for asker in askers.values():
        asker.connect()
        for _ in range(WARM_UP):
            asker.ask()
        asker.own_times.clear()
    for _ in range(round(rate * seconds / TURN)):
        for asker in askers.values():
            due = time.perf_counter()
            for _ in range(TURN):
                due += 1.0 / rate
                time.sleep(max(0.0, due - time.perf_counter()))
                asker.times.append(asker.ask())
    for name, asker in askers.items():
        start = time.perf_counter()
        for _ in range(10 * TURN):
            asker.ask()
        print(f"{name}: {10 * TURN / (time.perf_counter() - start):.0f} round trips/s one after the other")
    node.destroy_node()
    rclpy.shutdown()
    return askers


def report(askers: dict[str, Asker]) -> None:
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    for name, asker in askers.items():
        p50, p99, worst = 1e3 * np.percentile(asker.times, (50, 99, 100))
        print(f"{name}: n {len(asker.times)}, round trip p50 {p50:.3f} ms, p99 {p99:.3f} ms, worst {worst:.3f} ms")
    own = 1e3 * np.percentile(askers["policy_server"].own_times, (50, 99))
    print(f"policy_server's own time p50 {own[0]:.3f} ms, p99 {own[1]:.3f} ms; "
          f"{askers['policy_server'].fallbacks} fallbacks")  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
