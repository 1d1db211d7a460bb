"""Who makes the data to learn from, task by task: scripted drivers, and learned ones where no script is known. [ours]

"behaviour" varies from episode to episode between good and bad, slow and fast, so that its episodes cover safe and
unsafe ones. "unsafe" is the demonstrator whose logs are worth forgetting: much return, through much cost.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from saferule_ros.errors import SaferuleError
from saferule_ros.sim.chassis import CAR, POINT
from saferule_ros.sim.driver_training import TrainingProgress, learn_drivers
from saferule_ros.sim.ellipse import (
    EllipseTracker,
    car_behaviour_style,
    car_unsafe_style,
    point_behaviour_style,
    point_unsafe_style,
)
from saferule_ros.sim.environment import SafetyEnvironment
from saferule_ros.sim.learned_driver import learned_driver
from saferule_ros.sim.recipes import RECIPES
from saferule_ros.sim.rollout import Trajectory, roll_out
from saferule_ros.sim.snapshots import cached_at

DRIVERS = ("behaviour", "unsafe")


class Demonstrator(Protocol):
    """Chooses actions (A,) float32 for one episode; all its randomness comes from one seed."""

    def act(self, environment: SafetyEnvironment) -> NDArray[np.float32]:
        """The action for the environment's present true state."""


# A driver changes its mind within an episode, or not: the changes show how to get from wide and fast back to
# narrow and slow. Without them no log tells how to turn in where a policy finds itself too far out. [steps]
_CHANGING = (100, 700)
_STEADY = (1_000_000, 1_000_000)  # longer than any episode

_SCRIPTED: dict[str, dict[str, Callable[[np.random.Generator], Demonstrator]]] = {
    "SafetyPointCircle1-v0": {
        "behaviour": partial(EllipseTracker, POINT, point_behaviour_style, _CHANGING),
        "unsafe": partial(EllipseTracker, POINT, point_unsafe_style, _STEADY),
    },
    "SafetyCarCircle1-v0": {
        "behaviour": partial(EllipseTracker, CAR, car_behaviour_style, _CHANGING),
        "unsafe": partial(EllipseTracker, CAR, car_unsafe_style, _STEADY),
    },
}


# Tells the random numbers of a driver from those of its environment, where both begin with the same seed.
_OF_DRIVER = 1

# Every task that can be driven.
DRIVEN_TASKS = (*_SCRIPTED, *RECIPES)


def demonstrator(task_id: str, driver: str, seed: int) -> Demonstrator:
    """The driver of one episode.

    Args:
        task_id: full task id.
        driver: "behaviour" or "unsafe".
        seed: of its style and noise.

    Raises:
        SaferuleError: no such driver for that task, or it must be learned first (see prepare_drivers).
    """
    check_driver(task_id, driver)
    if task_id in RECIPES:
        # Gymnasium's MuJoCo tasks draw the initial state from default_rng(seed) itself: with the same numbers the first
        # observation would tell how the driver drives.
        return learned_driver(task_id, driver, np.random.default_rng([seed, _OF_DRIVER]))
    return _SCRIPTED[task_id][driver](np.random.default_rng(seed))


def demonstrate(environment: SafetyEnvironment, driver: str, seed: int) -> Trajectory:
    """One episode of a driver ("behaviour" or "unsafe"); all of it follows from the seed."""
    who = demonstrator(environment.task.id, driver, seed)
    return roll_out(environment, lambda _: who.act(environment), seed)


def check_driver(task_id: str, driver: str) -> None:
    """Raises SaferuleError where there is no such driver for that task."""
    if task_id not in DRIVEN_TASKS:
        raise SaferuleError(f"no driver for task {task_id!r}", f"There is one for {', '.join(DRIVEN_TASKS)}")
    if driver not in DRIVERS:
        raise SaferuleError(f"unknown driver {driver!r}", f"Choose one of {', '.join(DRIVERS)}")


def drivers_are_ready(task_id: str) -> bool:
    """Whether a task's drivers need not be learned first: scripted ones, or learned ones that are in the cache."""
    return task_id not in RECIPES or cached_at(task_id, RECIPES[task_id]).exists()


def prepare_drivers(task_id: str, workers: int = 1, on_progress: TrainingProgress = lambda *_: None) -> None:
    """Learns the drivers of a task, unless they are ready: once, for minutes.

    Args:
        task_id: full task id.
        workers: processes.
        on_progress: see TrainingProgress; not called where there is nothing to learn.
    """
    if not drivers_are_ready(task_id):
        recipe = RECIPES[task_id]
        learn_drivers(task_id, recipe, workers, on_progress).save(cached_at(task_id, recipe))
