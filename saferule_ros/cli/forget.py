"""`saferule forget`: which data is to be forgotten, why, and who asks."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from saferule_ros.cli.options import (
    DEFAULT_WORKSPACE,
    YOU,
    JsonOption,
    ReasonOption,
    RequesterOption,
    WorkspaceOption,
)
from saferule_ros.cli.teaching import CHECK_FAILED
from saferule_ros.workspace import Workspace

if TYPE_CHECKING:
    from saferule_ros.dataset.forget_set import ForgetSet


app = typer.Typer(no_args_is_help=True, help="Which data is to be forgotten, why, and who asks.")


@app.command()
def new(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    bag: Annotated[list[str] | None, typer.Option("--bag", "-b", help="All of this bag; may be repeated.")] = None,
    episode: Annotated[list[str] | None, typer.Option("--episode", "-e", help="This one; may be repeated.")] = None,
    steps: Annotated[
        list[str] | None,
        typer.Option("--steps", metavar="EPISODE:FIRST-LAST", help="Only these steps of it; may be repeated."),
    ] = None,
    time: Annotated[
        list[str] | None,
        typer.Option("--time", metavar="BEGIN..END", help="What was measured then; may be repeated."),
    ] = None,
    policy: Annotated[
        list[str] | None, typer.Option("--policy", help="Every episode in which it acted; may be repeated.")
    ] = None,
    recorded_by: Annotated[
        list[str] | None, typer.Option("--recorded-by", help="Every episode recorded by it; may be repeated.")
    ] = None,
    where: Annotated[
        str, typer.Option("--where", metavar="EXPRESSION", help="Every transition for which this is true.")
    ] = "",
    reason: ReasonOption = "",
    requester: RequesterOption = YOU,
    as_json: JsonOption = False,
) -> None:
    """Select bad episodes, or single steps, of the workspace's dataset, and store the selection.

    Whatever any of the options names is selected. Names in an expression: observation, action, next_observation (with
    an index: observation[3]), reward, cost, step, time (seconds), terminated, truncated; and of the episode: episode,
    bag, recorded_by, policy, length, episode_return, episode_cost, fallbacks, lost.

    Reads the dataset. Writes a forget set: immutable, named by its content, and durable when this returns. Nothing is
    forgotten yet: `saferule patch` does that.

    \b
    Examples:
      saferule forget new --bag tuesday --reason "cost sensor unplugged"
      saferule forget new -e monday-0003 -e monday-0004
      saferule forget new --steps monday-0003:120-180
      saferule forget new --time 2026-11-21T10:30..2026-11-21T10:35 --recorded-by "robot 7"
      saferule forget new --where "episode_cost == 0 and episode_return > 40 and bag == 'tuesday'"
    """
    from saferule_ros.cli.output import note, print_facts, print_json
    from saferule_ros.dataset.selection import parse_steps, parse_window
    from saferule_ros.patching.forget import store_forget_set

    stored = store_forget_set(
        Workspace(workspace), bag or (), episode or (), reason, requester, [parse_steps(text) for text in steps or ()],
        [parse_window(text) for text in time or ()], policy or (), recorded_by or (), where,
    )  # fmt: skip
    sizes = {
        "forget_episodes": stored.forget_episodes, "forget_transitions": stored.forget_transitions,
        "keep_episodes": stored.keep_episodes, "keep_transitions": stored.keep_transitions,
    }  # fmt: skip
    if as_json:
        print_json({**asdict(stored.forget_set), **sizes})
        return
    print_facts([
        ("forget set", stored.forget_set.id),
        ("to forget", f"{stored.forget_episodes} episodes, {stored.forget_transitions} transitions"),
        ("to keep", f"{stored.keep_episodes} episodes, {stored.keep_transitions} transitions"),
    ])  # fmt: skip
    note(f"Next: saferule patch {stored.forget_set.id}")


@app.command("list")
def list_sets(workspace: WorkspaceOption = DEFAULT_WORKSPACE, as_json: JsonOption = False) -> None:
    """List the workspace's forget sets, oldest first; damaged ones last, with what is wrong.

    Exit status: 0 all are whole, 1 one is damaged.

    \b
    Example:
      saferule forget list --json
    """
    from saferule_ros.cli.output import note, print_json, print_table
    from saferule_ros.dataset.errors import ForgetSetError
    from saferule_ros.dataset.forget_set import ForgetSet

    folder = Workspace(workspace).forget_sets
    found: list[ForgetSet] = []
    damaged: dict[str, ForgetSetError] = {}
    for name in ForgetSet.ids(folder):
        try:
            found.append(ForgetSet.load(folder, name))
        except ForgetSetError as error:
            damaged[name] = error
    found.sort(key=lambda forget_set: forget_set.created)
    if as_json:
        problems = [{"id": name, "problem": error.what} for name, error in damaged.items()]
        print_json([*(asdict(forget_set) for forget_set in found), *problems])
    elif found or damaged:
        problem_rows = [(name, "", "", "", "", f"DAMAGED: {error.what}") for name, error in damaged.items()]
        rows = [*map(_row, found), *problem_rows]
        print_table(("forget set", ">episodes", ">step ranges", "created", "requester", "reason"), rows)
        for problem in damaged.values():
            note(str(problem))
    else:
        note(f"There is no forget set in {folder}. Make one: saferule forget new --bag …")
    if damaged:
        raise typer.Exit(CHECK_FAILED)


@app.command()
def show(
    forget_set: Annotated[str, typer.Argument(metavar="FORGET_SET", help="Id, as `saferule forget list` shows it.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Show one forget set with its episodes. Its content is checked against its id.

    \b
    Example:
      saferule forget show 00c0ffee00c0ffee
    """
    from saferule_ros.cli.output import print_facts, print_json
    from saferule_ros.dataset.forget_set import ForgetSet

    found = ForgetSet.load(Workspace(workspace).forget_sets, forget_set)
    if as_json:
        print_json(asdict(found))
        return
    print_facts([
        ("forget set", found.id), ("created", found.created), ("requester", found.requester), ("reason", found.reason),
        ("dataset", found.dataset_digest), ("episodes", len(found.episode_ids)),
        *(("", name) for name in found.episode_ids),
        *(("", f"{name}, steps {begin} to {end - 1}") for name, begin, end in found.steps),
        *((name.replace("_", " "), value) for name, value in found.rules.items()),
    ])  # fmt: skip


def _row(found: ForgetSet) -> tuple[object, ...]:
    created = found.created[:19].replace("T", " ")
    return found.id, len(found.episode_ids), len(found.steps), created, found.requester, found.reason
