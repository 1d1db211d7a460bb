#!/usr/bin/env python3
"""Thousands of swaps of a real policy_server while a robot asks for actions: was a command lost, doubled or mixed?

    saferule_ros$ make shell
    (…) $ cd /tmp && python …/benchmarks/swaps_while_serving.py --swaps 10000 --rate 200 --out …/docs/results/swaps.md

Each swap is a call of `policy_server/rollback`, which exchanges two policies: service call, durable change of the
store in a thread, switch between two ticks. What the gate and loading add happens before that, in another process and
thread; some swaps through the gate are among them (--gated). Every command is held against the policy that it names:
its numbers must be what that policy gives for that very observation.
"""

from __future__ import annotations

import argparse
import array
import itertools
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.task import Future
from saferule_ros.msg import Action, Observation
from saferule_ros.srv import RollbackPolicy, SwapPolicy

from saferule_ros.nodes import qos
from saferule_ros.nodes.runner import Runner
from saferule_ros.policy.store import PolicyStore

sys.path.append(str(Path(__file__).resolve().parent.parent / "test"))
from serving_samples import SPEC, TanhPolicy, make_store

SEEDS = (1, 2)
INPUTS = 1000  # different observations, asked in turn
TOLERANCE = 1e-5  # float32 of numpy and of ONNX Runtime
PATIENCE = 30.0  # for anything to happen at all [s]


@dataclass
class Seen:
    """What was asked and what came."""

    asked: int = 0
    actions: list[Action] = field(default_factory=list)
    arrived: list[float] = field(default_factory=list)  # [s]
    sent: list[float] = field(default_factory=list)  # [s]


class Robot:
    """Asks at a fixed rate, and swaps whenever the last swap has been answered."""

    def __init__(self, node: Node, executor: SingleThreadedExecutor, rate: float) -> None:
        self.seen = Seen()
        self.node, self._executor = node, executor
        self._period = 1.0 / rate
        inputs = np.random.default_rng(0).standard_normal((INPUTS, SPEC.observation_size)).astype(np.float32)
        self.inputs = inputs
        self._data = [array.array("f", row.tobytes()) for row in inputs]
        self._observations = node.create_publisher(Observation, "observation", qos.DATA)
        node.create_subscription(Action, "action", self._on_action, qos.DATA)
        self._rollback = node.create_client(RollbackPolicy, "policy_server/rollback")
        self._swap = node.create_client(SwapPolicy, "policy_server/swap")

    def connect(self) -> None:
        while not (self._observations.get_subscription_count() and self.node.count_publishers("action")):
            self._executor.spin_once(0.05)
        for client in (self._rollback, self._swap):
            client.wait_for_service(PATIENCE)

    def run(self, swaps: int, gated: Sequence[str]) -> list[str]:
        """Until so many swaps were answered; what refused ones said."""
        refused: list[str] = []
        waiting = iter([*gated, *itertools.repeat("", swaps - len(gated))])
        under_way: Future | None = None
        due, done = time.perf_counter(), 0
        while done < swaps:
            if under_way is None:
                under_way = self._begin(next(waiting))
            due += self._period
            self._observe()
            while (left := due - time.perf_counter()) > 0.0:
                self._executor.spin_once(left)
            if under_way.done():
                reply = under_way.result()
                refused += [] if reply.success else [reply.message]
                under_way, done = None, done + 1
        end = time.perf_counter() + PATIENCE
        while len(self.seen.actions) < self.seen.asked and time.perf_counter() < end:
            self._executor.spin_once(0.1)
        return refused

    def _begin(self, policy_id: str) -> Future:
        if policy_id:
            return self._swap.call_async(SwapPolicy.Request(policy_id=policy_id, probation_ticks=0))
        return self._rollback.call_async(RollbackPolicy.Request(reason="benchmark"))

    def _observe(self) -> None:
        number = self.seen.asked = self.seen.asked + 1
        message = Observation(sequence=number, step=number, episode_id="e", data=self._data[number % INPUTS])
        message.header.stamp = self.node.get_clock().now().to_msg()
        self.seen.sent.append(time.perf_counter())
        self._observations.publish(message)

    def _on_action(self, message: Action) -> None:
        self.seen.arrived.append(time.perf_counter())
        self.seen.actions.append(message)


def faults(seen: Seen, outputs: dict[str, np.ndarray]) -> dict[str, int]:
    """How many commands were lost, doubled, out of order, mixed or safe actions.

    Args:
        outputs: of each policy id, its actions (INPUTS, A) for the inputs.
    """
    answered = Counter(action.observation_sequence for action in seen.actions)
    expected = range(1, seen.asked + 1)
    policies: dict[int, set[str]] = {}
    mixed = fallbacks = 0
    for action in seen.actions:
        policies.setdefault(action.policy_generation, set()).add(action.policy_id)
        if action.fallback:
            fallbacks += 1
            continue
        wanted = outputs[action.policy_id][action.observation_sequence % INPUTS]
        mixed += bool(np.abs(np.asarray(action.data) - wanted).max() > TOLERANCE)
    sequences = [action.sequence for action in seen.actions]
    generations = [action.policy_generation for action in seen.actions]
    return {
        "lost": sum(number not in answered for number in expected),
        "doubled": sum(count - 1 for count in answered.values()),
        "out of order": sum(b != a + 1 for a, b in itertools.pairwise(sequences))
        + sum(b < a for a, b in itertools.pairwise(generations)),
        "of a policy that it does not name": mixed,
        "of two policies in one generation": sum(len(ids - {""}) > 1 for ids in policies.values()),
        "safe actions instead": fallbacks,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--swaps", type=int, default=10_000)
    parser.add_argument("--gated", type=int, default=5, help="so many of them through the gate")
    parser.add_argument("--rate", type=float, default=200.0, help="observations per second [Hz]")
    parser.add_argument("--out", type=Path, help="Markdown file to write")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="saferule-swaps-"))
    store, ids = make_store(folder, *SEEDS)
    gated = [ids[(number + 1) % 2] for number in range(options.gated)]
    with Runner(folder / "logs") as runner:
        text, clean = measure(runner, store, ids, options.swaps, gated, options.rate)
    print(text)
    if options.out:
        options.out.write_text(text)
    return 0 if clean else 1


def measure(
    runner: Runner, store: PolicyStore, ids: list[str], swaps: int, gated: Sequence[str], rate: float
) -> tuple[str, bool]:
    # What is asked here is whether commands get lost; lateness is what action_latency.py is about.
    runner.start("policy_server", parameters={"store": str(store.root), "deadline": 10.0, "gate_deadline": 1.0})
    runner.wait_ready()
    rclpy.init()
    node = rclpy.create_node("robot", enable_rosout=False, start_parameter_services=False)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    robot = Robot(node, executor, rate)
    robot.connect()
    began = time.perf_counter()
    refused = robot.run(swaps, gated)
    seconds = time.perf_counter() - began
    node.destroy_node()
    rclpy.shutdown()
    seen = robot.seen
    found = faults(seen, {id: TanhPolicy(seed).act(robot.inputs) for id, seed in zip(ids, SEEDS, strict=True)})
    generations = len({action.policy_generation for action in seen.actions})
    clean = not refused and not any(found.values())
    rows = "\n".join(f"| commands {name} | {count} |" for name, count in found.items())
    return (
        f"""# Swaps while serving

Written by `benchmarks/swaps_while_serving.py` on {datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, load \
{os.getloadavg()[0]:.1f}.

A real `policy_server`, asked at {rate:g} Hz for {seconds:.0f} s: {seen.asked} observations, {len(seen.actions)} \
commands. {swaps} swaps, {len(gated)} of them through the gate, one after the other as fast as they are answered \
({swaps / seconds:.0f} per second); {generations} generations were seen acting. {len(refused)} swaps were refused.

| | |
|---|---|
{rows}

{"No command was lost, doubled or mixed." if clean else "**Not clean.** " + "; ".join(refused[:3])}
""",
        clean,
    )


if __name__ == "__main__":
    sys.exit(main())
