"""Reads one MCAP file of our messages, from the first byte to the last, and believes nothing unchecked."""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from mcap.exceptions import McapError
from mcap.records import Channel, Header, Message, Metadata, Schema
from mcap.stream_reader import StreamReader

from saferule_ros.recording.bag_writer import EPISODE_RECORD
from saferule_ros.recording.definitions import field_list
from saferule_ros.recording.errors import BagError
from saferule_ros.recording.messages import FIELDS

# What the MCAP library raises on bytes that are no MCAP, cut or changed (a failed checksum is a ValueError).
_DAMAGE = (McapError, ValueError, struct.error, EOFError, KeyError)


@dataclass
class McapFile:
    """Iterate over `messages()`; the other attributes are complete when it is exhausted.

    Attributes:
        topics: types of all topics seen, ours and foreign ones.
        episode: what our recorder noted of the episode in it (`AssembledEpisode.facts`); empty for others.
    """

    path: Path
    topics: dict[str, str] = field(default_factory=dict)
    episode: Mapping[str, str] = field(default_factory=dict)

    def messages(self) -> Iterator[tuple[str, str, bytes]]:
        """(topic, type, CDR bytes) of every message of our types, in the order in which they were received.

        Raises:
            BagError: cut, changed, no ROS 2 recording, or of another version of our messages.
        """
        ours: dict[int, tuple[str, str]] = {}
        schemas: dict[int, Schema] = {}
        for record in self._records():
            if isinstance(record, Message):
                known = ours.get(record.channel_id)
                if known:
                    yield *known, record.data
            elif isinstance(record, Schema):
                schemas[record.id] = record
            elif isinstance(record, Channel):
                schema = schemas.get(record.schema_id)
                self.topics[record.topic] = schema.name if schema else ""
                if schema and schema.name in FIELDS:
                    _check_version(self.path, schema, record)
                    ours[record.id] = (record.topic, schema.name)
            elif isinstance(record, Metadata) and record.name == EPISODE_RECORD:
                self.episode = record.metadata
            elif isinstance(record, Header) and record.profile != "ros2":
                raise BagError(
                    f"{str(self.path)!r} is an MCAP file with profile {record.profile!r}, not 'ros2'",
                    "Give bags that were recorded by ROS 2",
                )

    def _records(self) -> Iterator[Any]:
        try:
            with open(self.path, "rb") as file:
                yield from StreamReader(_Bounded(file), validate_crcs=True).records  # type: ignore[arg-type]
        except _DAMAGE as error:
            raise BagError(
                f"{str(self.path)!r} is cut or damaged: {type(error).__name__} {error}",
                "Restore it from a copy, or take it out with `mcap recover` and `ros2 bag reindex`",
            ) from error
        except OSError as error:
            raise BagError(f"{str(self.path)!r} cannot be read: {error}", "Check disk and permissions") from error


class _Bounded:
    """A file that refuses to read beyond its end: a damaged length must not make us reserve memory for it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._left = file.seek(0, 2)
        file.seek(0)

    def read(self, size: int) -> bytes:
        if size > self._left:
            raise EOFError(f"{size} bytes wanted, {self._left} are left")
        self._left -= size
        return self._file.read(size)


def _check_version(path: Path, schema: Schema, channel: Channel) -> None:
    """Our decoder knows one layout: bytes of any other would turn into wrong numbers."""
    found = field_list(schema.data.decode(errors="replace"))
    if channel.message_encoding != "cdr" or schema.encoding != "ros2msg" or found != FIELDS[schema.name]:
        raise BagError(
            f"{str(path)!r} holds {schema.name!r} in another version ({schema.encoding} over "
            f"{channel.message_encoding}): its fields are {list(found)}",
            f"Read it with the version that recorded it; this one expects {list(FIELDS[schema.name])}",
        )
