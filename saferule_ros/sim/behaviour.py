"""Scripted drivers that make data to learn from; they see the true state, which policies do not. [ours]

"behaviour" varies from episode to episode between slow and fast, narrow and wide, steady and clumsy, so that
its episodes cover safe and unsafe ones. "unsafe" is the demonstrator whose logs are worth forgetting: much
return, through much cost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from saferule_ros.errors import SaferuleError
from saferule_ros.sim.environment import Pose, SafetyEnvironment

DRIVERS = ("behaviour", "unsafe")


class Demonstrator(Protocol):
    """Chooses actions (A,) float32 for one episode; all its randomness comes from one seed."""

    def act(self, environment: SafetyEnvironment) -> NDArray[np.float32]:
        """The action for the environment's present true state."""


@dataclass(frozen=True)
class Style:
    """How one episode is driven.

    Attributes:
        half_width, half_height: semi-axes of the ellipse that is followed, along x and y [m].
        speed: target speed along it, counter-clockwise [m/s].
        noise: size of the Ornstein-Uhlenbeck noise on actions (1 is full scale).
        random_share: share of steps with a uniformly random action.
    """

    half_width: float
    half_height: float
    speed: float
    noise: float
    random_share: float


DrawStyle = Callable[[np.random.Generator], Style]

# A driver changes its mind within an episode, or not: the changes show how to get from wide and fast back to
# narrow and slow. Without them no log tells how to turn in where a policy finds itself too far out. [steps]
_CHANGING = (100, 700)
_STEADY = (1_000_000, 1_000_000)  # longer than any episode

# The Point robot, measured: full thrust ends at 1.5 m/s. The thrust is spent on reaching the wanted velocity.
_TOP_SPEED = 1.5
_VELOCITY_GAIN = 3.0
_ELLIPSE_GAIN = 2.0  # how hard it steers back to the ellipse: m/s per m off it, relative to the target speed
_TURN_GAIN = 4.0  # turn command per rad of heading error; the command is full at 0.25 rad
_LONGEST_RIGHT_TURN = np.radians(110.0)  # beyond it, it turns left: the way of the ellipse
_AT_ORIGIN = 1e-6  # nearer to the middle than this no direction is outward: any will do
_NOISE_MEMORY = 0.9  # share of the noise that stays from one step to the next (about 10 steps, 0.2 s)


class EllipseTracker:
    """Drives the Point robot counter-clockwise along an ellipse around the origin.

    Args:
        draw_style: makes a style from random numbers.
        lifetimes: shortest and longest time that a style is kept [steps]; one is drawn for the episode.
        generator: of all its randomness.
    """

    def __init__(self, draw_style: DrawStyle, lifetimes: tuple[int, int], generator: np.random.Generator) -> None:
        self._draw_style = draw_style
        self._style = draw_style(generator)
        self._lifetime = int(generator.integers(*lifetimes, endpoint=True))
        self._generator = generator
        self._noise = np.zeros(2)
        self._steps = 0

    def act(self, environment: SafetyEnvironment) -> NDArray[np.float32]:
        """See Demonstrator: thrust and turn, each in [-1, 1]."""
        pose = environment.pose()
        if pose is None:
            raise SaferuleError(f"{environment.task.id} has no robot on a plane", "Use a navigation task")
        rng = self._generator
        if self._steps and self._steps % self._lifetime == 0:
            self._style = self._draw_style(rng)
        self._steps += 1
        style = self._style
        # Drawn on every step, used or not: what happens then never shifts the random numbers of later steps.
        fresh, random_action, dice = rng.standard_normal(2), rng.uniform(-1.0, 1.0, 2), rng.random()
        self._noise = _NOISE_MEMORY * self._noise + np.sqrt(1 - _NOISE_MEMORY**2) * style.noise * fresh
        action = random_action if dice < style.random_share else self._steer(pose) + self._noise
        # No reverse gear, in noise neither: where backward driving is in the logs by accident alone, a learner takes
        # it for a short cut whose end it has never seen.
        return np.clip(action, (0.0, -1.0), (1.0, 1.0)).astype(np.float32)

    def _steer(self, pose: Pose) -> NDArray[np.float64]:
        axes = np.array([self._style.half_width, self._style.half_height])
        scaled = pose.position / axes
        level = max(float(np.linalg.norm(scaled)), _AT_ORIGIN)  # 1 on the ellipse
        outward = scaled / axes if level > _AT_ORIGIN else np.array([1.0, 0.0])
        outward = outward / np.linalg.norm(outward)
        along = np.array([-outward[1], outward[0]])
        off = (level - 1.0) * float(np.linalg.norm(pose.position)) / level
        direction = along - _ELLIPSE_GAIN * off * outward
        wanted = self._style.speed * direction / np.linalg.norm(direction)
        thrust = (wanted + _VELOCITY_GAIN * (wanted - pose.velocity)) / _TOP_SPEED
        error = _turn(np.arctan2(thrust[1], thrust[0]) - pose.heading)
        ahead = float(thrust @ np.array([np.cos(pose.heading), np.sin(pose.heading)]))
        return np.clip(np.array([ahead, _TURN_GAIN * error]), -1.0, 1.0)


def _turn(error: float) -> float:
    """Heading error as the turn to make [rad]: to the left where both ways are about equally long.

    A driver that turns either way gives logs with two answers to one situation, and their mean is neither.
    """
    return float((error + _LONGEST_RIGHT_TURN) % (2 * np.pi) - _LONGEST_RIGHT_TURN)


def circle_behaviour_style(rng: np.random.Generator) -> Style:
    """From narrow and slow to as wide as the circle and fast.

    Measured over 3 seeds of 200 episodes: return 3 to 58, cost 0 to 329; 33 to 46 % stay within a cost of 25,
    the best of them with a return of 40 to 44.
    """
    return Style(
        half_width=rng.uniform(0.5, 1.6),
        half_height=rng.uniform(0.8, 1.7),
        speed=rng.uniform(0.2, 1.45),
        noise=rng.uniform(0.0, 0.6),
        random_share=rng.uniform(0.0, 0.3),
    )


def circle_unsafe_style(rng: np.random.Generator) -> Style:
    """Wider than the rewarded circle and fast, so the walls at |x| = 1.125 m are crossed on every lap.

    Measured over 3 seeds of 36 episodes: return 38 to 54 (median 47), cost 191 to 305 (median 240).
    """
    return Style(
        half_width=rng.uniform(1.65, 1.95),
        half_height=rng.uniform(1.2, 1.45),
        speed=rng.uniform(1.0, 1.35),
        noise=rng.uniform(0.0, 0.3),
        random_share=rng.uniform(0.0, 0.05),
    )


_DRIVERS: dict[str, dict[str, tuple[DrawStyle, tuple[int, int]]]] = {
    "SafetyPointCircle1-v0": {
        "behaviour": (circle_behaviour_style, _CHANGING),
        "unsafe": (circle_unsafe_style, _STEADY),
    },
}


def demonstrator(task_id: str, driver: str, seed: int) -> Demonstrator:
    """The driver of one episode.

    Args:
        task_id: full task id.
        driver: "behaviour" or "unsafe".
        seed: of its style and noise.

    Raises:
        SaferuleError: no such driver for that task.
    """
    drivers = _DRIVERS.get(task_id)
    if drivers is None:
        raise SaferuleError(f"no scripted driver for task {task_id!r}", f"There is one for {', '.join(_DRIVERS)}")
    if driver not in drivers:
        raise SaferuleError(f"unknown driver {driver!r}", f"Choose one of {', '.join(DRIVERS)}")
    generator = np.random.default_rng(seed)
    return EllipseTracker(*drivers[driver], generator)
