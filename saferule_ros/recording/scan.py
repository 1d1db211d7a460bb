"""What every kind of storage file gives when it is read from one end to the other, damaged or not."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from saferule_ros.recording.messages import RawMessage

# Messages that are taken at a time: enough that decoding in bulk pays, few enough for any memory, also of images.
_BATCH = 1024
BATCH_BYTES = 16 * 2**20
CDR = "cdr"  # the format of all usual middlewares


@dataclass(frozen=True)
class TopicInfo:
    """What a file says of a topic: type, and the type's definition ("ros2msg") where the file has it."""

    type: str
    definition: str = ""

    @classmethod
    def of(cls, type_name: str, serialization: str, definition: str = "") -> "TopicInfo":
        """Of a topic whose messages are serialized so. What is not CDR is no type that anybody can read."""
        return cls(type_name, definition) if serialization == CDR else cls(f"{type_name} ({serialization})")


def with_slash(topic: str) -> str:
    """With the leading slash, which programs that write bags without a node leave out."""
    return topic if topic.startswith("/") else f"/{topic}"


@dataclass
class Scan:
    """One storage file. Iterate over `messages()`; the attributes are complete when it is exhausted.

    Attributes:
        topics: by full name; a type that is not serialized as CDR has its format behind it, so that nobody decodes it.
        records: metadata records of the file by name.
        library: that wrote the file, where it says so.
        damage: what was wrong with the file, in words; empty if nothing was.
        recovered: messages that were read.
        lost: messages that are known to be damaged; there may be more where a file is cut.
        expected: messages that the file itself says it has; None where it does not (any more).
    """

    path: Path
    topics: dict[str, TopicInfo] = field(default_factory=dict)
    records: dict[str, dict[str, str]] = field(default_factory=dict)
    library: str = ""
    damage: list[str] = field(default_factory=list)
    recovered: int = 0
    lost: int = 0
    expected: int | None = None

    def messages(self) -> Iterator[RawMessage]:
        """Every message that can be read, in the order of the file. Damage is noted, not raised."""
        raise NotImplementedError


def batches(messages: Iterable[RawMessage]) -> Iterator[list[RawMessage]]:
    """All messages, some at a time."""
    batch: list[RawMessage] = []
    size = 0
    for message in messages:
        batch.append(message)
        size += len(message.data)
        if len(batch) == _BATCH or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
