"""Drives a robot of a velocity task by policies that random search found, well or badly. [ours]"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from saferule_ros.errors import SaferuleError
from saferule_ros.sim.environment import SafetyEnvironment
from saferule_ros.sim.recipes import CONTROLLERS, RECIPES, Style
from saferule_ros.sim.snapshots import Snapshots, cached_at
from saferule_ros.sim.tasks import DEFAULT_COST_LIMIT

_NOISE_MEMORY = 0.9  # share of the noise that stays from one step to the next

# An unsafe driver's policies cost at least so many times the limit, and earn more than half of those that do.
_FAR_OVER = 4.0


# It sticks to them.
_UNSAFE_STYLE = Style(1.0, 0.05, 0.01)


class LearnedDriver:
    """One episode's driver; see Demonstrator.

    Args:
        snapshots: policies to choose from.
        driver: "behaviour": a safe policy or an unsafe one, see Style; "unsafe": one that earns and costs much.
        style: of "behaviour".
        generator: of all its randomness.
    """

    def __init__(self, snapshots: Snapshots, driver: str, style: Style, generator: np.random.Generator) -> None:
        most = _UNSAFE_STYLE if driver == "unsafe" else style
        chosen = int(generator.choice(_candidates(snapshots, driver, style.unsafe_share, generator)))
        self._controller = CONTROLLERS[snapshots.controller](snapshots.parameters[chosen])
        self._mean, self._std = snapshots.mean[chosen], snapshots.std[chosen]
        self._strength = generator.uniform(most.weakest, 1.0)
        self._noise_size = generator.uniform(0.0, most.noise)
        self._random_share = generator.uniform(0.0, most.random_share)
        self._generator, self._noise, self._step = generator, 0.0, 0

    def act(self, environment: SafetyEnvironment) -> NDArray[np.float32]:
        """See Demonstrator."""
        rng, size = self._generator, environment.task.action_size
        # Drawn on every step, used or not: what happens then never shifts the random numbers of later steps.
        fresh, random_action, dice = rng.standard_normal(size), rng.uniform(-1.0, 1.0, size), rng.random()
        self._noise = _NOISE_MEMORY * self._noise + np.sqrt(1 - _NOISE_MEMORY**2) * self._noise_size * fresh
        steered = self._controller.act((environment.observation - self._mean) / self._std, self._step)
        self._step += 1
        action = random_action if dice < self._random_share else self._strength * steered + self._noise
        return np.clip(action, -1.0, 1.0).astype(np.float32)


def _candidates(
    snapshots: Snapshots, driver: str, unsafe_share: float, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Indices of the policies that an episode's is drawn from."""
    costs, returns = snapshots.costs, snapshots.returns
    if driver == "unsafe":
        far_over = np.flatnonzero(costs > _FAR_OVER * DEFAULT_COST_LIMIT)
        if not len(far_over):
            far_over = np.array([int(costs.argmax())])
        return far_over[returns[far_over] >= np.median(returns[far_over])]
    safe = costs <= DEFAULT_COST_LIMIT
    wanted = np.flatnonzero(safe == (generator.random() < 1.0 - unsafe_share))
    return wanted if len(wanted) else np.arange(len(costs))


def learned_driver(task_id: str, driver: str, generator: np.random.Generator) -> LearnedDriver:
    """The driver of one episode, with policies from the cache.

    Raises:
        SaferuleError: they were not learned yet.
    """
    path = cached_at(task_id, RECIPES[task_id])
    if not path.exists():
        raise SaferuleError(
            f"the drivers of {task_id} have not been learned on this machine",
            f"Run `saferule collect {task_id}` once: it learns them, which takes minutes, and keeps them in "
            f"{path.parent}",
        )
    return LearnedDriver(_loaded(path), driver, RECIPES[task_id].style, generator)


@functools.cache
def _loaded(path: Path) -> Snapshots:
    """Once per process, not once per episode."""
    return Snapshots.load(path)
