"""How a robot's two commands bring it to a wanted velocity: what differs between the circle tasks' robots. [ours]"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saferule_ros.sim.environment import Pose

Vector = NDArray[np.float64]

_LONGEST_RIGHT_TURN = np.radians(110.0)  # beyond it, it turns left: the way of the circle


@dataclass(frozen=True)
class Chassis:
    """A robot's commands.

    Attributes:
        commands: of a wanted velocity (2,) [m/s, world] and the present pose, (2,) within [-1, 1].
        low: least commands a driver gives.
    """

    commands: Callable[[Vector, Pose], Vector]
    low: tuple[float, float]


# The Point robot, measured: full thrust ends at 1.5 m/s. The thrust is spent on reaching the wanted velocity.
_POINT_TOP_SPEED = 1.5
_POINT_VELOCITY_GAIN = 3.0
_POINT_TURN_GAIN = 4.0  # turn command per rad of heading error; the command is full at 0.25 rad


def _point_commands(wanted: Vector, pose: Pose) -> Vector:
    """Thrust along the heading, and turn."""
    thrust = (wanted + _POINT_VELOCITY_GAIN * (wanted - pose.velocity)) / _POINT_TOP_SPEED
    error = _turn(np.arctan2(thrust[1], thrust[0]) - pose.heading)
    ahead = float(thrust @ np.array([np.cos(pose.heading), np.sin(pose.heading)]))
    return np.clip(np.array([ahead, _POINT_TURN_GAIN * error]), -1.0, 1.0)


# The Car robot, measured: it drives along its own -y axis, hence a right angle behind the heading, at 0.8 m/s at
# most. Its motors give full force from a command of 0.02 on, so that in effect it is driven by the commands' signs.
_CAR_FRONT = -np.pi / 2
_CAR_SPEED_GAIN = 2.0  # command per m/s too slow
_CAR_TURN_GAIN = 2.0  # command per rad of heading error; from about half a rad it turns on the spot


def _car_commands(wanted: Vector, pose: Pose) -> Vector:
    """Left and right wheel."""
    front = pose.heading + _CAR_FRONT
    error = _turn(np.arctan2(wanted[1], wanted[0]) - front)
    speed = float(pose.velocity @ np.array([np.cos(front), np.sin(front)]))
    # Off its course it slows down: it would drive away from the ellipse.
    throttle = _CAR_SPEED_GAIN * (float(np.linalg.norm(wanted)) * max(float(np.cos(error)), 0.0) - speed)
    turn = _CAR_TURN_GAIN * error
    return np.clip(np.array([throttle + turn, throttle - turn]), -1.0, 1.0)


def _turn(error: float) -> float:
    """Heading error as the turn to make [rad]: to the left where both ways are about equally long.

    A driver that turns either way gives logs with two answers to one situation, and their mean is neither.
    """
    return float((error + _LONGEST_RIGHT_TURN) % (2 * np.pi) - _LONGEST_RIGHT_TURN)


# No reverse gear, in noise neither: where backward driving is in the logs by accident alone, a learner takes it for a
# short cut whose end it has never seen.
POINT = Chassis(_point_commands, (0.0, -1.0))
CAR = Chassis(_car_commands, (-1.0, -1.0))
