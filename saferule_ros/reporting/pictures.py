"""One picture of each policy's path, drawn on what the simulator's camera sees."""

from __future__ import annotations

import io
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from saferule_ros.reporting.results import DemoResults, EpisodeOutcome, Evaluation
from saferule_ros.reporting.wording import number

if TYPE_CHECKING:
    from saferule_ros.sim.environment import SafetyEnvironment


@dataclass(frozen=True)
class PathPicture:
    """A picture (PNG file content), what it shows for those who do not see it, and what stands below it."""

    png: bytes
    alt: str
    caption: str


def draw_paths(results: DemoResults) -> list[PathPicture]:
    """For each policy that was evaluated, the path of the episode with the median cost.

    Raises:
        PictureError: this machine has no EGL.
        SimulatorMissingError, UnknownTaskError: the simulator or the task is not there.
    """
    from saferule_ros.sim.environment import SafetyEnvironment

    shown = [(evaluation, episode) for evaluation in _once_per_policy(results.evaluations)
             if (episode := typical_episode(evaluation)) is not None]  # fmt: skip
    if not shown:
        return []
    environment = SafetyEnvironment(results.task)
    try:
        return [_picture(environment, evaluation, episode) for evaluation, episode in shown]
    finally:
        environment.close()


def typical_episode(evaluation: Evaluation) -> EpisodeOutcome | None:
    """Of the episodes whose path was recorded, the one with the (lower) median cost."""
    recorded = [episode for episode in evaluation.episodes if len(episode.path) > 1]
    if not recorded:
        return None
    median = statistics.median_low(episode.episode_cost for episode in recorded)
    return next(episode for episode in recorded if episode.episode_cost == median)


def _once_per_policy(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    first: dict[str, Evaluation] = {}
    for evaluation in evaluations:
        first.setdefault(evaluation.policy_id, evaluation)
    return list(first.values())


def _picture(environment: SafetyEnvironment, evaluation: Evaluation, episode: EpisodeOutcome) -> PathPicture:
    from PIL import Image

    from saferule_ros.sim.rendering import path_picture

    environment.reset(episode.seed)
    path = np.asarray(episode.path, np.float64)
    cost = f"cost {number(episode.episode_cost, 0)}"
    image = path_picture(environment, path, _step_costs(environment, episode, path), legend=False)
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="PNG", optimize=True)
    return PathPicture(
        file.getvalue(),
        f"Path of the policy {evaluation.heading} over the ground, seen from above: {cost}, "
        f"return {number(episode.episode_return)}; steps that cost something are drawn in orange.",
        f"{evaluation.heading[0].upper()}{evaluation.heading[1:]}: {cost}, return {number(episode.episode_return)} "
        f"({episode.episode_id})",
    )


def _step_costs(
    environment: SafetyEnvironment, episode: EpisodeOutcome, path: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Cost of each step (T,): as recorded; otherwise 1 wherever the robot is behind a wall, for the colour alone."""
    if len(episode.step_costs) == len(path) - 1:
        return np.asarray(episode.step_costs, np.float64)
    beyond = np.zeros(len(path) - 1, np.bool_)
    for axis, limit in enumerate(environment.walls()):
        if limit is not None:
            beyond |= np.abs(path[1:, axis]) > limit
    return beyond.astype(np.float64)
