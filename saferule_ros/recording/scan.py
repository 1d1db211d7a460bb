"""What every kind of storage file gives when it is read from one end to the other, damaged or not."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from saferule_ros.recording.messages import RawMessage


@dataclass(frozen=True)
class TopicInfo:
    """What a file says of a topic: type, and the type's definition ("ros2msg") where the file has it."""

    type: str
    definition: str = ""


@dataclass
class Scan:
    """One storage file. Iterate over `messages()`; the attributes are complete when it is exhausted.

    Attributes:
        topics: by name.
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
