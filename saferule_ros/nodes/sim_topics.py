"""What sim_bridge says on `/clock`, `observation` and `action`, with the counters that number it."""

from __future__ import annotations

import time

import numpy as np
from builtin_interfaces.msg import Time
from numpy.typing import NDArray
from rclpy.node import Node
from rosgraph_msgs.msg import Clock

from saferule_ros.msg import Action, Observation
from saferule_ros.nodes import qos
from saferule_ros.nodes.sim_episode import PlannedEpisode, Tick
from saferule_ros.nodes.sim_messages import (
    demonstrated_action,
    observation_message,
    time_message,
)
from saferule_ros.units import NANOSECONDS

# In real time [s]: in lock-step, a clock message per tick would take a quarter of all steps per second, for each
# message wakes every node that uses simulated time. Episodes' first and last ticks always set the clock.
CLOCK_PERIOD = 0.01


class SimTopics:
    """Publishes ticks, and the actions of scripted drivers. Simulated time goes on by one period per observation.

    Args:
        node: owns the publishers.
        control_rate: observations per second of simulated time [Hz].
    """

    def __init__(self, node: Node, control_rate: float) -> None:
        self._period = 1.0 / control_rate
        self._clock = node.create_publisher(Clock, "/clock", qos.CLOCK)
        self.observations = node.create_publisher(Observation, "observation", qos.DATA)
        self._actions = node.create_publisher(Action, "action", qos.DATA)
        self.sequence = 0  # of the newest observation; also the simulated time in periods
        self._action_sequence = 0
        self._clock_published = -CLOCK_PERIOD  # when, in real time [s]

    @property
    def now(self) -> Time:
        """Simulated time, monotonic over episodes."""
        return time_message(round(self.sequence * self._period * NANOSECONDS))

    def publish(self, planned: PlannedEpisode, tick: Tick) -> None:
        """The clock first: who reads it finds few observations from the future."""
        self.sequence += 1
        stamp = self.now
        wall = time.monotonic()
        if tick.step == 0 or tick.last or wall - self._clock_published >= CLOCK_PERIOD:
            self._clock_published = wall
            self._clock.publish(Clock(clock=stamp))
        self.observations.publish(observation_message(planned, tick, self.sequence, stamp))

    def publish_action(self, action: NDArray[np.float32]) -> None:
        """A scripted driver's answer to the newest observation."""
        self._action_sequence += 1
        self._actions.publish(demonstrated_action(action, self._action_sequence, self.sequence, self.now))
