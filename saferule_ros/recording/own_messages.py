"""A bag's messages as observations and commands, where it holds our two topics."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from saferule_ros.recording.definitions import field_list
from saferule_ros.recording.errors import BagError
from saferule_ros.recording.messages import (
    ACTION_TYPE,
    FIELDS,
    OBSERVATION_TYPE,
    ActionMessage,
    ObservationMessage,
    RawMessage,
)
from saferule_ros.recording.own_bulk import BulkDecoder
from saferule_ros.recording.scan import TopicInfo
from saferule_ros.recording.ticks import Ticks

Messages = Iterable[ObservationMessage | ActionMessage]


class Translation(Protocol):
    """Makes observations and commands of what a bag holds. One is used for all files of a bag.

    Attributes:
        malformed: messages that are no CDR of their type.
        used: messages of the topics that matter.
        ticks: what became of the instants at which there should be an observation, where messages alone do not say it.
    """

    malformed: int
    used: int
    ticks: Ticks

    def begin_bag(self, bag_id: str) -> None:
        """All that follows is of this bag."""

    def take(self, messages: Sequence[RawMessage], topics: Mapping[str, TopicInfo]) -> Messages:
        """The next messages of the bag, in the order of reception, with what is known of its topics so far."""

    def finish(self) -> Messages:
        """What is still waiting: nothing more will come."""

    def explain(self, topics: Mapping[str, TopicInfo]) -> str:
        """Why nothing was found in a bag with these topics; empty if they only hold no messages."""


class OwnMessages:
    """Translation of our own two topics: see `Translation`."""

    def __init__(self) -> None:
        self.malformed = 0
        self.used = 0
        self.ticks = Ticks()  # none: what is lost shows in the sequence numbers
        self._names = {OBSERVATION_TYPE: "", ACTION_TYPE: ""}
        self._checked: dict[str, str] = {}
        self._decoders = {kind: BulkDecoder(kind) for kind in self._names}

    def begin_bag(self, bag_id: str) -> None:
        """See `Translation`: episodes have their names already."""

    def take(self, messages: Sequence[RawMessage], topics: Mapping[str, TopicInfo]) -> Messages:
        """See `Translation`.

        Raises:
            BagError: several topics of one type, or another version of our messages.
        """
        rows: dict[str, list[int]] = {kind: [] for kind in self._names}
        for row, message in enumerate(messages):
            kind = self._checked.get(message.topic)
            if kind is None:
                kind = self._checked[message.topic] = self._check(message.topic, topics[message.topic])
            if kind:
                rows[kind].append(row)
        found: list[ObservationMessage | ActionMessage | None] = [None] * len(messages)
        for kind, chosen in rows.items():
            decoded = self._decoders[kind].decode([messages[row].data for row in chosen])
            self.used += len(chosen)
            self.malformed += decoded.count(None)
            for row, one in zip(chosen, decoded, strict=True):
                found[row] = one
        return (one for one in found if one is not None)

    def finish(self) -> Messages:
        """See `Translation`: nothing waits."""
        return ()

    def explain(self, topics: Mapping[str, TopicInfo]) -> str:
        """See `Translation`."""
        listed = ", ".join(f"{name} ({info.type})" for name, info in sorted(topics.items()))
        if set(self._names) & {info.type for info in topics.values()} or not topics:
            return ""
        return f"it has no topic of type {OBSERVATION_TYPE}; it holds {listed}"

    def _check(self, name: str, info: TopicInfo) -> str:
        """The type, if it is ours: our decoder knows one layout, and bytes of any other would be wrong numbers."""
        if info.type not in FIELDS:
            return ""
        found = field_list(info.definition)
        if info.definition and found != FIELDS[info.type]:
            raise BagError(
                f"topic {name!r} has {info.type!r} in another version: its fields are {list(found)}",
                f"Read it with the version that recorded it; this one expects {list(FIELDS[info.type])}",
            )
        if self._names[info.type]:
            raise BagError(
                f"the bag has two topics of type {info.type}: {self._names[info.type]!r} and {name!r}",
                "Keep one robot per bag: `ros2 bag convert` can split it",
            )
        self._names[info.type] = name
        return info.type
