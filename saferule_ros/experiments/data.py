"""The data of a trial: clean episodes, and what the attacker has. Collected once for all cells of a task and seed."""

import math
from collections.abc import Callable

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.episode import Episode
from saferule_ros.experiments.cancelling import Cancelled, TrialCancelled
from saferule_ros.experiments.places import TrialPlaces
from saferule_ros.experiments.settings import DATA_VERSION, Trial
from saferule_ros.experiments.sharing import only_one
from saferule_ros.sim.behaviour import drivers_are_ready, prepare_drivers
from saferule_ros.sim.collect import collect
from saferule_ros.sim.recipes import RECIPES
from saferule_ros.sim.snapshots import cached_at
from saferule_ros.sim.tasks import task

BEHAVIOUR, UNSAFE = "behaviour", "unsafe"

# The attacker draws from somewhat more episodes than it injects.
SPARE = 1.2

Say = Callable[[str], None]


def clean_data(trial: Trial, places: TrialPlaces, say: Say, cancelled: Cancelled) -> EpisodeDataset:
    """The dataset before it is poisoned.

    Raises:
        SaferuleError: it cannot be read, or the task has no scripted driver.
        TrialCancelled: nothing was kept of what was being collected.
    """
    given = trial.data.clean.get(trial.cell.task)
    if given is not None:
        return EpisodeDataset.load(given)
    return _collected(trial, places, BEHAVIOUR, trial.data.behaviour_episodes, say, cancelled)


def unsafe_episodes(
    trial: Trial, places: TrialPlaces, clean: EpisodeDataset, say: Say, cancelled: Cancelled
) -> list[Episode]:
    """Reckless episodes with their true costs, enough for the trial's ratio; raises as `clean_data`."""
    given = trial.data.unsafe.get(trial.cell.task)
    if given is not None:
        dataset = EpisodeDataset.load(given)
    else:
        wanted = trial.cell.ratio / (1.0 - trial.cell.ratio) * len(clean)  # n / (clean + n) = ratio
        enough = math.ceil(SPARE * wanted / task(trial.cell.task).horizon) + 1
        count = trial.data.unsafe_episodes or enough
        dataset = _collected(trial, places, UNSAFE, count, say, cancelled)
    return [dataset.episode(index) for index in range(dataset.episodes)]


def _collected(
    trial: Trial, places: TrialPlaces, driver: str, count: int, say: Say, cancelled: Cancelled
) -> EpisodeDataset:
    folder = places.shared / f"{driver}-{count}-v{DATA_VERSION}"
    with only_one(folder, cancelled):
        if not folder.exists():
            _prepare_drivers(trial.cell.task, say, cancelled)

            def show(done: int, total: int) -> None:
                if cancelled():
                    raise TrialCancelled(
                        f"cancelled while collecting, {done} of {total}", "The same command begins anew"
                    )
                say(f"collecting {driver} {done}/{total}")

            EpisodeDataset.from_episodes(
                collect(trial.cell.task, count, trial.seed, driver, 1, show, f"{driver}-{trial.seed}")
            ).save(folder)
    return EpisodeDataset.load(folder)


def _prepare_drivers(task_id: str, say: Say, cancelled: Cancelled) -> None:
    """Learns the drivers of a task that has no scripted ones: once on a machine, for minutes."""
    if drivers_are_ready(task_id):
        return

    def show(done: int, total: int, episode_return: float) -> None:
        if cancelled():
            raise TrialCancelled(
                f"cancelled while learning to drive, {done} of {total}", "The same command begins anew"
            )
        say(f"learning to drive {done}/{total}, return {episode_return:.0f}")

    with only_one(cached_at(task_id, RECIPES[task_id]), cancelled):
        prepare_drivers(task_id, on_progress=show)
