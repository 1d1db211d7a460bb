"""A contract between messages and episodes: what live bridge and ingest both feed with raw messages."""

from collections.abc import Iterator, Mapping, Sequence

from saferule_ros.contract.decoding import Decoder, Reading, Sample
from saferule_ros.contract.episode_ids import label_of
from saferule_ros.contract.model import Action, Clock, Contract, Source
from saferule_ros.contract.paths import FieldPath
from saferule_ros.contract.runner import ContractRunner
from saferule_ros.dataset.naming import closest
from saferule_ros.recording.errors import BagError
from saferule_ros.recording.message_types import Types, known_definition, parse_types
from saferule_ros.recording.messages import ActionMessage, ObservationMessage, RawMessage
from saferule_ros.recording.scan import TopicInfo

#: robot_bridge says here (in its namespace), as std_msgs/msg/Empty, that its service was asked to begin an episode.
NEW_EPISODE = "/robot_bridge/new_episode"

Made = ObservationMessage | ActionMessage


def reading_of(source: Source | Action) -> Reading:
    """What is read of a source's messages, or of commands."""
    fields = tuple(FieldPath.parse(text) for text in source.fields)
    if isinstance(source, Action):
        return Reading(source.type, fields, tuple(source.joints), source.joint_names, len(source.low), Clock.RECEIVED)
    return Reading(
        source.type, fields, tuple(source.joints), source.joint_names, source.numbers, source.time, source.clip
    )  # fmt: skip


class ContractTranslation:
    """See `recording.own_messages.Translation`; for one robot.

    Attributes:
        malformed: messages that are no CDR of their type.
        used: messages of the contract's topics.
        ticks: of the runner.
        runner: the contract at work.

    Args:
        contract: what the messages mean.
        label: part of the names of episodes: of the process, where there is no bag.
    """

    def __init__(self, contract: Contract, label: str = "") -> None:
        self.contract = contract
        self.malformed = 0
        self.used = 0
        self.runner = ContractRunner(contract, label)
        self.ticks = self.runner.ticks
        self._decoders: dict[str, list[tuple[str, Decoder]]] = {}
        self._wanted: dict[str, list[tuple[str, Source | Action]]] = {}
        for name, source in contract.sources.items():
            self._wanted.setdefault(source.topic, []).append((name, source))
        self._wanted.setdefault(contract.action.topic, []).append(("", contract.action))

    def begin_bag(self, bag_id: str) -> None:
        """See `Translation`: episodes are named after it, too."""
        self.runner.episodes.label = label_of(bag_id)

    def take(self, messages: Sequence[RawMessage], topics: Mapping[str, TopicInfo]) -> Iterator[Made]:
        """See `Translation`. Decoded topic by topic, all at once; then played in the order of reception.

        Raises:
            BagError: a topic has another type than the contract says, or its type is not known; or several robots'
                bridges said where episodes begin, and none of them is more this one's than the others.
            ContractError: sizes that do not fit.
        """
        boundary = self._boundary(topics)
        rows: dict[str, list[int]] = {}
        for row, message in enumerate(messages):
            if message.topic in self._wanted:
                rows.setdefault(message.topic, []).append(row)
        events: list[list[tuple[str, Sample]]] = [[] for _ in messages]
        for topic, chosen in rows.items():
            self.used += len(chosen)
            payloads = [messages[row].data for row in chosen]
            received = [messages[row].log_time for row in chosen]
            for name, decoder in self._decoders_of(topic, topics):
                for row, sample in zip(chosen, decoder.decode(payloads, received), strict=True):
                    self.malformed += sample.problem.startswith("malformed")
                    events[row].append((name, sample))
        for message, samples in zip(messages, events, strict=True):
            yield from self.runner.advance(message.log_time)
            if message.topic == boundary:
                self.runner.begin_episode()
            for name, sample in samples:
                if name:
                    yield from self.runner.sample(name, sample)
                elif sample.values is not None:
                    yield from self.runner.command(sample.values, message.log_time)
                else:
                    self.runner.counts["unusable_commands"] += 1

    def finish(self) -> list[ObservationMessage]:
        """See `Translation`."""
        return self.runner.finish()

    def explain(self, topics: Mapping[str, TopicInfo]) -> str:
        """See `Translation`."""
        missing = [topic for topic in self._wanted if topic not in topics]
        if not missing:
            return ""
        return f"it has no topic {missing[0]!r}. {closest(missing[0], sorted(topics), 'topic')}"

    def _boundary(self, topics: Mapping[str, TopicInfo]) -> str:
        """The topic on which this robot's bridge said where episodes begin; empty: it is not there.

        Of several, it is the one whose namespace has most in common with the topic of the commands.
        """
        found = [topic for topic in topics if topic.endswith(NEW_EPISODE)]
        shared = {topic: _shared(topic.removesuffix(NEW_EPISODE), self.contract.action.topic) for topic in found}
        nearest = [topic for topic in found if shared[topic] == max(shared.values())]
        if len(nearest) > 1:
            raise BagError(
                f"it has several topics that say where episodes begin, {', '.join(sorted(nearest))}, and which of "
                f"them is that of the robot that is commanded on {self.contract.action.topic} cannot be told",
                "Leave the other robots' out of the bag: ros2 bag convert",
            )
        return nearest[0] if nearest else ""

    def _decoders_of(self, topic: str, topics: Mapping[str, TopicInfo]) -> list[tuple[str, Decoder]]:
        if topic not in self._decoders:
            info = topics.get(topic)
            self._decoders[topic] = [
                (name, Decoder(reading_of(source), types_of(topic, source.type, info)))
                for name, source in self._wanted[topic]
            ]
        return self._decoders[topic]


def types_of(topic: str, type_name: str, info: TopicInfo | None) -> Types:
    """The definition that a bag has of a topic's type; else the one that is installed.

    Raises:
        BagError: the topic has another type, or nobody knows it.
    """
    if info is not None and info.type != type_name:
        raise BagError(
            f"topic {topic!r} has type {info.type!r}, the contract says {type_name!r}", "Correct the contract's type"
        )
    text = info.definition if info is not None and info.definition else known_definition(type_name).text
    return parse_types(type_name, text)


def _shared(one: str, other: str) -> int:
    """How many parts two names begin with alike."""
    parts = list(zip(one.split("/"), other.split("/"), strict=False))
    return next((count for count, (a, b) in enumerate(parts) if a != b), len(parts))
