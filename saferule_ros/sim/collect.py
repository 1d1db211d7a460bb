"""Collects seeded episodes of a driver, on several processes, as the dataset's episodes.

What was collected before it was stopped can be kept on disk: the same call goes on from there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.episode import Episode
from saferule_ros.dataset.errors import DatasetError
from saferule_ros.errors import SaferuleError
from saferule_ros.sim.behaviour import check_driver, demonstrate, prepare_drivers
from saferule_ros.sim.rollout import episode_seed, shared_environment
from saferule_ros.sim.tasks import task
from saferule_ros.sim.workers import map_in_order

Progress = Callable[[int, int], None]

# A kill without warning costs at most this much work [s].
SAVE_EVERY = 60.0


class CollectCancelled(SaferuleError):
    """It was told to stop."""


@dataclass(frozen=True)
class _Order:
    task_id: str
    driver: str
    seed: int
    bag_id: str


def collect(
    task_id: str,
    episodes: int,
    seed: int,
    driver: str = "behaviour",
    workers: int = 1,
    progress: Progress | None = None,
    bag_id: str = "simulated",
    kept: Path | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> list[Episode]:
    """Runs `episodes` episodes of a driver, which is learned first where that has to be (see prepare_drivers).

    Args:
        task_id: with or without version.
        episodes: how many, 1 or more.
        seed: of the whole run. Episode i depends on seed, driver and i alone: a longer run begins with the
            same episodes, and the number of workers changes nothing.
        driver: "behaviour" or "unsafe".
        workers: processes.
        progress: called with (episodes done, episodes) after each.
        bag_id: what the episodes say they come from.
        kept: a folder for what is done, now and then and when it is told to stop, and of no other collection; a call
            that finds episodes there goes on after them. To be removed once the result is saved.
        cancelled: asked after every episode.

    Raises:
        CollectCancelled: `cancelled()` became true.
        SaferuleError: unknown task or driver, no episodes, a worker died, what was kept is damaged.
    """
    if episodes < 1:
        raise SaferuleError(f"{episodes} episodes", "Choose 1 or more")
    full_id = task(task_id).id
    check_driver(full_id, driver)  # here, not in a worker
    prepare_drivers(full_id, workers)
    order = _Order(full_id, driver, seed, bag_id)
    result = _kept_before(kept)[:episodes]
    saved = time.monotonic()

    def save() -> None:
        if kept is not None:
            EpisodeDataset.from_episodes(result).save(kept)

    for episode in map_in_order(_collect_one, order, range(len(result), episodes), workers):
        result.append(episode)
        if progress is not None:
            progress(len(result), episodes)
        if len(result) < episodes and cancelled():
            save()
            hint = "Nothing was kept" if kept is None else "The same command goes on from there"
            raise CollectCancelled(f"cancelled after {len(result)} of {episodes} episodes", hint)
        if time.monotonic() - saved > SAVE_EVERY:
            save()
            saved = time.monotonic()
    return result


def _kept_before(kept: Path | None) -> list[Episode]:
    if kept is None or not kept.exists():
        return []
    try:
        dataset = EpisodeDataset.load(kept, mmap=False)
    except DatasetError as error:
        raise SaferuleError(error.what, f"Remove {kept}; its episodes are driven again then") from error
    return [dataset.episode(index) for index in range(dataset.episodes)]


def _collect_one(order: _Order, index: int) -> Episode:
    seed = episode_seed(order.seed, order.driver, index)
    run = demonstrate(shared_environment(order.task_id), order.driver, seed)
    return Episode(
        id=f"{order.driver}-{order.seed}-{index:04d}",
        bag_id=order.bag_id,
        observations=run.observations,
        actions=run.actions,
        rewards=run.rewards,
        costs=run.costs,
        terminated=run.terminated,
        truncated=run.truncated,
    )
