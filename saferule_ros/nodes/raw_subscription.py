"""A subscription that one thread waits for by itself, without an executor: the shortest way from a message to a reader.

An rclpy executor looks at every entity of its node before and after every wait, and makes Python messages of what
came. Here one thread waits for one subscription and takes what came as bytes.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Self

from rclpy.callback_groups import CallbackGroup
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.qos import QoSProfile

from saferule_ros.units import NANOSECONDS

# As rclpy.wait_for_message does it, in Jazzy and Kilted: (subscriptions, guards, timers, clients, services, events).
_ONE_SUBSCRIPTION = (1, 1, 0, 0, 0, 0)


class _NoExecutor(CallbackGroup):
    """What is in this group no executor waits for."""

    def can_execute(self, entity: object) -> bool:
        return False

    def beginning_execution(self, entity: object) -> bool:
        return False

    def ending_execution(self, entity: object) -> None:
        pass


class RawSubscription:
    """Messages of a topic as serialized bytes. The thread that waits and takes does so within `with`."""

    def __init__(self, node: Node, kind: type, topic: str, profile: QoSProfile) -> None:
        self._node = node
        self._kind = kind
        self._subscription = node.create_subscription(
            kind, topic, lambda _: None, profile, callback_group=_NoExecutor(), raw=True
        )
        self._wake = node.create_guard_condition(lambda: None, callback_group=_NoExecutor())
        self._held = ExitStack()

    def __enter__(self) -> Self:
        context = self._node.context
        assert context.handle is not None, "the node is alive"
        with ExitStack() as held:
            for handle in (self._subscription.handle, self._wake.handle, context.handle):
                held.enter_context(handle)
            self._wait_set = rclpy_implementation.WaitSet(*_ONE_SUBSCRIPTION, context.handle)
            self._held = held.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def wait(self, seconds: float) -> None:
        """Returns when there is a message, when `wake` was called, or after so long."""
        self._wait_set.clear_entities()
        self._wait_set.add_subscription(self._subscription.handle)
        self._wait_set.add_guard_condition(self._wake.handle)
        self._wait_set.wait(max(0, round(NANOSECONDS * seconds)))

    def take(self) -> bytes | None:
        """The next message that has come, if any."""
        taken = self._subscription.handle.take_message(self._kind, True)
        return None if taken is None else taken[0]

    def wake(self) -> None:
        """Ends a wait, from any thread."""
        self._wake.trigger()

    def destroy(self) -> None:
        """When no thread waits any more."""
        self._node.destroy_subscription(self._subscription)
        self._node.destroy_guard_condition(self._wake)
