"""One bag read into a part: datasets of its own beside the one that is to be, and a report. Made once: a part that is
finished, of a bag that has not changed since, is taken as it is."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from saferule_ros import __version__
from saferule_ros.dataset.durable import write_atomically
from saferule_ros.dataset.errors import DatasetError
from saferule_ros.dataset.record import EpisodeRecord
from saferule_ros.dataset.rows import sizes_of
from saferule_ros.dataset.storage import contents, read_index
from saferule_ros.dataset.writer import DatasetWriter
from saferule_ros.errors import SaferuleError
from saferule_ros.recording.assembly import Faults
from saferule_ros.recording.errors import BagError
from saferule_ros.recording.ingest_report import BagReport, Status
from saferule_ros.recording.own_messages import Translation
from saferule_ros.recording.reader import BagReading
from saferule_ros.recording.ticks import Ticks

#: Makes the translation of one bag; called in the process that reads it, so it must survive being sent there.
MakeTranslation = Callable[[], Translation]
#: Numbers in an observation and in an action.
Sizes = tuple[int, int]

EMPTY = "it holds no messages"  # what is said of a bag that was begun and ended in between episodes

_REPORT = "report.json"
_DATASET = "dataset"
# Datasets of one bag that are written side by side, with ten files each; a robot has one size, seldom a second.
_MOST_SIZES = 8
# What to do about an id that names two different episodes.
ANOTHER_LABEL = "Leave one bag out, or record with another label: forgetting tells episodes apart by id"


def part_of(parts: Path, place: Path) -> Path:
    """Folder of a bag's part."""
    name = hashlib.sha256(str(place.resolve()).encode()).hexdigest()[:16]
    return parts / name


@dataclass(frozen=True)
class Part:
    """What was read of one bag: a dataset for each size of its vectors, as no dataset holds two.

    Attributes:
        folders: (observation, action) size -> where that dataset is.
        records: of all its episodes.
        sizes: id of an episode -> (observation, action) size.
    """

    folders: Mapping[Sizes, Path]
    records: tuple[EpisodeRecord, ...]
    sizes: Mapping[str, Sizes]

    @classmethod
    def load(cls, folder: Path) -> "Part":
        """Reads what `read_into_part` made; of a bag of which nothing was taken there is nothing."""
        found: dict[Sizes, tuple[EpisodeRecord, ...]] = {}
        folders: dict[Sizes, Path] = {}
        for path in sorted(folder.glob(f"{_DATASET}-*x*")):
            observation, action = path.name.removeprefix(f"{_DATASET}-").split("x")
            sizes = int(observation), int(action)
            folders[sizes], found[sizes] = path, contents(path, read_index(path))[0]
        return cls(
            folders, tuple(record for records in found.values() for record in records),
            {record.id: sizes for sizes, records in found.items() for record in records},
        )  # fmt: skip


def read_into_part(
    place: Path, part: Path, make: MakeTranslation | None, translation_id: str,
    on_share: Callable[[float], None] = lambda _: None,
) -> BagReport:  # fmt: skip
    """Reads one bag into a `Part` of its own, unless that was done before and the bag has not changed since."""
    fingerprint = _fingerprint(place, translation_id)
    finished = _finished_report(part, fingerprint)
    if finished is not None:
        return replace(finished, folder=str(place))
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True, exist_ok=True)
    report = BagReport(place.name, str(place), Status.FAILED)
    try:
        reading = BagReading(place, make() if make else None, part, on_share)
        report = _taken(reading, place, part)
    except SaferuleError as error:
        if isinstance(error, DatasetError) and isinstance(error.__cause__, OSError):
            raise  # the disk refuses: no fault of the bag, and what there is room for must not replace a dataset
        shutil.rmtree(part, ignore_errors=True)  # not whole
        return replace(report, problems=(str(error),))
    text = json.dumps({"fingerprint": fingerprint, "report": asdict(report)})
    write_atomically(part / _REPORT, text.encode())
    return report


def _taken(reading: BagReading, place: Path, part: Path) -> BagReport:
    duplicates = 0
    episodes = transitions = 0
    writers: dict[Sizes, DatasetWriter] = {}
    with ExitStack() as stack:
        for episode in reading.episodes():
            known = next(filter(None, (writer.digest_of(episode.id) for writer in writers.values())), "")
            if known and known != episode.digest:
                raise BagError(
                    f"episode id {episode.id!r} names different episodes in bag {reading.bag_id!r}", ANOTHER_LABEL
                )
            if known:
                duplicates += 1
                continue
            sizes = sizes_of(episode)
            if sizes not in writers:
                if len(writers) == _MOST_SIZES:
                    reading.refused[episode.id] = f"its vectors have another size than those of {_MOST_SIZES} before"
                    continue
                folder = part / f"{_DATASET}-{sizes[0]}x{sizes[1]}"
                writers[sizes] = stack.enter_context(DatasetWriter(folder))
            writers[sizes].add(episode)
            episodes, transitions = episodes + 1, transitions + episode.length
        for writer in writers.values():
            writer.commit()
    # A recording that was begun and ended in between episodes: nothing is in it, and nothing is lost.
    complete = reading.complete
    empty = complete and not reading.messages
    told = reading.problems or reading.refused or reading.incomplete or reading.ticks.lost or reading.ticks.early
    if not episodes and not told:
        reading.problems.append(EMPTY if empty else "it gave not one episode")
    return BagReport(
        bag_id=reading.bag_id, folder=str(place),
        status=(Status.COMPLETE if complete else Status.PARTIAL) if episodes or empty else Status.FAILED,
        episodes=episodes, transitions=transitions, duplicates=duplicates, incomplete=reading.incomplete,
        refused=reading.refused, recovered_episodes=tuple(reading.recovered_episodes),
        remains=tuple(sorted(reading.remains)), problems=tuple(reading.problems), faults=reading.faults,
        malformed=reading.malformed, strays=reading.strays, messages=reading.messages, lost_messages=reading.lost,
        ticks=reading.ticks,
    )  # fmt: skip


def _fingerprint(place: Path, translation_id: str) -> str:
    """Changes when the bag does, or the way of reading it."""
    listing: list[tuple[str, int, int]] = []
    paths = sorted(place.iterdir()) if place.is_dir() else [place]
    for path in paths:
        try:
            status = os.stat(path)
        except OSError:  # gone since it was listed, or missing from the start, which reading reports
            continue
        listing.append((path.name, status.st_size, status.st_mtime_ns))
    content = json.dumps([__version__, translation_id, listing])
    return hashlib.sha256(content.encode()).hexdigest()


def _finished_report(part: Path, fingerprint: str) -> BagReport | None:
    try:
        stored = json.loads((part / _REPORT).read_bytes())
        if stored["fingerprint"] != fingerprint:
            return None
        given = {name.name: stored["report"][name.name] for name in fields(BagReport)}
        given |= {"status": Status(given["status"]), "faults": Faults(**given["faults"]),
                  "ticks": Ticks(**given["ticks"])}  # fmt: skip
        names = ("recovered_episodes", "remains", "missing_episodes", "problems")
        tuples = {name: tuple(given[name]) for name in names}
        return BagReport(**(given | tuples))
    except (OSError, ValueError, KeyError, TypeError):
        return None
