"""Cuts small bags at every byte and fills others with noise: ingest must take what is left, or refuse with words.

    python benchmarks/fuzz_bags.py --noise 2000 --out docs/results/fuzz_bags.md

Of every bag that was damaged, what is taken must be a true beginning of what was recorded, and it must be said that
something is missing wherever it is. Anything but a BagError counts as a crash.
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from recorded_run import LENGTHS, prepare
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from saferule_ros.dataset.episode import Episode
from saferule_ros.recording.assembler import EpisodeAssembler
from saferule_ros.recording.bag_writer import BagWriter, loop_topics
from saferule_ros.recording.cdr import decode_action, decode_observation
from saferule_ros.recording.definitions import installed_definition
from saferule_ros.recording.errors import BagError
from saferule_ros.recording.messages import ACTION_TYPE, OBSERVATION_TYPE, RawMessage
from saferule_ros.recording.reader import read_bag_content

EPISODES = 1  # of LENGTHS[0] steps: small, so that every byte can be cut
MOST_NOISE = 12  # places that are changed at once


def own_bag(folder: Path) -> Path:
    """By our recorder's writer."""
    writer = BagWriter(folder, loop_topics(), "fuzz", "jazzy")
    assembler = EpisodeAssembler(writer.bag_id)
    done = []
    for number, (is_observation, payload) in enumerate(prepare(EPISODES)):
        raw = RawMessage("/observation" if is_observation else "/action", payload, 10**18 + number * 1000)
        if is_observation:
            done += assembler.observation(decode_observation(payload), raw)
        else:
            done += assembler.action(decode_action(payload), raw)
    for assembled in (*done, *assembler.finish()):
        writer.write_episode(assembled.messages, assembled.facts)
    return folder


def foreign_bag(folder: Path, storage: StoragePlugin, compression: tuple | None = None) -> Path:
    """The same by another writer."""
    store = get_typestore(Stores.ROS2_JAZZY)
    for name in (OBSERVATION_TYPE, ACTION_TYPE):
        store.register(get_types_from_msg(installed_definition(name).text.split("=" * 80)[0], name))
    bag = Writer(folder, version=9, storage_plugin=storage)
    if compression:
        bag.set_compression(*compression)
    with bag as writer:
        topics = {
            True: writer.add_connection("/observation", OBSERVATION_TYPE, typestore=store),
            False: writer.add_connection("/action", ACTION_TYPE, typestore=store),
        }
        for number, (is_observation, payload) in enumerate(prepare(EPISODES)):
            writer.write(topics[is_observation], 10**18 + number * 1000, payload)
    return folder


BAGS: dict[str, Callable[[Path], Path]] = {
    "own": own_bag,
    "mcap": lambda folder: foreign_bag(folder, StoragePlugin.MCAP),
    "mcap, zstd chunks": lambda folder: foreign_bag(
        folder, StoragePlugin.MCAP, (CompressionMode.STORAGE, CompressionFormat.ZSTD)
    ),
    "sqlite": lambda folder: foreign_bag(folder, StoragePlugin.SQLITE3),
    "sqlite, zstd file": lambda folder: foreign_bag(
        folder, StoragePlugin.SQLITE3, (CompressionMode.FILE, CompressionFormat.ZSTD)
    ),
    "sqlite, zstd messages": lambda folder: foreign_bag(
        folder, StoragePlugin.SQLITE3, (CompressionMode.MESSAGE, CompressionFormat.ZSTD)
    ),
}


def is_beginning(found: Episode, whole: Episode) -> bool:
    """Whether it is the recorded episode up to some transition, number by number."""
    return np.array_equal(found.observations, whole.observations[: found.length + 1]) and all(
        np.array_equal(getattr(found, name), getattr(whole, name)[: found.length])
        for name in ("actions", "rewards", "costs", "stamps")
    )


def judge(bag: Path, whole: Episode, always: bool = True) -> str:
    """What reading gives: complete, partial, refused, or what must never be.

    Args:
        bag: that was damaged.
        whole: its episode before that.
        always: what is not a beginning of it must not be, even where it is told that the bag is damaged.
    """
    try:
        content = read_bag_content(bag)
    except BagError:
        return "refused"
    except Exception as error:  # noqa: BLE001 - that there is none is what is looked for
        return f"CRASH {type(error).__name__}: {error}"
    for episode in content.episodes:
        if not episode.id.startswith("run-") or not episode.id[4:].isdigit():
            continue  # noise in a name: of the file formats only ours and MCAP's chunks have checksums
        if (content.complete or always) and not is_beginning(episode, whole):
            return "CHANGED"
    if content.complete and not any(episode.length == LENGTHS[0] for episode in content.episodes):
        return "SHORT, and said to be complete"
    return "complete" if content.complete else "partial"


def cuts(bag: Path) -> Counter[str]:
    """Every length of the bag's storage file."""
    (path,) = (path for path in bag.iterdir() if path.suffix not in (".yaml", ".json"))
    found: Counter[str] = Counter()
    (whole,) = read_bag_content(bag).episodes
    for length in reversed(range(path.stat().st_size)):
        os.truncate(path, length)
        found[judge(bag, whole)] += 1
    return found


def noise(bag: Path, times: int, rng: random.Random) -> Counter[str]:
    """Random bytes at random places of one of the bag's files."""
    found: Counter[str] = Counter()
    (recorded,) = read_bag_content(bag).episodes
    for path in sorted(bag.iterdir()):
        whole = path.read_bytes()
        for _ in range(times // 3):
            content = bytearray(whole)
            for _ in range(rng.randint(1, MOST_NOISE)):
                where = rng.randrange(len(content))
                content[where : where + rng.randint(0, 8)] = rng.randbytes(rng.randint(0, 8))
            path.write_bytes(content)
            found[judge(bag, recorded, always=False)] += 1
        path.write_bytes(whole)
    return found


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--noise", type=int, default=600, help="changed copies of each bag")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    lines = ["| bag | damage | bags | refused | partial | complete | wrong |", "|:---|:---|---:|---:|---:|---:|---:|"]
    bad: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for name, make in BAGS.items():
            for what, damage in (("cut at every byte", cuts), ("noise", lambda bag: noise(bag, options.noise, rng))):
                bag = make(Path(folder) / "bag")
                found = damage(bag)
                shutil.rmtree(bag)
                wrong = {kind: count for kind, count in found.items() if kind[0].isupper()}
                # SQLite has no checksums: noise in its numbers cannot be told from numbers.
                if what == "noise" and name.startswith("sqlite"):
                    wrong.pop("CHANGED", None)
                bad.update(wrong)
                lines.append(
                    f"| {name} | {what} | {found.total()} | {found['refused']} | {found['partial']} | "
                    f"{found['complete']} | {sum(wrong.values())} |"
                )
                print(lines[-1], wrong or "", flush=True)
    if options.out is not None:
        options.out.write_text(
            "# Damaged bags\n\n<!-- Written by benchmarks/fuzz_bags.py; do not edit. -->\n\n"
            + "\n".join(lines)
            + "\n\n"
            "Wrong: a crash, or something missing or changed that is not told. SQLite has no checksums: noise that "
            "changes its numbers and nothing else is not counted, because nobody could tell. Complete after a cut or "
            f"noise: in what reading does without, such as an index. Seed {options.seed}.\n"
        )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
