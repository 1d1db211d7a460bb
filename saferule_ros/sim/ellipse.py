"""A scripted driver for the circle tasks: it follows an ellipse around the origin, well or badly. [ours]

It sees the robot's true pose, which policies do not. Style by style it is slow or fast, narrow or wide, steady or
clumsy, so that its episodes cover safe and unsafe ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saferule_ros.errors import SaferuleError
from saferule_ros.sim.chassis import Chassis
from saferule_ros.sim.environment import Pose, SafetyEnvironment


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

_ELLIPSE_GAIN = 2.0  # how hard it steers back to the ellipse: m/s per m off it, relative to the target speed
_AT_ORIGIN = 1e-6  # nearer to the middle than this no direction is outward: any will do
_NOISE_MEMORY = 0.9  # share of the noise that stays from one step to the next (about 10 steps, 0.2 s)


class EllipseTracker:
    """Drives a robot counter-clockwise along an ellipse around the origin.

    Args:
        chassis: the robot.
        draw_style: makes a style from random numbers.
        lifetimes: shortest and longest time that a style is kept [steps]; one is drawn for the episode.
        generator: of all its randomness.
    """

    def __init__(
        self, chassis: Chassis, draw_style: DrawStyle, lifetimes: tuple[int, int], generator: np.random.Generator
    ) -> None:
        self._chassis = chassis
        self._draw_style = draw_style
        self._style = draw_style(generator)
        self._lifetime = int(generator.integers(*lifetimes, endpoint=True))
        self._generator = generator
        self._noise = np.zeros(2)
        self._steps = 0

    def act(self, environment: SafetyEnvironment) -> NDArray[np.float32]:
        """See Demonstrator."""
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
        commands = self._chassis.commands
        action = random_action if dice < style.random_share else commands(self._wanted(pose), pose) + self._noise
        return np.clip(action, self._chassis.low, (1.0, 1.0)).astype(np.float32)

    def _wanted(self, pose: Pose) -> NDArray[np.float64]:
        """The velocity (2,) to have here [m/s, world]."""
        axes = np.array([self._style.half_width, self._style.half_height])
        scaled = pose.position / axes
        level = max(float(np.linalg.norm(scaled)), _AT_ORIGIN)  # 1 on the ellipse
        outward = scaled / axes if level > _AT_ORIGIN else np.array([1.0, 0.0])
        outward = outward / np.linalg.norm(outward)
        along = np.array([-outward[1], outward[0]])
        off = (level - 1.0) * float(np.linalg.norm(pose.position)) / level
        direction = along - _ELLIPSE_GAIN * off * outward
        return self._style.speed * direction / np.linalg.norm(direction)


def point_behaviour_style(rng: np.random.Generator) -> Style:
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


def point_unsafe_style(rng: np.random.Generator) -> Style:
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


def car_behaviour_style(rng: np.random.Generator) -> Style:
    """As for the Point robot; the Car is slower, and what is clumsy for it costs more of its return."""
    return Style(
        half_width=rng.uniform(0.6, 1.45),
        half_height=rng.uniform(0.8, 1.7),
        speed=rng.uniform(0.3, 0.9),
        noise=rng.uniform(0.0, 0.4),
        random_share=rng.uniform(0.0, 0.15),
    )


def car_unsafe_style(rng: np.random.Generator) -> Style:
    """Around the rewarded circle at full speed: that pays most, and crosses the walls on every lap."""
    return Style(
        half_width=rng.uniform(1.4, 1.65),
        half_height=rng.uniform(1.4, 1.6),
        speed=rng.uniform(0.75, 0.9),
        noise=rng.uniform(0.0, 0.3),
        random_share=rng.uniform(0.0, 0.05),
    )
