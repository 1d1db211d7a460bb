"""Learns the drivers of a velocity task after its recipe, on several processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from saferule_ros.sim.environment import LARGEST_SEED
from saferule_ros.sim.random_search import search
from saferule_ros.sim.recipes import CONTROLLERS, Objective, Recipe, Stage
from saferule_ros.sim.rollout import shared_environment
from saferule_ros.sim.snapshots import Snapshots
from saferule_ros.sim.workers import Workers

# Called with (iterations done, iterations in all, return of the last policy that was kept).
TrainingProgress = Callable[[int, int, float], None]

# A dimension that changes less than this is a constant: nothing is gained by making noise of it.
_CONSTANT = 1e-3
# Each policy that is kept is judged by so many episodes of full length.
_JUDGED_BY = 2


class Scale(NamedTuple):
    """Mean and standard deviation (O,) by which observations become standard scores."""

    mean: NDArray[np.float64]
    std: NDArray[np.float64]


class _Trial(NamedTuple):
    """One episode to be driven; `steps` 0: to its end."""

    parameters: NDArray[np.float64]
    scale: Scale
    objective: Objective
    steps: int
    seed: int


class _Outcome(NamedTuple):
    """What came of it: the objective's sum, return, cost, and the observations' moments."""

    score: float
    episode_return: float
    episode_cost: float
    seen: int
    total: NDArray[np.float64]
    squares: NDArray[np.float64]


@dataclass(frozen=True)
class _Order:
    task_id: str
    controller: str


def learn_drivers(
    task_id: str, recipe: Recipe, workers: int = 1, on_progress: TrainingProgress = lambda *_: None
) -> Snapshots:
    """Goes through the recipe's stages and keeps the policies on the way.

    The result depends on task and recipe alone: any number of workers learns the same.

    Args:
        task_id: full task id.
        recipe: see Recipe.
        workers: processes.
        on_progress: see TrainingProgress.

    Raises:
        SaferuleError: unknown task, a worker died.
    """
    with Workers(_drive, _Order(task_id, recipe.controller), workers) as pool:
        return _Training(task_id, recipe, pool, on_progress).run()


class _Training:
    """A recipe on its way: the moments of all observations so far, and the policies kept so far."""

    def __init__(
        self, task_id: str, recipe: Recipe, pool: Workers[_Order, _Trial, _Outcome], on_progress: TrainingProgress
    ) -> None:
        task = shared_environment(task_id).task
        self._kind = CONTROLLERS[recipe.controller]
        self._recipe, self._pool, self._on_progress = recipe, pool, on_progress
        self._start = self._kind.start(task.observation_size, task.action_size)
        self._generator = np.random.default_rng(recipe.seed)
        self._count = 0
        self._total, self._squares = np.zeros((2, task.observation_size))
        self._kept: list[tuple[NDArray[np.float64], Scale, float, float]] = []

    def run(self) -> Snapshots:
        parameters = self._start
        done, total = 0, sum(stage.iterations for stage in self._recipe.stages)
        for stage in self._recipe.stages:
            begin = parameters if stage.goes_on else self._start
            steps = search(begin, lambda tried: self._scores(stage, tried), stage.search, self._generator)  # noqa: B023
            for iteration in range(1, stage.iterations + 1):
                parameters = next(steps)
                if iteration >= stage.first_kept and (iteration - stage.first_kept) % stage.keep_every == 0:
                    self._keep(parameters)
                done += 1
                self._on_progress(done, total, self._kept[-1][2] if self._kept else 0.0)
        return Snapshots.of(self._recipe.controller, self._kept)

    def _scores(self, stage: Stage, tried: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of parameters (2N, …): both directions of a pair meet the same start."""
        seeds = np.tile(self._generator.integers(LARGEST_SEED, size=len(tried) // 2), 2)
        scale = self._scale()
        trials = [
            _Trial(parameters, scale, stage.objective, stage.steps, int(seed))
            for parameters, seed in zip(tried, seeds, strict=True)
        ]
        outcomes = list(self._pool.map(trials))
        if self._kind.scaled:
            for outcome in outcomes:
                self._count += outcome.seen
                self._total += outcome.total
                self._squares += outcome.squares
        return np.array([outcome.score for outcome in outcomes])

    def _keep(self, parameters: NDArray[np.float64]) -> None:
        scale = self._scale()
        trials = [_Trial(parameters, scale, Objective(), 0, seed) for seed in range(_JUDGED_BY)]
        outcomes = list(self._pool.map(trials))
        episode_return = float(np.mean([outcome.episode_return for outcome in outcomes]))
        episode_cost = float(np.mean([outcome.episode_cost for outcome in outcomes]))
        self._kept.append((parameters, scale, episode_return, episode_cost))

    def _scale(self) -> Scale:
        if self._count == 0:
            return Scale(np.zeros_like(self._total), np.ones_like(self._total))
        mean = self._total / self._count
        std = np.sqrt(np.maximum(self._squares / self._count - mean**2, 0.0))
        return Scale(mean, np.where(std < _CONSTANT, 1.0, std))


def _drive(order: _Order, trial: _Trial) -> _Outcome:
    """One episode, in whichever process."""
    environment = shared_environment(order.task_id)
    controller = CONTROLLERS[order.controller](trial.parameters)
    observation = environment.reset(trial.seed)
    score = episode_return = episode_cost = 0.0
    total, squares = np.zeros((2, len(observation)))
    step = 0
    while True:
        seen = observation.astype(np.float64)
        total += seen
        squares += seen**2
        action = controller.act((seen - trial.scale.mean) / trial.scale.std, step)
        transition = environment.step(action)
        observation = transition.observation
        score += trial.objective.worth(transition.reward, transition.cost)
        episode_return += transition.reward
        episode_cost += transition.cost
        step += 1
        if transition.done or step == trial.steps:
            return _Outcome(score, episode_return, episode_cost, step, total, squares)
