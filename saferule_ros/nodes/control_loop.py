"""The control thread: waits for observations and for nothing else.

An rclpy executor looks at every entity of its node before and after every wait; with the twenty services of a lifecycle
node that is a good part of what an answer takes. Here one thread waits for one subscription, takes what came as bytes,
and calls back; the executor's thread keeps all the rest, and what it does delays an answer by no more than Python's
interpreter lock. Swaps are made between two answers, under ControlPath's own lock.
"""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
from collections.abc import Callable

from rclpy.callback_groups import CallbackGroup
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.qos import QoSProfile

# As rclpy.wait_for_message does it, in Jazzy and Kilted: (subscriptions, guards, timers, clients, services, events).
_ONE_SUBSCRIPTION = (1, 1, 0, 0, 0, 0)
NANOSECONDS = 1_000_000_000


class _Ours(CallbackGroup):
    """What is in this group no executor waits for."""

    def can_execute(self, entity: object) -> bool:
        return False

    def beginning_execution(self, entity: object) -> bool:
        return False

    def ending_execution(self, entity: object) -> None:
        pass


class ControlLoop:
    """A thread from begin() to end().

    Args:
        node: whose subscription it is.
        kind, topic, profile: of the messages.
        on_message: called with each as bytes.
        on_beat: called every `period` [s], from the same thread: when that hangs, it is not called any more.
    """

    def __init__(
        self, node: Node, kind: type, topic: str, profile: QoSProfile, on_message: Callable[[bytes], None],
        on_beat: Callable[[], None], period: float,
    ) -> None:  # fmt: skip
        self._node = node
        self._kind = kind
        self._on_message = on_message
        self._on_beat = on_beat
        self._period = period
        self._subscription = node.create_subscription(
            kind, topic, lambda _: None, profile, callback_group=_Ours(), raw=True
        )
        self._wake = node.create_guard_condition(lambda: None, callback_group=_Ours())
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)

    def begin(self) -> None:
        """From now on messages are answered."""
        self._thread.start()

    def end(self, deadline: float) -> bool:
        """Returns when the last callback has returned: True; or after `deadline` [s]: False."""
        self._ended = True
        self._wake.trigger()
        if self._thread.is_alive():
            self._thread.join(deadline)
        if self._thread.is_alive():
            return False
        self._node.destroy_subscription(self._subscription)
        self._node.destroy_guard_condition(self._wake)
        return True

    def _run(self) -> None:
        try:
            self._loop()
        except BaseException:  # noqa: BLE001 - a robot without control must not go on as if nothing were amiss
            self._node.get_logger().fatal(f"the control thread failed: {traceback.format_exc()}")
            os.kill(os.getpid(), signal.SIGTERM)

    def _loop(self) -> None:
        context = self._node.context
        assert context.handle is not None, "the node is alive"
        with self._subscription.handle, self._wake.handle, context.handle:
            wait_set = rclpy_implementation.WaitSet(*_ONE_SUBSCRIPTION, context.handle)
            due = time.monotonic()
            while not self._ended:
                now = time.monotonic()
                if now >= due:
                    self._on_beat()
                    due = max(due + self._period, now)
                wait_set.clear_entities()
                wait_set.add_subscription(self._subscription.handle)
                wait_set.add_guard_condition(self._wake.handle)
                wait_set.wait(max(0, round(NANOSECONDS * (due - time.monotonic()))))
                self._take(due)

    def _take(self, due: float) -> None:
        """Answers what has come, until a beat is due."""
        while not self._ended:
            taken = self._subscription.handle.take_message(self._kind, True)
            if taken is None:
                return
            self._on_message(taken[0])
            if time.monotonic() >= due:
                return
