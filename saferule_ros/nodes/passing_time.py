"""Time as it passes for a robot: what a dead man's switch and a rate limit are measured by.

The system's clock is no measure for them: it can be set back, and a stop would come so much later. Simulated time is,
where there is a simulation: it may be slower than the machine's, or stand still. It may also begin anew.
"""

import time

from rclpy.clock import Clock, ROSClock
from rclpy.node import Node

from saferule_ros.units import NANOSECONDS

# A step back by more than this [ns] is a simulation that begins anew. By less, its clock's message comes after one that
# was stamped later.
BEGINS_ANEW = NANOSECONDS


def simulated(clock: Clock) -> bool:
    """Whether a node's clock is a simulation's."""
    return isinstance(clock, ROSClock) and clock.ros_time_is_active


class PassingTime:
    """A clock that never goes back: the machine's steady one, or the simulation's where the node goes by that.

    What is unknown is no time: where a simulation begins anew, or the node changes from one clock to the other.

    Args:
        node: whose time it is.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._in_simulation = False
        self._newest = time.monotonic_ns()  # newest reading of the clock that it goes by
        self._passed = 0

    def __call__(self, proved: int = 0) -> int:
        """Time that has passed [ns], from anywhere on.

        Args:
            proved: a stamp [ns] that simulated time has reached, even if its own message is still to come.
        """
        clock = self._node.get_clock()
        in_simulation = simulated(clock)
        reading = max(int(clock.now().nanoseconds), proved) if in_simulation else time.monotonic_ns()
        if in_simulation != self._in_simulation or reading < self._newest - BEGINS_ANEW:
            self._in_simulation, self._newest = in_simulation, reading
        elif reading > self._newest:
            self._passed += reading - self._newest
            self._newest = reading
        return self._passed
