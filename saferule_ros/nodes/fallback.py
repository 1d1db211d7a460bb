"""fallback: commands the robot when policy_server gives no sign of life any more, and gives control back explicitly.

Listens to `policy_server/heartbeat`. After two periods of silence it publishes the safe action that the newest
heartbeat before it declared, on `action`, until the server has beaten steadily again and asks for control; then it says
so on `fallback/control` (latched) and is silent. What is to be damped gets less with every command. A server that stops
in good order says so itself, and nothing is taken.

A small process of its own, without any machine learning in it: what ends or hangs the server does not reach it. It is
no certified safety function.
"""

from __future__ import annotations

import array
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from saferule_ros.msg import Action, Control, Heartbeat
from saferule_ros.nodes import process, qos
from saferule_ros.nodes.diagnostics import Diagnostics, Health, Level
from saferule_ros.nodes.lease import SLACK, takeover_after
from saferule_ros.nodes.parameters import load, parameter

REASON = "policy_server_silent"
DIAGNOSTICS_PERIOD = 1.0  # [s], the usual one of diagnostics in ROS
# A server that comes back beats so often in a row, in time, before it gets control.
STEADY_BEATS = 3


@dataclass(frozen=True)
class Parameters:
    """Parameters of fallback."""

    command_period: float = parameter(0.02, "time between safe actions", unit="s", low=0.001, high=0.1)


class Fallback(Node):
    """See module."""

    def __init__(self) -> None:
        super().__init__("fallback")
        self._settings = load(self, Parameters)
        self._newest: Heartbeat | None = None  # the newest heartbeat
        self._heard = 0.0  # when it came, monotonic [s]
        self._in_a_row = 0
        self._holds = False
        self._excused = False  # the silence was looked at too late, and is looked at again
        self._safe: NDArray[np.float32] = np.zeros(0, np.float32)  # what is sent next
        self._damping = 1.0
        self._changes = 0
        self._sent = 0
        self._actions = self.create_publisher(Action, "action", qos.DATA)
        self._control = self.create_publisher(Control, "~/control", qos.LATCHED)
        self._beats = self.create_subscription(Heartbeat, "policy_server/heartbeat", self._on_beat, qos.HEARTBEAT)
        steady = Clock(clock_type=ClockType.STEADY_TIME)  # a simulation that stands still is no reason to fall silent
        self._silence = self.create_timer(1.0, self._on_silence, clock=steady)
        self._silence.cancel()
        self._commands = self.create_timer(self._settings.command_period, self._command, clock=steady)
        self._commands.cancel()
        self._diagnostics = Diagnostics(self, DIAGNOSTICS_PERIOD, self._health)

    def start(self) -> None:
        """See process.Stoppable: whoever waits for a word may command."""
        self._tell("fallback has started")

    def stop(self) -> None:
        """See process.Stoppable."""
        if self._holds:
            if self._damping < 1.0:  # nobody goes on damping
                self._safe = np.zeros_like(self._safe)
            self._command()  # the safe action is the last one

    def _on_beat(self, beat: Heartbeat) -> None:
        now = time.monotonic()
        in_time = now - self._heard <= takeover_after(beat.period)
        self._newest, self._heard, self._excused = beat, now, False
        if not self._holds:
            self._note(beat)
        if not beat.serving:
            self._silence.cancel()
            if self._holds:
                self._give_back("policy_server stopped in good order")
            return
        self._in_a_row = self._in_a_row + 1 if in_time else 1
        self._silence.timer_period_ns = round(1e9 * takeover_after(beat.period))
        self._silence.reset()
        if self._holds and self._in_a_row >= STEADY_BEATS:
            self._give_back(f"policy_server beats again, {self._in_a_row} times in a row")
        elif beat.waits and not self._holds:
            self._tell("policy_server asked for control, and nobody had taken it")

    def _note(self, beat: Heartbeat) -> None:
        """Takes what the server declares as what would be sent in its place.

        One that begins anew does not know what the robot holds, and declares zeros. Until it has commanded something,
        what was declared or sent here before is what the robot has; but what was damped has come to rest by then, and a
        share of it would move the robot again.
        """
        declared = np.array(beat.safe_action, np.float32)
        if not declared.size:
            return
        if beat.sequence or self._safe.size != declared.size:
            self._safe, self._damping = declared, beat.damping
        elif self._damping < 1.0:
            self._safe = np.zeros_like(self._safe)

    def _on_silence(self) -> None:
        self._silence.cancel()
        # To a process that was held up itself, this timer is due before the beats that wait for it.
        if self._take_waiting():
            return
        beat = self._newest
        if self._holds or beat is None or not self._safe.size:
            return  # never served: there is nothing that would be safe
        if self._was_held_up(beat.period):  # and the middleware's threads, which receive, as well
            self._silence.timer_period_ns = round(1e9 * SLACK)
            self._silence.reset()
            return
        self._holds = True
        self._in_a_row = 0
        self._command()
        self._commands.reset()
        self._tell(f"no sign of life from policy_server after beat {beat.count}", time.monotonic() - self._heard)

    def _was_held_up(self, period: float) -> bool:
        """Whether this process saw the end of the silence too late itself. Once in a silence: then it has to act."""
        late = time.monotonic() - self._heard - takeover_after(period)
        if self._excused or late <= SLACK:
            return False
        self._excused = True
        return True

    def _take_waiting(self) -> bool:
        """Takes what beats have come and not been heard; whether there were any."""
        heard = False
        while (taken := self._beats.handle.take_message(Heartbeat, False)) is not None:
            self._on_beat(taken[0])
            heard = True
        return heard

    def _give_back(self, why: str) -> None:
        self._commands.cancel()
        self._holds = False
        if self._damping < 1.0:  # see _note
            self._safe = np.zeros_like(self._safe)
        self._tell(why)

    def _tell(self, reason: str, silence: float = 0.0) -> None:
        self._changes += 1
        message = Control(
            holder="fallback" if self._holds else "policy_server", changes=self._changes, silence=silence, reason=reason
        )
        message.header.stamp = self.get_clock().now().to_msg()
        self._control.publish(message)
        if self._holds:  # two lines: rclpy allows one severity for each
            self.get_logger().error(f"fallback commands: {reason}")
        else:
            self.get_logger().info(f"policy_server commands: {reason}")
        self._diagnostics.publish()

    def _command(self) -> None:
        self._sent += 1
        data = array.array("f", self._safe.tobytes())
        message = Action(sequence=self._sent, data=data, fallback=True, fallback_reason=REASON)
        message.header.stamp = self.get_clock().now().to_msg()
        self._actions.publish(message)
        self._safe = self._safe * np.float32(self._damping)

    def _health(self) -> Health:
        values = {"commands": "yes" if self._holds else "no", "safe actions": self._sent, "changes": self._changes}
        if self._holds:
            return Health(Level.ERROR, "commands the robot: policy_server is silent", values)
        if self._newest is None:
            return Health(Level.WARN, "no heartbeat was heard yet: there would be nothing to send", values)
        return Health(Level.OK, "policy_server commands", values)


def main() -> None:
    """Body of the executable."""
    process.main(Fallback)
