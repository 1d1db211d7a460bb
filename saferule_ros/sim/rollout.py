"""One episode in the simulator, whoever drives it."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saferule_ros.sim.environment import SafetyEnvironment

# A policy: observation float32 (O,) in, action float32 (A,) out.
Act = Callable[[NDArray[np.float32]], NDArray[Any]]


@dataclass(frozen=True)
class Trajectory:
    """An episode of T steps.

    Attributes:
        seed: the environment's seed.
        observations: float32 (T+1, O), the final one included.
        actions: float32 (T, A).
        rewards, costs: float32 (T,).
        terminated, truncated: how it ended.
        path: where the robot was, x and y [m], float64 (T+1, 2); (0, 2) where the task has no plane.
    """

    seed: int
    observations: NDArray[np.float32]
    actions: NDArray[np.float32]
    rewards: NDArray[np.float32]
    costs: NDArray[np.float32]
    terminated: bool
    truncated: bool
    path: NDArray[np.float64]


@functools.cache
def shared_environment(task_id: str) -> SafetyEnvironment:
    """One environment per process and task: building one costs more than resetting it."""
    return SafetyEnvironment(task_id)


def episode_seed(seed: int, driver: str, index: int) -> int:
    """Seed of episode `index` of a run: depends on nothing else, so any worker can do any episode."""
    text = f"{seed}/{driver}/{index}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:4], "little")


def roll_out(environment: SafetyEnvironment, act: Act, seed: int) -> Trajectory:
    """Runs `act` from reset(seed) to the end of the episode."""
    observations = [environment.reset(seed)]
    actions, rewards, costs, path = [], [], [], [environment.position()]
    while True:
        action = np.asarray(act(observations[-1]), np.float32)
        step = environment.step(action)
        observations.append(step.observation)
        actions.append(action)
        rewards.append(step.reward)
        costs.append(step.cost)
        path.append(environment.position())
        if step.done:
            break
    positions = np.array([p for p in path if p is not None], np.float64).reshape(-1, 2)
    return Trajectory(
        seed,
        np.stack(observations),
        np.stack(actions),
        np.array(rewards, np.float32),
        np.array(costs, np.float32),
        step.terminated,
        step.truncated,
        positions,
    )
