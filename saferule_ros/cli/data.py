"""`saferule data`: recorded bags into a dataset, and what a dataset holds."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from saferule_ros.cli.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption
from saferule_ros.cli.teaching import CHECK_FAILED
from saferule_ros.errors import SaferuleError
from saferule_ros.workspace import Workspace

if TYPE_CHECKING:
    from saferule_ros.dataset.summary import PartSummary
    from saferule_ros.recording.ingest import IngestReport

app = typer.Typer(no_args_is_help=True, help="Recorded bags into a dataset, and what a dataset holds.")


class BagsError(SaferuleError):
    """No bag to read, or one that is not there."""


@app.command()
def ingest(
    bags: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[BAG]...", help="Bag ids of the workspace, or rosbag2 folders. None: all of the workspace's."
        ),
    ] = None,
    contract: Annotated[
        Path | None,
        typer.Option("--contract", exists=True, dir_okay=False, help="What the robot's own topics mean (YAML)."),
    ] = None,
    append: Annotated[bool, typer.Option("--append", help="Keep the episodes that are there, and add these.")] = False,
    processes: Annotated[int, typer.Option("--processes", min=1, max=256, help="Bags that are read at a time.")] = 1,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Turn recorded bags into the workspace's dataset.

    Reads rosbag2 folders or files (MCAP and SQLite, compressed or not, split, damaged): of dataset_recorder, or with
    --contract of any robot. Writes the workspace's dataset in one step: it replaces the one that is there, and if
    nothing can be taken it stays as it is. Stopped or killed, the same command goes on where it was. Exit status: 0
    complete, 1 partial (written, but something was lost on the way; it is named), 2 failed.

    \b
    Examples:
      saferule data ingest
      saferule data ingest monday tuesday /media/usb/wednesday --append
      saferule data ingest /media/usb/recording --contract config/contracts/arm.yaml
    """
    from functools import partial

    from saferule_ros.cli.bars import bar
    from saferule_ros.cli.output import print_json
    from saferule_ros.contract.model import load_contract
    from saferule_ros.contract.translation import ContractTranslation
    from saferule_ros.recording.ingest import ingest as read
    from saferule_ros.signing import KeyFolder

    meaning = load_contract(contract) if contract else None
    place = Workspace(workspace)
    folders = [_folder(place, name) for name in bags] if bags else _all_bags(place)
    with bar("bags") as advance:
        report = read(
            folders, place.dataset, lambda done, total, name: advance(done, total, name, -1.0),
            make_translation=partial(ContractTranslation, meaning) if meaning else None,
            translation_id=meaning.digest if meaning else "", processes=processes, append=append,
            trusted=KeyFolder(place.keys).trusted(),
        )  # fmt: skip
    if as_json:
        print_json(report.to_dict())
    else:
        _show(report)
    if not report.complete:
        raise typer.Exit(CHECK_FAILED)


@app.command()
def info(workspace: WorkspaceOption = DEFAULT_WORKSPACE, as_json: JsonOption = False) -> None:
    """Show what the workspace's dataset holds, bag by bag.

    Reads the dataset and checks all of it against its digests. Writes nothing.

    \b
    Example:
      saferule data info --json
    """
    from saferule_ros.cli.output import print_facts, print_json, print_table
    from saferule_ros.dataset.dataset import EpisodeDataset
    from saferule_ros.dataset.summary import summarize

    folder = Workspace(workspace).dataset
    summary = summarize(EpisodeDataset.load(folder))
    if as_json:
        print_json(summary.to_dict())
        return
    print_facts([
        ("dataset", folder), ("digest", summary.digest), ("observation size", summary.observation_size),
        ("action size", summary.action_size),
    ])  # fmt: skip
    headings = ("bag", ">episodes", ">transitions", ">return", ">(range)", ">cost", ">(range)", ">fallbacks", ">lost")
    print_table(headings, [_row(part) for part in (*summary.bags, summary.whole)])


def _row(part: PartSummary) -> list[object]:
    spreads = [
        text
        for spread in (part.episode_return, part.episode_cost)
        for text in (f"{spread.mean:.1f}", f"{spread.lowest:.0f} to {spread.highest:.0f}")
    ]
    return [part.name or "(no bag)", part.episodes, part.transitions, *spreads, part.fallbacks, part.lost]


def _folder(place: Workspace, name: str) -> Path:
    """A bag of the workspace, or a folder."""
    folder = Path(name)
    if not folder.exists() and folder.name == name:
        folder = place.bag(name)
    if not folder.exists():
        known = ", ".join(sorted(path.name for path in place.bags.glob("*") if path.is_dir())) or "none"
        raise BagsError(f"there is no bag {name!r}", f"Give a folder, or a bag of {place.bags}: {known}")
    return folder


def _all_bags(place: Workspace) -> list[Path]:
    found = sorted(path for path in place.bags.glob("*") if path.is_dir())
    if not found:
        raise BagsError(f"there is no bag in {place.bags}", "Record one with dataset_recorder, or name a folder")
    return found


def _show(report: IngestReport) -> None:
    from saferule_ros.cli.output import note, print_table

    rows = [[bag.bag_id, bag.status, bag.episodes, bag.transitions, bag.duplicates, len(bag.incomplete), bag.messages,
             bag.lost_messages, bag.malformed, bag.signed_by or "-"] for bag in report.bags]  # fmt: skip
    headings = ("bag", "status", ">episodes", ">transitions", ">duplicates", ">incomplete", ">messages", ">lost",
                ">malformed", "signed by")  # fmt: skip
    print_table(headings, rows)
    for bag in report.bags:
        for problem in (*bag.problems, *(f"{name}: {why}" for name, why in bag.refused.items())):
            note(f"{bag.bag_id}: {problem}")
        for episode_id in bag.missing_episodes:
            note(f"{bag.bag_id}: episode {episode_id} was acknowledged, says the manifest, and was not found")
        for episode_id in bag.recovered_episodes:
            note(f"{bag.bag_id}: episode {episode_id} was not sealed when its recorder ended: recovered, truncated")
        for episode_id, message in bag.incomplete.items():
            note(f"incomplete: {episode_id} in {bag.bag_id}: {message}")
    faults = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in asdict(report.faults).items() if count)
    word = "complete" if report.complete else f"PARTIAL: {faults or 'something was lost on the way'}"
    note(f"{report.folder}: {report.episodes} episodes, {report.transitions} transitions, {word}")
