"""What a person at a terminal does with a robot: call services, send goals, watch topics. For the demo alone.

The node spins in a thread of its own; whoever uses it waits in another one, with a deadline, and is told at once
when a node process dies. Never use it in a callback.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Generic, Self, TypeVar

import rclpy
from rclpy.action import ActionClient
from rclpy.client import Client
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, ShutdownException, SingleThreadedExecutor
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions
from rclpy.subscription import Subscription
from rclpy.task import Future

from saferule_ros.errors import SaferuleError
from saferule_ros.nodes.introductions import Acquaintance
from saferule_ros.nodes.node_process import NodeProcess
from saferule_ros.nodes.runner import Runner

T = TypeVar("T")

# Messages end a wait at once. Dead processes, the graph and work that is done beside a wait are looked at this
# often [s]: quick for a person, and little for a processor that the robot needs.
LOOK_EVERY = 0.05


class WaitedInVain(SaferuleError):
    """A deadline passed."""


class Refused(SaferuleError):
    """A node answered, but not with what was asked for."""


class Goal(Generic[T]):
    """A goal that was sent. Ask `done`; then `result` is there."""

    def __init__(self) -> None:
        self.result: T | None = None
        self.handle: Any = None
        self.accepted: bool | None = None
        self.feedback_at = time.monotonic()

    @property
    def done(self) -> bool:
        return self.result is not None

    def cancel(self) -> None:
        if self.handle is not None and not self.done:
            self.handle.cancel_goal_async()


class Operator:
    """See the module; use as a context manager.

    Args:
        domain: ROS_DOMAIN_ID.

    Attributes:
        watched: the processes of these must live while something is waited for.
    """

    def __init__(self, domain: int) -> None:
        self.watched: list[Runner] = []
        self._context = Context()
        # Ctrl-C ends the demo through its one teardown path, not by pulling the context from under it.
        rclpy.init(context=self._context, domain_id=domain, signal_handler_options=SignalHandlerOptions.NO)
        self.node = rclpy.create_node("operator", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._nodes = [self.node]
        self._changed = threading.Condition()
        self._clients: dict[str, Client] = {}
        self._met: set[str] = set()  # services whose node knows where to answer
        self._chores: list[Callable[[], None]] = []
        self._thread = threading.Thread(target=self._spin, name="operator", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._executor.shutdown()
        self._thread.join()
        for node in self._nodes:
            node.destroy_node()
        self._context.try_shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def subscribe(
        self, kind: type, topic: str, profile: QoSProfile, callback: Callable[[Any], None], raw: bool = False
    ) -> Subscription:
        """Calls back in the operator's thread: keep it short. Every message ends a wait's sleep."""

        def on_message(message: Any) -> None:
            callback(message)
            self._notify()

        return self.node.create_subscription(kind, topic, on_message, profile, raw=raw)

    def unsubscribe(self, subscription: Subscription) -> None:
        self.node.destroy_subscription(subscription)

    @contextmanager
    def beside(self, chore: Callable[[], None]) -> Iterator[None]:
        """Within it, every wait does `chore` too, at each look: something short that never waits itself."""
        self._chores.append(chore)
        try:
            yield
        finally:
            self._chores.remove(chore)

    def wait(self, condition: Callable[[], T], what: str, deadline: float, of: NodeProcess | None = None) -> T:
        """Waits until `condition` is true, and returns its value.

        Args:
            condition: cheap; it is asked at every message.
            what: completes "after 30 s still not: ...".
            deadline: [s].
            of: the process that this waits for; its log is shown where it waits in vain.

        Raises:
            WaitedInVain: the deadline passed.
            RunnerError: a node process died meanwhile; its log is shown.
        """
        end = time.monotonic() + deadline
        while True:
            for chore in self._chores:
                chore()
            with self._changed:
                value = condition()
                if value:
                    return value
                left = end - time.monotonic()
                if left > 0:
                    self._changed.wait(min(left, LOOK_EVERY))
            for runner in self.watched:
                runner.check_alive()
            if left <= 0:
                raise WaitedInVain(f"after {deadline:g} s still not: {what}", where_to_look(of))

    def begin(self, kind: type, service: str, request: Any) -> Future:
        """Calls a service that is known to be there, and does not wait."""
        future = self._client(kind, service).call_async(request)
        future.add_done_callback(lambda _: self._notify())
        return future

    def call(self, kind: type, service: str, request: Any, deadline: float, of: NodeProcess | None = None) -> Any:
        """Calls a service NODE/VERB and returns its response. Errors as for `wait`."""
        client = self._client(kind, service)
        name = client.srv_name
        self.wait(client.service_is_ready, f"there is a service {name}", deadline, of)
        if service not in self._met:
            self._meet(name.rpartition("/")[0], deadline, of)
            self._met.add(service)
        future = self.begin(kind, service, request)
        self.wait(future.done, f"{name} answers", deadline, of)
        return future.result()

    def send_goal(
        self, kind: type, action: str, goal: Any, on_feedback: Callable[[Any], None], deadline: float,
        of: NodeProcess | None = None,
    ) -> Goal[Any]:  # fmt: skip
        """Sends a goal and returns when it was accepted. Errors as for `wait`; Refused if it was rejected."""
        client = self._action_client(kind, action)
        self.wait(client.server_is_ready, f"there is an action {action}", deadline, of)
        sent: Goal[Any] = Goal()

        def fed(message: Any) -> None:
            sent.feedback_at = time.monotonic()
            on_feedback(message.feedback)
            self._notify()

        def accepted(future: Future) -> None:
            sent.handle = future.result()
            sent.accepted = sent.handle.accepted
            if sent.accepted:
                sent.handle.get_result_async().add_done_callback(ended)
            self._notify()

        def ended(future: Future) -> None:
            sent.result = future.result().result  # type: ignore[union-attr]  # it is done
            self._notify()

        client.send_goal_async(goal, feedback_callback=fed).add_done_callback(accepted)
        self.wait(lambda: sent.accepted is not None, f"{action} accepts the goal", deadline, of)
        if not sent.accepted:
            raise Refused(f"{action} rejected the goal {goal}", where_to_look(of))
        return sent

    def _meet(self, node: str, deadline: float, of: NodeProcess | None) -> None:
        """Waits until a node knows where to send the answers to calls of clients that there are by now.

        A client finds a service before the service has found the client, and an answer that is given meanwhile is lost:
        the call was carried out, and nobody knows. A question that may be asked twice goes ahead of it.
        """
        acquaintance = Acquaintance(self.node, node)
        try:
            self.wait(acquaintance.answers, f"{node} answers", deadline, of)
        finally:
            self.node.destroy_client(acquaintance.client)

    def _action_client(self, kind: type, action: str) -> ActionClient:
        """On a node of its own, which the executor is given when the client is whole.

        rclpy shows an action client to its node before it has its lock: an executor that spins in another thread may
        look at it in between, and ends with an AttributeError.
        """
        node = rclpy.create_node(f"operator_{len(self._nodes)}", context=self._context)
        self._nodes.append(node)
        client: ActionClient = ActionClient(node, kind, action)
        self._executor.add_node(node)
        return client

    def _client(self, kind: type, service: str) -> Client:
        if service not in self._clients:
            self._clients[service] = self.node.create_client(kind, service)
        return self._clients[service]

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _spin(self) -> None:
        with suppress(ExternalShutdownException, ShutdownException):
            self._executor.spin()


def where_to_look(process: NodeProcess | None) -> str:
    """What a person needs to find out why a process does not answer."""
    if process is None:
        return ""
    return f"The log of {process.name}, {process.log}, ends with:\n{process.log_tail()}"
