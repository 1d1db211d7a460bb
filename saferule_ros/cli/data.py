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
    from collections.abc import Sequence

    from saferule_ros.dataset.summary import PartSummary
    from saferule_ros.recording.ingest_report import IngestReport

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
    replace: Annotated[bool, typer.Option("--replace", help="Do without episodes that are there, if need be.")] = False,
    signed: Annotated[bool, typer.Option("--signed", help="Only what a trusted key has signed.")] = False,
    processes: Annotated[int, typer.Option("--processes", min=1, max=256, help="Bags that are read at a time.")] = 1,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Turn recorded bags into the workspace's dataset.

    Reads rosbag2 folders or files (MCAP and SQLite, compressed or not, split, damaged): of dataset_recorder, or with
    --contract of any robot. Writes the workspace's dataset in one step. One that is there is kept with --append; else
    it is replaced, where it is of the same bags or --replace is given. If nothing can be taken it stays as it is.
    Stopped or killed, the same command goes on where it was. Exit status: 0 complete, 1 partial (written, but something
    was lost on the way; it is named), 2 failed.

    Datasets of other libraries, too: HDF5 files in the form of DSRL, and minari:NAME where Minari is installed.

    \b
    Examples:
      saferule data ingest
      saferule data ingest monday tuesday /media/usb/wednesday --append
      saferule data ingest /media/usb/recording --contract config/contracts/arm.yaml
      saferule data ingest SafetyPointCircle1-v0.hdf5
    """
    from functools import partial

    from saferule_ros.dataset.exchange import is_dataset

    if append and replace:
        raise BagsError("both --append and --replace were given", "Give one of them")
    if bags and all(is_dataset(name) for name in bags):
        if contract:
            raise BagsError(
                f"--contract {contract} was given for {', '.join(bags)}",
                "What is a dataset already has no topics: leave it out",
            )
        _check_kept(Workspace(workspace), (), append or replace)
        _take_in(bags, Workspace(workspace).dataset, append, as_json)
        return
    for name in bags or ():
        if is_dataset(name):
            raise BagsError(
                f"{name!r} is no bag, but a dataset in another form, and is named together with bags",
                f"Ingest the bags without it, and then add it: saferule data ingest {name} --append",
            )
    from saferule_ros.cli.bars import bar
    from saferule_ros.cli.output import print_json
    from saferule_ros.contract.model import load_contract
    from saferule_ros.contract.translation import ContractTranslation
    from saferule_ros.recording.ingest import ingest as read
    from saferule_ros.signing import KeyFolder

    meaning = load_contract(contract) if contract else None
    place = Workspace(workspace)
    folders = [_folder(place, name) for name in bags] if bags else _all_bags(place)
    _check_kept(place, folders, append or replace)
    with bar("bags") as advance:
        report = read(
            folders, place.dataset, lambda done, total, name: advance(done, total, name, -1.0),
            make_translation=partial(ContractTranslation, meaning) if meaning else None,
            translation_id=meaning.digest if meaning else "", processes=processes, append=append,
            trusted=KeyFolder(place.keys).trusted(), only_signed=signed,
        )  # fmt: skip
    if as_json:
        print_json(report.to_dict())
    else:
        _show(report)
    if not report.complete:
        raise typer.Exit(CHECK_FAILED)


@app.command()
def info(
    episodes: Annotated[bool, typer.Option("--episodes", help="One by one, with the ids to forget by.")] = False,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Show what the workspace's dataset holds, bag by bag, or episode by episode.

    Reads the dataset and checks all of it against its digests. Writes nothing.

    \b
    Examples:
      saferule data info --json
      saferule data info --episodes
    """
    from saferule_ros.cli.output import print_facts, print_json, print_table
    from saferule_ros.dataset.dataset import EpisodeDataset
    from saferule_ros.dataset.summary import summarize

    folder = Workspace(workspace).dataset
    dataset = EpisodeDataset.load(folder)
    if episodes:
        if as_json:
            print_json([asdict(record) for record in dataset.records])
        else:
            print_table(("episode", "bag", ">steps", ">return", ">cost", ">fallbacks", ">lost"), [
                (one.id, one.bag_id, one.length, f"{one.episode_return:.4g}", f"{one.episode_cost:.4g}", one.fallbacks,
                 one.lost) for one in dataset.records
            ])  # fmt: skip
        return
    summary = summarize(dataset)
    if as_json:
        print_json(summary.to_dict())
        return
    print_facts([
        ("dataset", folder), ("digest", summary.digest), ("observation size", summary.observation_size),
        ("action size", summary.action_size),
    ])  # fmt: skip
    headings = ("bag", ">episodes", ">transitions", ">return", ">(range)", ">cost", ">(range)", ">fallbacks", ">lost")
    print_table(headings, [_row(part) for part in (*summary.bags, summary.whole)])


@app.command()
def check(
    contract: Annotated[
        Path | None, typer.Option("--contract", exists=True, dir_okay=False, help="Take the actions' bounds from it.")
    ] = None,
    reward: Annotated[
        tuple[float, float] | None, typer.Option("--reward", metavar="LOW HIGH", help="Of a transition.")
    ] = None,
    cost: Annotated[float | None, typer.Option("--cost", help="Highest cost of a transition.")] = None,
    gap: Annotated[float | None, typer.Option("--gap", help="Longest step in seconds; else 5 median steps.")] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Check the workspace's dataset: is it fit to be learned from?

    Looks at digests, shapes, finite numbers, episodes, time, gaps, actions' bounds, rewards, costs, duplicates. Writes
    nothing. Exit status: 0 all passed, 1 a check failed, 2 there is no dataset, or it is damaged.

    \b
    Examples:
      saferule data check
      saferule data check --contract config/contracts/arm.yaml --cost 1
    """
    from saferule_ros.cli.output import print_json, print_table, verdict
    from saferule_ros.contract.model import load_contract
    from saferule_ros.dataset.checks import Limits, check_dataset
    from saferule_ros.dataset.dataset import EpisodeDataset

    about = load_contract(contract).action if contract else None
    low, high = reward or (None, None)
    limits = Limits(about.low if about else None, about.high if about else None, low, high, cost, gap)
    results = check_dataset(EpisodeDataset.load(Workspace(workspace).dataset), limits)
    if as_json:
        print_json([asdict(result) for result in results])
    else:
        rows = [[result.name, verdict(result.passed), result.found] for result in results]
        print_table(("check", "verdict", "found"), [["digests", verdict(True), "all as recorded"], *rows])
    if not all(result.passed for result in results):
        raise typer.Exit(CHECK_FAILED)


@app.command()
def export(
    target: Annotated[str, typer.Argument(metavar="TARGET", help="FILE.hdf5, or minari:ROBOT/TASK-v0.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
) -> None:
    """Write the workspace's dataset in a form that other libraries read.

    HDF5 in the form of DSRL: observations, next_observations, actions, rewards, costs, terminals, timeouts. Such a file
    of ours comes back as the same dataset. Minari: where it is installed.

    \b
    Examples:
      saferule data export walks.hdf5
      saferule data export minari:robot/walks-v0
    """
    from saferule_ros.cli.output import note
    from saferule_ros.dataset.dataset import EpisodeDataset
    from saferule_ros.dataset.exchange import give_out

    dataset = EpisodeDataset.load(Workspace(workspace).dataset)
    give_out(dataset, target)
    note(f"{target}: {dataset.episodes} episodes, {len(dataset)} transitions, digest {dataset.digest}")


def _check_kept(place: Workspace, bags: Sequence[Path], asked: bool) -> None:
    """What is there may be what the active policy was learned from, and some of it may have come from no bag."""
    from saferule_ros.dataset.errors import DatasetError
    from saferule_ros.dataset.naming import listed
    from saferule_ros.dataset.storage import contents, read_index
    from saferule_ros.recording.bag_files import names_of_bag

    if asked:
        return
    try:
        records, _ = contents(place.dataset, read_index(place.dataset))
    except DatasetError:
        return  # there is none, or a damaged one, which a new ingest is to replace
    read = {name for bag in bags for name in names_of_bag(bag)}
    gone = [bag_id for bag_id in dict.fromkeys(record.bag_id for record in records) if bag_id not in read]
    if gone:
        raise BagsError(
            f"the dataset in {place.dataset} has episodes of {listed(gone)} that would be gone",
            "Keep them, and add to them: --append. To do without them, and without a patch of a policy that was "
            "learned from them: --replace",
        )


def _take_in(names: list[str], folder: Path, append: bool, as_json: bool) -> None:
    from saferule_ros.cli.output import note, print_json
    from saferule_ros.dataset.exchange import take_in

    digest, records = take_in(names, folder, append)
    transitions = sum(record.length for record in records)
    if as_json:
        print_json({"folder": str(folder), "dataset_digest": digest, "episodes": len(records),
                    "transitions": transitions, "status": "complete", "complete": True})  # fmt: skip
        return
    note(f"{folder}: {len(records)} episodes, {transitions} transitions, complete")


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

    rows = [
        [bag.bag_id, bag.status, bag.episodes, bag.transitions, bag.duplicates, len(bag.incomplete), bag.messages,
         bag.lost_messages, bag.malformed, bag.ticks.lost, bag.signed_by or "-"]
        for bag in report.bags
    ]  # fmt: skip
    headings = ("bag", "status", ">episodes", ">transitions", ">duplicates", ">incomplete", ">messages", ">lost",
                ">malformed", ">lost ticks", "signed by")  # fmt: skip
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
        if bag.ticks.lost:
            note(f"{bag.bag_id}: {bag.ticks}")
    faults = [f"{count} {name.replace('_', ' ')}" for name, count in asdict(report.faults).items() if count]
    faults += [f"{report.ticks.lost} ticks that could not be made"] if report.ticks.lost else []
    word = "complete" if report.complete else f"PARTIAL: {', '.join(faults) or 'something was lost on the way'}"
    note(f"{report.folder}: {report.episodes} episodes, {report.transitions} transitions, {word}")
