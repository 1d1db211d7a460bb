"""Messages of episodes that are not finished, on disk as they come: what is left if the recorder is killed.

One file for each episode that begins, `.open-<number>.mcap`, without chunks, so that every message is a record of its
own and a cut at any byte loses at most one. A file goes when no episode is open that it has messages of, the newest one
as well: between episodes nothing is written.
"""

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mcap.writer import CompressionType, IndexType, Writer

from saferule_ros.file_locks import try_lock, wait_for_lock
from saferule_ros.recording.bag_metadata import Topic, qos_text
from saferule_ros.recording.messages import RawMessage

# Readers of bags skip files that begin with a dot.
JOURNAL_PREFIX = ".open-"


@dataclass
class _File:
    """One file and the episodes that it may have messages of. Open, and locked, as long as it matters."""

    path: Path
    handle: BinaryIO
    episodes: set[str]

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # what could not be written is sealed from memory
            self.handle.close()


class Journal:
    """The journal of one bag. The operating system has what was added when `flush` returns.

    Args:
        folder: of the bag.
        topics: all topics that messages will come from.

    Raises:
        OSError: from any method; the disk refuses.
    """

    def __init__(self, folder: Path, topics: Sequence[Topic]) -> None:
        self._folder, self._topics = folder, topics
        self._files: list[_File] = []
        self._newest: _File | None = None  # what is added to
        self._count = 0

    def begin(self, open_episodes: Iterable[str]) -> None:
        """An episode has begun: from here on a new file, in which messages of all these episodes may be."""
        # Whatever goes wrong from here on: the file before is none for messages of this episode.
        before, self._newest = self._newest, None
        if before is not None:
            before.handle.flush()
        path = self._folder / f"{JOURNAL_PREFIX}{self._count}.mcap"
        self._count += 1
        handle = open(path, "xb")  # noqa: SIM115 - closed when it is removed
        try:
            wait_for_lock(handle.fileno())  # as long as this process lives, nobody takes it for a leftover
        except OSError:
            handle.close()
            path.unlink()
            raise
        newest = _File(path, handle, set(open_episodes))
        self._files.append(newest)
        self._writer = Writer(
            handle, compression=CompressionType.NONE, use_chunking=False, index_types=IndexType.NONE, enable_crcs=False
        )
        self._writer.start(profile="ros2")
        self._channels = {}
        for topic in self._topics:
            definition = topic.definition
            schema = self._writer.register_schema(definition.type, "ros2msg", definition.text.encode())
            metadata = {"offered_qos_profiles": qos_text(), "topic_type_hash": definition.type_hash}
            self._channels[topic.name] = self._writer.register_channel(topic.name, "cdr", schema, metadata)
        self._newest = newest

    def add(self, message: RawMessage) -> None:
        """One message, as it was received. What comes while no episode of the newest file is open is not kept."""
        if self._newest is not None:
            self._writer.add_message(self._channels[message.topic], message.log_time, message.data, message.log_time)

    def flush(self) -> None:
        """Hands what was added to the operating system: a kill of this process does not lose it any more."""
        if self._newest is not None:
            self._newest.handle.flush()

    def sealed(self, episode_id: str) -> None:
        """An episode is durable elsewhere, or given up: files that are of no other open one are removed."""
        for file in self._files:
            file.episodes.discard(episode_id)
        for file in [file for file in self._files if not file.episodes]:
            self._newest = None if file is self._newest else self._newest
            self._files.remove(file)
            file.remove()

    def close(self) -> None:
        """The end: what is of no episode that could not be sealed goes."""
        for file in self._files:
            if file.episodes:
                file.handle.close()
            else:
                file.remove()
        self._files.clear()
        self._newest = None


def is_being_written(path: Path) -> bool:
    """Whether a journal's recorder is alive: then the episodes in it are not lost, but not finished yet."""
    try:
        with open(path, "rb") as file:
            return not try_lock(file.fileno(), shared=True)
    except OSError:  # gone meanwhile: sealed
        return True
