"""For tests over DDS: real node processes, and a probe node that sees what they say. Nothing here sleeps.

from ros_helpers import Ros, ros  # noqa: F401  (the fixture)

def test_something(ros: Ros) -> None:
    ros.runner.start("policy_server", parameters={...})
    ros.runner.wait_ready(READY)
    status = ros.probe.record(PolicyStatus, "policy_server/status", qos.LATCHED)
    ros.probe.wait_for(lambda: status and status[-1].state == "serving", "the server serves")
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import pytest
import rclpy
from rclpy.action import ActionClient
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, ShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile

from saferule_ros.nodes import qos
from saferule_ros.nodes.runner import Runner

# Far above what anything here takes (1 to 3 s): they end what hangs. Discovery after a process was killed hard can
# wait for its lease to run out, 20 s, and a busy machine takes its time for everything.
READY = 90.0
DEADLINE = 90.0
T = TypeVar("T")


class Probe:
    """A node of the test's own, spun in a thread."""

    def __init__(self, domain: int) -> None:
        os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        self._context = Context()
        rclpy.init(context=self._context, domain_id=domain)
        self.node = rclpy.create_node("probe", context=self._context)
        self._others: list[Node] = []
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._spin, name="probe", daemon=True)
        self._thread.start()

    def record(self, kind: type[T], topic: str, profile: QoSProfile = qos.DATA) -> list[T]:
        """A list that grows with every message."""
        messages: list[T] = []
        self.subscribe(kind, topic, messages.append, profile)
        return messages

    def subscribe(
        self, kind: type[T], topic: str, callback: Callable[[T], None], profile: QoSProfile = qos.DATA
    ) -> None:
        """Calls back in the probe's thread."""

        def on_message(message: T) -> None:
            callback(message)
            with self._changed:
                self._changed.notify_all()

        self.node.create_subscription(kind, topic, on_message, profile)

    def publisher(self, kind: type, topic: str, profile: QoSProfile = qos.DATA, listeners: int = 1) -> Any:
        """A publisher that is connected to so many listeners."""
        publisher: Any = self.node.create_publisher(kind, topic, profile)
        self.wait_for(lambda: publisher.get_subscription_count() >= listeners, f"{listeners} listen(s) to {topic}")
        return publisher

    def wait_for(self, condition: Callable[[], T], what: str, deadline: float = DEADLINE) -> T:
        """Waits until `condition` is true, and returns its value; fails the test after `deadline` [s]."""
        value = self.becomes(condition, deadline)
        if not value:
            pytest.fail(f"after {deadline:g} s, it is still not true that {what}")
        return value

    def becomes(self, condition: Callable[[], T], deadline: float) -> T:
        """Waits until `condition` is true, at most for `deadline` [s]; returns its last value."""
        end = time.monotonic() + deadline
        with self._changed:
            while True:
                value = condition()
                left = end - time.monotonic()
                if value or left <= 0:
                    return value
                # Messages notify; the graph does not, hence the limit.
                self._changed.wait(min(left, 0.05))

    def another_node(self, name: str, **options: Any) -> Node:
        """One more node in this process, spun with the probe's own."""
        node = rclpy.create_node(name, context=self._context, **options)
        self._others.append(node)
        self._executor.add_node(node)
        return node

    def action_client(self, kind: type, name: str, deadline: float = DEADLINE) -> Any:
        """A client of an action that is there, on a node of its own; see Operator of the demo for why."""
        node = rclpy.create_node(f"probe_{len(self._others)}", context=self._context)
        self._others.append(node)
        client: Any = ActionClient(node, kind, name)
        self._executor.add_node(node)
        assert client.wait_for_server(deadline), f"no action {name}"
        return client

    def call(self, kind: type, name: str, request: Any, deadline: float = DEADLINE) -> Any:
        """Calls a service and returns its response."""
        return self.call_later(kind, name, request, deadline)()

    def call_later(self, kind: type, name: str, request: Any, deadline: float = DEADLINE) -> Callable[[], Any]:
        """Calls a service; the returned function waits for the response."""
        client = self.node.create_client(kind, name)  # type: ignore[var-annotated]
        assert client.wait_for_service(deadline), f"no service {name}"
        future = client.call_async(request)

        def response() -> Any:
            try:
                self.wait_for(future.done, f"{name} answered", deadline)
                return future.result()
            finally:
                self.node.destroy_client(client)

        return response

    def close(self) -> None:
        self._executor.shutdown()
        self._thread.join()
        for node in (*self._others, self.node):
            node.destroy_node()
        self._context.try_shutdown()

    def _spin(self) -> None:
        with contextlib.suppress(ExternalShutdownException, ShutdownException):
            self._executor.spin()


@dataclass
class Ros:
    """A ROS domain with node processes and a probe."""

    runner: Runner
    probe: Probe
    domain: int

    @classmethod
    def open(cls, folder: Path) -> Self:
        domain = int(os.environ["ROS_DOMAIN_ID"])  # this test run's own, see conftest.py
        return cls(Runner(folder / "logs", domain), Probe(domain), domain)

    def renew_probe(self) -> None:
        """A new probe, which has never heard of processes that were killed; the old one would wait for them, since
        DDS takes 20 s to notice."""
        self.probe.close()
        self.probe = Probe(self.domain)

    def close(self) -> None:
        try:
            self.runner.stop()
        finally:
            self.probe.close()


@pytest.fixture
def ros(tmp_path: Path) -> Iterator[Ros]:
    """See Ros; everything is ended afterwards."""
    opened = Ros.open(tmp_path)
    try:
        yield opened
    finally:
        opened.close()
