"""Bags of the real recorder, read by us and by others: is every byte the same, and what is left of them when cut?

    python benchmarks/real_bags.py FOLDER --out docs/results/real_bags.md

Reads every bag below FOLDER; the same bag twice counts once. A file SOURCE in one of its folders says in one line where
the bags below that folder are from. A file contract.yaml says what their topics mean: they are ingested with it, and
every number that is read is compared with what `rosbags` deserialises.

Judges: `rosbags` for the bag as a whole; for each file the `mcap` library, or for SQLite a plain query. Each storage
file is also cut at places that lie evenly in it.
"""

import argparse
import hashlib
import math
import os
import re
import shutil
import sqlite3
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml
import zstandard
from mcap.exceptions import McapError
from mcap.reader import NonSeekingReader
from rosbags.rosbag2 import Reader, ReaderError
from rosbags.typesys import Stores, get_typestore

from saferule_ros.contract.decoding import Decoder
from saferule_ros.contract.errors import ContractError
from saferule_ros.contract.model import Contract, Source, load_contract
from saferule_ros.contract.paths import FieldPath
from saferule_ros.contract.translation import ContractTranslation, reading_of, types_of
from saferule_ros.recording.bag_files import find_bag, open_scan
from saferule_ros.recording.errors import BagError
from saferule_ros.recording.messages import RawMessage
from saferule_ros.recording.reader import BagReading
from saferule_ros.recording.scan import TopicInfo
from saferule_ros.reporting.markdown import table

STORAGE = re.compile(r"\.(db3|mcap)(\.zstd)?$")
ZSTD = b"\x28\xb5\x2f\xfd"
# Where rosbags must find the definitions of types: messages of the bags that say none are of the common interfaces.
STORE = get_typestore(Stores.ROS2_JAZZY)

Messages = Counter[tuple[str, int, bytes]]  # topic, time of reception, digest of the bytes


@dataclass
class Ours:
    """What our reader finds in a bag."""

    messages: Messages = field(default_factory=Counter)
    topics: dict[str, TopicInfo] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    lost: int = 0


def key(topic: str, time: int, data: bytes) -> tuple[str, int, bytes]:
    """What must be the same."""
    return f"/{topic.lstrip('/')}", time, hashlib.blake2b(data, digest_size=16).digest()


def storage_files(bag: Path) -> list[Path]:
    """By name; a folder may be called like a file."""
    return sorted(path for path in bag.iterdir() if STORAGE.search(path.name) and path.is_file())


def read_ours(bag: Path) -> Ours:
    """By our reader."""
    files, found = find_bag(bag), Ours()
    found.problems += files.problems
    for path in files.files:
        with open_scan(path) as scan:
            found.messages.update(key(*message[:1], message.log_time, message.data) for message in scan.messages())
        found.topics |= scan.topics
        found.problems += scan.damage
        found.lost += max(scan.lost, (files.expected_of(path) or scan.expected or 0) - scan.recovered)
    return found


def read_rosbags(bag: Path) -> tuple[Messages, str]:
    """By rosbags; and why not, where it refuses."""
    try:
        with Reader(bag) as reader:
            return Counter(key(found.topic, time, bytes(data)) for found, time, data in reader.messages()), ""
    except (ReaderError, OSError) as error:
        why = "no metadata.yaml" if isinstance(error, FileNotFoundError) else str(error)
        return Counter(), "refuses: " + why.replace(f"{bag}/", "")


def read_files(bag: Path) -> Messages | None:
    """File by file: with the mcap library, or a query; None if these cannot read one."""
    found: Messages = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for path in storage_files(bag):
            copy = Path(folder) / path.name.removesuffix(".zstd")
            if path.suffix == ".zstd":
                with open(path, "rb") as packed, open(copy, "wb") as out:
                    zstandard.ZstdDecompressor().copy_stream(packed, out)
            else:
                shutil.copyfile(path, copy)
            try:
                found.update(key(*message) for message in (of_mcap if copy.suffix == ".mcap" else of_sqlite)(copy))
            except (McapError, sqlite3.Error):
                return None
    return found


def of_mcap(path: Path) -> Iterator[tuple[str, int, bytes]]:
    """Messages by the mcap library."""
    with open(path, "rb") as file:
        for _, channel, message in NonSeekingReader(file).iter_messages(log_time_order=False):
            yield channel.topic, message.log_time, message.data


def of_sqlite(path: Path) -> Iterator[tuple[str, int, bytes]]:
    """Messages by a query."""
    query = "SELECT name, timestamp, data FROM messages JOIN topics ON topics.id = topic_id"
    with closing(sqlite3.connect(path)) as database:
        for topic, time, data in database.execute(query):
            packed = data[:4] == ZSTD
            yield topic, time, zstandard.ZstdDecompressor().decompress(data) if packed else data


def cut(bag: Path, places: int, whole: Messages) -> Counter[str]:
    """What reading gives of the bag with one of its files cut: "told", "complete" (nothing is missing), or wrong."""
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copytree(bag, Path(folder) / bag.name)
        files = [path for path in storage_files(copy) if path.stat().st_size]
        for path in files:
            content = path.read_bytes()
            count = math.ceil(places / len(files))
            for number in reversed(range(count)):
                os.truncate(path, len(content) * number // count)
                found[judge(copy, whole)] += 1
            path.write_bytes(content)
    return found


def judge(bag: Path, whole: Messages) -> str:
    """Of a bag that was cut."""
    try:
        left = read_ours(bag)
    except BagError:
        return "told"
    if left.messages - whole:
        return "WRONG: messages that were never recorded"
    if left.problems or left.lost:
        return "told"
    return "complete" if left.messages == whole else "WRONG: something is missing and nobody says so"


def value(message: Any, path: FieldPath) -> list[float]:
    """What rosbags' object has at a field path."""
    for step in path.base.split("."):
        name, _, index = step.rstrip("]").partition("[")
        message = getattr(message, name)
        message = message[int(index)] if index else message
    if path.index is not None:
        message = message[path.index]
    if hasattr(message, "__dataclass_fields__"):
        return [number for name in message.__dataclass_fields__ if not name.startswith("__")
                for number in value(message, FieldPath.parse(name))]  # fmt: skip
    return [float(number) for number in message] if hasattr(message, "__len__") else [float(message)]


def numbers(source: Source, message: Any) -> list[float]:
    """What a source takes of rosbags' object."""
    whole = [value(message, FieldPath.parse(text)) for text in source.fields]
    if source.joints:
        names = list(getattr(message, source.joint_names))
        whole = [[column[names.index(joint)] for joint in source.joints] for column in whole]
    low, high = source.clip or (-math.inf, math.inf)
    return [min(max(number, low), high) for column in whole for number in column]


def compare_numbers(bag: Path, contract: Contract) -> tuple[int, int]:
    """Messages of the contract's sources, and how many of them give other numbers than rosbags' objects."""
    compared = different = 0
    for path in find_bag(bag).files:
        with open_scan(path) as scan:
            messages = list(scan.messages())
        for source in contract.sources.values():
            chosen: list[RawMessage] = [message for message in messages if message.topic == source.topic]
            if not chosen or not source.fields:
                continue
            decoder = Decoder(reading_of(source), types_of(source.topic, source.type, scan.topics[source.topic]))
            samples = decoder.decode([one.data for one in chosen], [one.log_time for one in chosen])
            for message, sample in zip(chosen, samples, strict=True):
                if sample.values is None:
                    continue  # told, and its tick is lost
                compared += 1
                expected = numbers(source, STORE.deserialize_cdr(message.data, source.type))
                different += sample.values.tolist() != expected
    return compared, different


def through(bag: Path, contract: Contract, name: str) -> list[str]:
    """One line of the second table."""
    reading = BagReading(bag, ContractTranslation(contract))
    try:
        lengths = [episode.length for episode in reading.episodes()]
    except (BagError, ContractError) as error:
        return [name, contract.name, "-", "-", "-", "-", "-", f"refused: {error.what}"]
    compared, different = compare_numbers(bag, contract)
    status = "failed" if not lengths else "complete" if reading.complete else "partial"
    faults = [f"{number} {word}" for word, number in asdict(reading.faults).items() if number]
    why = "; ".join([*reading.problems, *([str(reading.ticks)] if reading.ticks.lost else []), *faults])
    return [
        name, contract.name, str(compared), str(different), str(reading.ticks.made), str(len(lengths)),
        str(sum(lengths)), status + (f": {why}" if why else ""),
    ]  # fmt: skip


def above(bag: Path, root: Path, name: str) -> Path | None:
    """The nearest file of this name in the bag's folder or one above it."""
    places = [bag, *bag.parents[: len(bag.relative_to(root).parts)]]
    return next((place / name for place in places if (place / name).is_file()), None)


def bags_below(root: Path) -> list[Path]:
    """Each bag once."""
    folders = sorted({path.parent for path in root.rglob("*") if STORAGE.search(path.name) and path.is_file()})
    seen: dict[str, Path] = {}
    for folder in folders:
        digest = hashlib.sha256()
        for path in (*storage_files(folder), *folder.glob("metadata.yaml")):
            digest.update(path.name.encode() + path.read_bytes())
        seen.setdefault(digest.hexdigest(), folder)
    return list(seen.values())


def version_of(bag: Path) -> str:
    """Of metadata.yaml, and the distribution that wrote it, where it says so."""
    try:
        about = yaml.safe_load((bag / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    except OSError:
        return "-"
    return f"{about['version']} {about.get('ros_distro', '')}".strip()


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cuts", type=int, default=50, help="places at which each bag is cut")
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    rows, taken, sources, wrong = [], [], [], 0
    for bag in bags_below(options.folder):
        told = above(bag, options.folder, "SOURCE")
        origin = told.read_text().strip() if told else "unknown"
        if origin not in sources:
            sources.append(origin)
        name = f"[{sources.index(origin) + 1}] {bag.relative_to(told.parent if told else options.folder)}"
        ours, (theirs, refusal), by_file = read_ours(bag), read_rosbags(bag), read_files(bag)
        results = cut(bag, options.cuts, ours.messages)
        bad = sum(count for what, count in results.items() if what.startswith("WRONG"))
        same = by_file in (None, ours.messages) and not theirs - ours.messages
        wrong += bad + (not same)
        kinds = sorted({found[0][1:] for path in storage_files(bag) if (found := STORAGE.search(path.name))})
        counted = "refuses" if by_file is None else str(by_file.total())
        rows.append([
            name, "+".join(kinds), version_of(bag), str(ours.messages.total()), counted,
            refusal or str(theirs.total()), "yes" if same else "NO", str(ours.lost),
            str(results.total()), str(results["told"]), str(results["complete"]), str(bad),
        ])  # fmt: skip
        print(
            *rows[-1],
            *ours.problems,
            {what for what in results if what.startswith("WRONG")} or "",
            sep=" | ",
            flush=True,
        )
        meaning = above(bag, options.folder, "contract.yaml")
        if meaning and load_contract(meaning).action.topic in ours.topics:
            taken.append(through(bag, load_contract(meaning), name))
            wrong += taken[-1][3] not in ("0", "-")
            print(*taken[-1], sep=" | ", flush=True)
    if options.out is not None:
        options.out.write_text(page(rows, taken, sources, options.cuts))
    return 1 if wrong else 0


def page(rows: list[list[str]], taken: list[list[str]], sources: list[str], cuts: int) -> str:
    """The whole text."""
    first = ("bag", "storage", "metadata", ">ours", ">by file", ">rosbags", "same bytes", ">lost", ">cuts", ">told",
             ">complete", ">wrong")  # fmt: skip
    second = (
        "bag",
        "contract",
        ">messages compared",
        ">other numbers",
        ">ticks",
        ">episodes",
        ">transitions",
        "status",
    )
    return "\n".join([
        "# Bags of the real recorder", "", "<!-- Written by benchmarks/real_bags.py; do not edit. -->", "",
        "Messages that are found by our reader, file by file by the `mcap` library or a plain query, and by `rosbags`; "
        "same: topic, time of reception and bytes of every message. Then cut at "
        f"{cuts} places or more: told, complete (nothing was missing), or wrong (a message that was never recorded, or "
        "one that is missing untold).", "",
        *table(first, rows), "", "With a contract: every number of every source compared with what `rosbags` "
        "deserialises, and ingested.", "", *table(second, taken), "",
        "Sources:", "", *(f"{number}. {source}" for number, source in enumerate(sources, start=1)), "",
    ])  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
