"""The control thread: waits for observations and for nothing else.

Beside the twenty services of a lifecycle node an executor would take a good part of an answer's time. Here one thread
has the observations to itself (RawSubscription); the executor's thread keeps all the rest, and what it does delays an
answer by no more than Python's interpreter lock. Swaps are made between two answers, under ControlPath's own lock.
"""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
from collections.abc import Callable

from rclpy.node import Node
from rclpy.qos import QoSProfile

from saferule_ros.nodes.raw_subscription import RawSubscription
from saferule_ros.nodes.rhythm import Rhythm


class ControlLoop:
    """A thread from begin() to end().

    Args:
        node: whose subscription it is.
        kind, topic, profile: of the messages.
        on_message: called with each as bytes.
        on_beat: called every `period` [s], from the same thread: when that hangs, it is not called any more.
        rehearse: called `lead` [s] before the next message is due: a processor that slept for most of a period has
            other things in its caches, and needs several times as long for the first answer after it. A lead of 0:
            never.
        failed: called, in that thread, where a fault in the program ends it; the process is then told to end.
    """

    def __init__(
        self, node: Node, kind: type, topic: str, profile: QoSProfile, on_message: Callable[[bytes], None],
        on_beat: Callable[[], None], period: float, rehearse: Callable[[], None], lead: float,
        failed: Callable[[], None],
    ) -> None:  # fmt: skip
        self._node = node
        self._on_message = on_message
        self._on_beat = on_beat
        self._period = period
        self._rehearse = rehearse
        self._failed = failed
        self._rhythm = Rhythm(lead)
        self._incoming = RawSubscription(node, kind, topic, profile)
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)

    def begin(self) -> None:
        """From now on messages are answered."""
        self._thread.start()

    def end(self, deadline: float) -> bool:
        """Returns when the last callback has returned: True; or after `deadline` [s]: False."""
        self._ended = True
        self._incoming.wake()
        if self._thread.is_alive():
            self._thread.join(deadline)
        if self._thread.is_alive():
            return False
        self._incoming.destroy()
        return True

    def _run(self) -> None:
        try:
            self._loop()
        except BaseException:  # noqa: BLE001 - a robot without control must not go on as if nothing were amiss
            self._failed()
            self._node.get_logger().fatal(f"the control thread failed: {traceback.format_exc()}")
            os.kill(os.getpid(), signal.SIGTERM)

    def _loop(self) -> None:
        with self._incoming as incoming:
            due = time.monotonic()
            while not self._ended:
                now = time.monotonic()
                if now >= due:
                    self._on_beat()
                    due = max(due + self._period, now)
                if self._rhythm.is_time(now):
                    self._rehearse()
                incoming.wait(min(due, self._rhythm.ready_at) - time.monotonic())
                self._take(incoming, due)

    def _take(self, incoming: RawSubscription, due: float) -> None:
        """Answers what has come, until a beat is due."""
        while not self._ended:
            payload = incoming.take()
            if payload is None:
                return
            came = time.monotonic()
            self._on_message(payload)
            self._rhythm.came(came)
            if time.monotonic() >= due:
                return
