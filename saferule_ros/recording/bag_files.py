"""The storage files of a bag, whatever is left of it: with metadata.yaml, with a damaged one, or with none."""

import contextlib
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import zstandard

from saferule_ros.dataset.durable import TEMPORARY_PREFIX
from saferule_ros.recording.bag_metadata import (
    COMPRESSED,
    METADATA_NAME,
    BagDescription,
    read_description,
    uncompressed_name,
)
from saferule_ros.recording.errors import BagError
from saferule_ros.recording.journal import JOURNAL_PREFIX
from saferule_ros.recording.mcap_scan import McapScan
from saferule_ros.recording.scan import Scan
from saferule_ros.recording.sqlite_scan import SqliteScan

_SCANS: Mapping[str, type[Scan]] = {".mcap": McapScan, ".db3": SqliteScan}
_PIECE = 2**20  # bytes that are unpacked at a time


@dataclass(frozen=True)
class BagFiles:
    """What there is to read of a bag.

    Attributes:
        bag_id: from the metadata, else the folder's or file's name.
        files: in the order in which they were recorded.
        journals: what a recorder that was killed had received of episodes that it did not finish.
        custom: what the recorder noted in the metadata.
        expected: number of messages of a file by its name (as `expected_of` takes it), where the metadata says it.
        problems: what is missing or damaged beside the files themselves.
    """

    bag_id: str
    files: tuple[Path, ...]
    journals: tuple[Path, ...]
    custom: Mapping[str, str]
    expected: Mapping[str, int]
    problems: tuple[str, ...]

    def expected_of(self, path: Path) -> int | None:
        """How many messages a file was given; None where nobody says it."""
        return self.expected.get(uncompressed_name(path.name))


def find_bag(place: Path) -> BagFiles:
    """Looks for a bag.

    Args:
        place: a rosbag2 folder, or a single storage file (.mcap, .db3, each also as .zstd).

    Raises:
        BagError: there is none.
    """
    if place.is_file() and _kind(place):
        return BagFiles(name_of_place(place), (place,), (), {}, {}, ())
    if not place.is_dir():
        raise BagError(f"there is no bag {str(place)!r}", "Name a folder that holds storage files, or such a file")
    found = sorted(
        (path for path in place.iterdir() if _kind(path) and not path.name.startswith(".") and path.is_file()),
        key=_natural_order,
    )
    journals = tuple(sorted(place.glob(f"{JOURNAL_PREFIX}*"), key=_natural_order))
    problems = []
    description: BagDescription | None = None
    try:
        description = read_description(place)
    except BagError as error:
        problems.append(error.what)
    if description is None:
        if not found and not journals:
            raise BagError(f"{str(place)!r} holds no storage file and no readable {METADATA_NAME}", "Is it a bag?")
        return BagFiles(name_of_place(place), tuple(found), journals, {}, {}, tuple(problems))
    named = [_present(path) for path in description.files]
    problems += [f"{path.name} is missing, which {METADATA_NAME} names" for path in named if not path.is_file()]
    # A file that a recorder finished, but was killed before it could name it in metadata.yaml, comes last.
    unnamed = [path for path in found if path not in named]
    files = (*(path for path in named if path.is_file()), *unnamed)
    if description.unwritten:
        problems.append(
            f"{METADATA_NAME} counts {description.unwritten} messages that its recorder received and never wrote: its "
            "cache was full, or they were not part of a snapshot"
        )
    return BagFiles(
        description.bag_id, files, journals, description.custom, description.counts, tuple(problems)
    )  # fmt: skip


def name_of_place(place: Path) -> str:
    """What a bag is called after where it lies, if nothing else says it: the folder, or the file without its ending."""
    return place.resolve().name if place.is_dir() else Path(uncompressed_name(place.name)).stem


def names_of_bag(place: Path) -> set[str]:
    """What a dataset may call a bag: as its recorder did, or after where it lies, if another one was called so."""
    try:
        return {find_bag(place).bag_id, name_of_place(place)}
    except BagError:  # whoever reads it says so
        return {name_of_place(place)}


@contextlib.contextmanager
def open_scan(path: Path) -> Iterator[Scan]:
    """Reads a storage file; one that is compressed as a whole is unpacked into a temporary file first.

    Raises:
        BagError: the file's name has no known ending.
    """
    kind = _kind(path)
    if kind is None:
        raise BagError(f"{str(path)!r} is no storage file", f"Known are {', '.join(_SCANS)}, also with {COMPRESSED}")
    if path.suffix != COMPRESSED:
        yield _SCANS[kind](path)
        return
    with tempfile.TemporaryDirectory() as folder:
        unpacked = Path(folder) / path.stem
        problem = _unpack(path, unpacked)
        scan = _SCANS[kind](unpacked)
        scan.damage += [problem] if problem else []
        yield scan


def _unpack(path: Path, to: Path) -> str:
    """As far as it goes; returns why not further."""
    try:
        with open(path, "rb") as packed, open(to, "wb") as out:
            reader = zstandard.ZstdDecompressor(max_window_size=2**27).stream_reader(packed, read_across_frames=True)
            while piece := reader.read(_PIECE):
                out.write(piece)
    except (zstandard.ZstdError, OSError) as error:
        return f"{path.name} cannot be unpacked to its end: {error}"
    return ""


def _kind(path: Path) -> str | None:
    if path.name.startswith(TEMPORARY_PREFIX):
        return None
    name = path.name.removesuffix(COMPRESSED)
    return next((kind for kind in _SCANS if name.endswith(kind)), None)


def _present(path: Path) -> Path:
    """The metadata of a bag that was compressed later, or unpacked, names the file without, or with, `.zstd`."""
    others = (path, path.with_name(path.name + COMPRESSED), path.with_name(uncompressed_name(path.name)))
    return next((other for other in others if other.is_file()), path)


def _natural_order(path: Path) -> list[tuple[int, str]]:
    """bag_2 before bag_10."""
    # ASCII alone: of what else Unicode calls digits, int() does not read all.
    parts = re.split(r"([0-9]+)", path.name)
    return [(int(part), "") if number % 2 else (-1, part) for number, part in enumerate(parts)]
