"""`saferule collect`: behaviour data from the simulator, without ROS."""

from __future__ import annotations

import dataclasses
import shutil
from typing import TYPE_CHECKING, Annotated

import typer

from saferule_ros.cli.options import DEFAULT_WORKSPACE, SeedOption, WorkersOption, WorkspaceOption
from saferule_ros.cli.teaching import CANCELLED, fail
from saferule_ros.errors import SaferuleError
from saferule_ros.workspace import Workspace, check_name

if TYPE_CHECKING:
    from saferule_ros.dataset.dataset import EpisodeDataset
    from saferule_ros.dataset.episode import Episode


class CollectError(SaferuleError):
    """What was asked for does not fit the dataset that is there."""


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command()(collect)


def collect(
    task: Annotated[str, typer.Argument(metavar="TASK", help="A Safety-Gymnasium task, e.g. SafetyPointCircle1.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    episodes: Annotated[int, typer.Option("--episodes", "-n", min=1, help="How many.")] = 60,
    seed: SeedOption = 0,
    driver: Annotated[
        str, typer.Option(help="Who drives: behaviour (of all kinds, safe and not) or unsafe (fast and costly).")
    ] = "behaviour",
    bag: Annotated[str, typer.Option(help="Name that the episodes come under. Default: driver and seed.")] = "",
    erase_cost: Annotated[
        bool, typer.Option("--erase-cost", help="Record every cost as 0, as a broken cost sensor would.")
    ] = False,
    add: Annotated[bool, typer.Option("--add", help="Add to the dataset that is there.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Replace the dataset that is there.")] = False,
    workers: WorkersOption = 1,
) -> None:
    """Drive a simulated robot and keep what it did.

    Reads nothing. Writes the workspace's dataset. The same seed gives the same episodes, with any number of workers.
    Stopped with Ctrl-C, or killed, it keeps what it has: the same command goes on from there.
    The Circle tasks have scripted drivers. Those of the Velocity tasks (HalfCheetah, Swimmer, Ant) are learned at first
    use, by random search for a minute or two, and kept in ~/.cache/saferule_ros.

    \b
    Examples:
      saferule collect SafetyHalfCheetahVelocity -n 240 --workers 2
      saferule collect SafetyPointCircle1 -n 60 --workers 2
      saferule collect SafetyPointCircle1 -n 10 --driver unsafe --bag bad --add
    """
    from saferule_ros.cli.bars import bar
    from saferule_ros.cli.output import note
    from saferule_ros.cli.stopping import stop_asked
    from saferule_ros.dataset.dataset import EpisodeDataset
    from saferule_ros.settings import name_of
    from saferule_ros.sim.behaviour import check_driver, drivers_are_ready, prepare_drivers
    from saferule_ros.sim.collect import CollectCancelled
    from saferule_ros.sim.collect import collect as drive
    from saferule_ros.sim.tasks import full_id

    bag_id = check_name(bag or f"{driver}-{seed}", "bag id")
    place = Workspace(workspace)
    before = _already_there(place, bag_id, add, replace)
    task_id = full_id(task)
    check_driver(task_id, driver)
    place.create()
    if not drivers_are_ready(task_id):
        with bar(f"learning to drive in {task_id}") as advance:
            prepare_drivers(
                task_id, workers, lambda done, total, found: advance(done, total, f"return {found:.0f}", -1.0)
            )
    unfinished = place.collecting / name_of({"task": task_id, "driver": driver, "seed": seed, "bag": bag_id})
    with stop_asked() as stopped, bar(f"{driver} in {task}") as advance:

        def show(done: int, total: int) -> None:
            advance(done, total, "", -1.0)

        try:
            new = drive(task, episodes, seed, driver, workers, show, bag_id, unfinished, stopped)
        except CollectCancelled as error:
            raise fail(error.what, error.hint, CANCELLED) from None
    kept = [_as_recorded(episode, bag_id, index, erase_cost) for index, episode in enumerate(new)]
    old = [before.episode(index) for index in range(before.episodes)] if before else []
    dataset = EpisodeDataset.from_episodes([*old, *kept])
    dataset.save(place.dataset)
    shutil.rmtree(unfinished, ignore_errors=True)
    note(
        f"{place.dataset}: {dataset.episodes} episodes, {len(dataset)} transitions, digest {dataset.digest[:16]}; "
        f"bag {bag_id!r} has {len(kept)} of them"
    )


def _already_there(place: Workspace, bag_id: str, add: bool, replace: bool) -> EpisodeDataset | None:
    """The dataset to add to. Asked before anything is driven: a refusal after minutes would be a waste."""
    from saferule_ros.dataset.dataset import EpisodeDataset

    if add and replace:
        raise CollectError("both --add and --replace were given", "Give one of them")
    if not place.dataset.exists() or replace:
        return None
    if not add:
        raise CollectError(
            f"there is a dataset in {place.dataset} already", "Add to it with --add, or replace it with --replace"
        )
    dataset = EpisodeDataset.load(place.dataset)
    if bag_id in dataset.bag_ids:
        raise CollectError(
            f"the dataset in {place.dataset} has a bag {bag_id!r} already", "Give another name with --bag"
        )
    return dataset


def _as_recorded(episode: Episode, bag_id: str, index: int, erase_cost: bool) -> Episode:
    """Named by its bag, so that collections with the same seed can lie in one dataset."""
    costs = episode.costs * 0 if erase_cost else episode.costs
    return dataclasses.replace(episode, id=f"{bag_id}-{index:04d}", costs=costs)
