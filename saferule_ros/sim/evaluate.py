"""What a policy really costs and earns: episodes in the simulator, seeded, on several processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saferule_ros.errors import SaferuleError
from saferule_ros.sim.rollout import Act, episode_seed, roll_out, shared_environment
from saferule_ros.sim.tasks import task
from saferule_ros.sim.workers import map_in_order

# Which starts an evaluation with a seed uses: never those of data that was collected with the same seed.
_PURPOSE = "evaluation"


@dataclass(frozen=True)
class EpisodeResult:
    """One evaluated episode.

    Attributes:
        seed: the environment's: reset(seed) gives the same start again.
        episode_return, episode_cost: sums over the episode, undiscounted.
        length: steps, T.
        path: world x, y [m], float64 (T+1, 2); (0, 2) for tasks without a planar robot.
        costs: of each step, float32 (T,).
    """

    seed: int
    episode_return: float
    episode_cost: float
    length: int
    path: NDArray[np.float64]
    costs: NDArray[np.float32]


class Lazily:
    """A policy that each process builds for itself on first use, for one that cannot be sent (ONNX).

    Args:
        factory: a module-level function or class that returns an Act, called with `arguments`.
    """

    def __init__(self, factory: Callable[..., Act], *arguments: Any) -> None:
        self._factory, self._arguments = factory, arguments
        self._act: Act | None = None

    def __call__(self, observation: NDArray[np.float32]) -> NDArray[Any]:
        if self._act is None:
            self._act = self._factory(*self._arguments)
        return self._act(observation)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_act": None}


def evaluate(
    act: Act,
    task_id: str,
    episodes: int,
    seed: int,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> list[EpisodeResult]:
    """Runs a policy for `episodes` episodes.

    Args:
        act: observation float32 (O,) to action (A,). For more than one worker it is sent to other processes:
            see Lazily for policies that cannot be.
        task_id: with or without version.
        episodes: how many, 1 or more.
        seed: of the evaluation. Episode i starts the same for every policy and number of workers.
        workers: processes.
        progress: called with (episodes done, episodes) after each.

    Raises:
        SaferuleError: unknown task, no episodes, a policy that cannot be sent, a worker died.
        ActionError: the policy gave an action of the wrong size, not finite or out of bounds.
    """
    if episodes < 1:
        raise SaferuleError(f"{episodes} episodes", "Choose 1 or more")
    seeds = [episode_seed(seed, _PURPOSE, index) for index in range(episodes)]
    results: list[EpisodeResult] = []
    for result in map_in_order(_evaluate_one, (act, task(task_id).id), seeds, workers):
        results.append(result)
        if progress is not None:
            progress(len(results), episodes)
    return results


def _evaluate_one(policy: tuple[Act, str], seed: int) -> EpisodeResult:
    act, task_id = policy
    run = roll_out(shared_environment(task_id), act, seed)
    episode_return, episode_cost = (float(a.sum(dtype=np.float64)) for a in (run.rewards, run.costs))
    return EpisodeResult(seed, episode_return, episode_cost, len(run.costs), run.path, run.costs)
