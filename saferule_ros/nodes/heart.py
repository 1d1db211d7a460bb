"""policy_server's sign of life, and whether it commands.

The heartbeat comes from the thread that answers observations: when that hangs, it stops. With the parameter
`fallback`, the server commands only while the node `fallback` says so, and not after a silence of its own that was long
enough for it to have taken over (the process was stopped, or the machine stood still): then it asks for control. What
was observed in between is not answered any more, however late it arrives: the robot has moved on since.
"""

from __future__ import annotations

import array
import time
from collections.abc import Callable

from rclpy.node import Node

from saferule_ros.msg import Control, Heartbeat
from saferule_ros.nodes import qos
from saferule_ros.nodes.lease import lease, takeover_after
from saferule_ros.nodes.serving import ControlPath
from saferule_ros.units import NANOSECONDS

CONTROL = "fallback/control"  # where the node `fallback` says who commands
NEVER = (0, 0)  # an empty span of time
# So long after control was given [s] what had waited meanwhile has been read: what comes later is new, whatever its
# stamp says of another clock. Less than the 0.3 s for which the ready contract of a differential drive waits [ours].
READ_WITHIN = 0.1


class Heart:
    """Beats while the node serves.

    Args:
        node: whose it is.
        path: what would be commanded.
        period: between beats [s]; beat() is called so often, by the thread that answers observations.
        guarded: a fallback stands by, and has to give control.
        changed: told in one line when control is lost and when it is there, and whether that is a fault; in the
            executor's thread.
    """

    def __init__(
        self, node: Node, path: ControlPath, period: float, guarded: bool, changed: Callable[[str, bool], None]
    ) -> None:
        self._node = node
        self._path = path
        self._period = period
        self._guarded = guarded
        self._changed = changed
        self._publisher = node.create_publisher(Heartbeat, "~/heartbeat", qos.HEARTBEAT)
        self._beating = False
        self._count = 0
        self._newest = 0.0  # when the newest beat began, monotonic [s]
        self._newest_stamp = node.get_clock().now().nanoseconds  # the same by the clock that stamps observations [ns]
        self._without = NEVER  # from when until when it was without control, by that clock [ns]
        self._given = 0.0  # when it was given, monotonic [s]
        self._silent_until = 0  # when the newest silence of its own ended, by the clock that stamps [ns]
        self.in_control = not guarded
        if guarded:
            node.create_subscription(Control, CONTROL, self._on_control, qos.LATCHED)

    def begin(self) -> None:
        """The first beat."""
        self._beating = True
        self._newest = time.monotonic()
        # Nothing of before waits to be answered, and the clock may have been another one: a simulation begins anew.
        self._newest_stamp, self._without = self._node.get_clock().now().nanoseconds, NEVER
        self._publish(serving=True)

    def end(self) -> None:
        """The last beat says that this is meant. After the thread that beats has ended."""
        if self._beating:
            self._beating = False
            self._publish(serving=False)

    def fall_silent(self) -> None:
        """No beat from here on, not even the last: a fault ends this process, and `fallback` has to act, alone."""
        self._beating = False
        if self._guarded:
            self.in_control = False

    def may_answer(self, stamp_ns: int) -> bool:
        """Whether an observation of that time [ns] may be answered now: not one from while `fallback` commanded."""
        if not self.may_act():
            return False
        lost, given = self._without
        if lost <= stamp_ns < given and time.monotonic() - self._given <= READ_WITHIN:
            return False
        self._without = NEVER  # messages come in their order: no older one follows. A clock may be set back
        return True

    def may_act(self) -> bool:
        """Whether an action may go out now. Costs a comparison: ask as shortly before it goes out as can be."""
        if self._guarded and self.in_control and time.monotonic() - self._newest > lease(self._period):
            self.in_control = False
            silence = time.monotonic() - self._newest
            assert self._node.executor is not None
            said = f"silent for {silence:.3f} s: commands nothing until fallback gives control back"
            self._node.executor.create_task(self._changed, said, True)
        return self.in_control

    def beat(self) -> None:
        """One more."""
        # Before anything else: were the process stopped from here on, this beat would count from before.
        now, stamp = time.monotonic(), self._node.get_clock().now().nanoseconds
        if self.may_act():  # this beat may come too late itself
            self._newest_stamp = stamp
        if now - self._newest > lease(self._period):
            self._silent_until = stamp
        self._newest = now
        if self._beating:
            self._publish(serving=True)

    def _publish(self, serving: bool) -> None:
        self._count += 1
        safe = self._path.safe_action(takeover_after(self._period))
        message = Heartbeat(
            count=self._count,
            period=self._period,
            serving=serving,
            waits=not self.in_control,
            sequence=self._path.sequence,
            safe_action=array.array("f", safe.tobytes() if safe is not None else b""),
            damping=self._path.safe_damping,
        )
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(message)

    def _on_control(self, message: Control) -> None:
        if message.holder == "fallback" and self.in_control:
            self.in_control = False
            self._changed(f"fallback took control: {message.reason}", True)
        elif message.holder == "policy_server" and not self.in_control and not self._is_of_before(message):
            # Where nothing was answered since control was lost before, it counts from then.
            lost = self._newest_stamp if self._without is NEVER else self._without[0]
            self._without = (lost, self._node.get_clock().now().nanoseconds)
            self._given = time.monotonic()
            self.in_control = True
            self._changed(f"in control: {message.reason}", False)

    def _is_of_before(self, word: Control) -> bool:
        """Whether control was given before the newest silence: `fallback` may have taken it again in that. Where it has
        not, it says so again to the next beat. A clock that was set back since tells nothing."""
        said = word.header.stamp.sec * NANOSECONDS + word.header.stamp.nanosec
        return said < self._silent_until <= self._node.get_clock().now().nanoseconds
