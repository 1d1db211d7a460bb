"""Writes rosbag2 folders of MCAP files, one file or more per episode, each durable before it is acknowledged."""

import heapq
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from mcap.writer import CompressionType, Writer

from saferule_ros import __version__
from saferule_ros.dataset.durable import temporary_name, write_atomically
from saferule_ros.recording.bag_metadata import METADATA_NAME, SplitFile, Topic, metadata_text, qos_text
from saferule_ros.recording.definitions import installed_definition
from saferule_ros.recording.errors import BagError
from saferule_ros.recording.manifest import BagManifest, SealedEpisode
from saferule_ros.recording.messages import ACTION_TYPE, OBSERVATION_TYPE, RawMessage
from saferule_ros.signing import PrivateKey
from saferule_ros.syncing import make_folder, sync_folder
from saferule_ros.workspace import check_name

# In the header of each file: it holds one episode, or a part of one.
LIBRARY = "saferule_ros"
# Name of the MCAP metadata record that says what episode a file holds; in it, where the episode goes on in the next.
EPISODE_RECORD = "saferule_ros.episode"
CONTINUED = "continued"
# In the bag's metadata.
RECORDED_BY = "saferule_ros.recorded_by"
CONTRACT = "saferule_ros.contract"
# Twice the commands that an assembler lets wait for their observations.
_AHEAD = 4096


@dataclass(frozen=True)
class SplitLimits:
    """Where an episode's file ends and the next one begins: at so many bytes of messages, or after so many ns."""

    size: int = 2**30
    time: int = 3600 * 10**9


@dataclass(frozen=True)
class BagSummary:
    """What a bag holds: files (one per episode) and messages."""

    bag_id: str
    folder: Path
    files: int
    messages: int


def loop_topics(observation: str = "/observation", action: str = "/action") -> tuple[Topic, Topic]:
    """The two topics of a recording under the names they have on this robot, with the installed definitions.

    Raises:
        BagError: the messages are not installed (AMENT_PREFIX_PATH).
    """
    return (
        Topic(observation, installed_definition(OBSERVATION_TYPE)),
        Topic(action, installed_definition(ACTION_TYPE)),
    )


class BagWriter:
    """One bag that grows by whole episodes.

    At every instant the folder is a bag that other tools can read: a new file gets its name only when it is
    complete and on disk, and metadata.yaml is replaced, never rewritten in place.

    Args:
        folder: of the bag; its name is the bag's id. Made here.
        topics: all topics that messages will come from.
        recorded_by: who or what records, kept in the metadata.
        ros_distro: by default $ROS_DISTRO.
        contract: digest of the contract that the robot's topics are read by; empty: none.
        key: signs the manifest; None: it is not signed.
        limits: of one file.

    Raises:
        BagError: the folder is there already or cannot be made; nothing is left of it then.
        WorkspaceError: its name is not a safe one.
    """

    def __init__(
        self,
        folder: Path | str,
        topics: Sequence[Topic],
        recorded_by: str = "",
        ros_distro: str | None = None,
        contract: str = "",
        key: PrivateKey | None = None,
        limits: SplitLimits | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.bag_id = check_name(self.folder.name, "bag id")
        self._topics = {topic.name: topic for topic in topics}
        self._custom = {RECORDED_BY: recorded_by, **({CONTRACT: contract} if contract else {})}
        self._key, self._limits = key, limits or SplitLimits()
        self._manifest = BagManifest(self.bag_id, recorded_by, f"saferule_ros {__version__}", contract)
        self._ros_distro = os.environ.get("ROS_DISTRO", "") if ros_distro is None else ros_distro
        self._files: list[SplitFile] = []
        try:
            make_folder(self.folder.parent)
            self.folder.mkdir()
            with ExitStack() as undo:  # whoever tries again, under another name, must not leave one more each time
                undo.callback(shutil.rmtree, self.folder, ignore_errors=True)
                self._write_metadata(self._files)
                self._manifest.write(self.folder, self._key)
                sync_folder(self.folder.parent)
                undo.pop_all()
        except FileExistsError as error:
            if not self.folder.exists():  # but a file stands where a folder above it should
                raise self._cannot_write(error) from error
            raise BagError(f"bag {str(self.folder)!r} is there already", "Give the new bag another id") from error
        except OSError as error:
            raise self._cannot_write(error) from error

    @property
    def summary(self) -> BagSummary:
        """What is durable at this moment."""
        return BagSummary(self.bag_id, self.folder, len(self._files), sum(file.messages for file in self._files))

    @property
    def topics(self) -> tuple[Topic, ...]:
        """All topics that messages may come from."""
        return tuple(self._topics.values())

    def write_episode(self, messages: Iterable[RawMessage], facts: Mapping[str, str]) -> Path:
        """Adds one file, or more of a long episode. When this returns, files, names, metadata and manifest are on disk.

        Args:
            messages: everything that was received for the episode. Written in the order of reception. They are gone
                through once, and not held.
            facts: kept with the episode, see `AssembledEpisode.facts`.

        Returns:
            The path of the last file, which has the facts.

        Raises:
            BagError: no message, a topic that was not announced, or the disk refuses; the bag is as before.
        """
        waiting = _Ahead(_in_order(messages))
        if waiting.next is None:
            raise BagError("an episode without messages cannot be written", "Leave it out")
        files = list(self._files)
        path = temporary = self.folder
        try:
            while waiting.next is not None:
                path = self.folder / f"{self.bag_id}_{len(files)}.mcap"
                temporary = temporary_name(path)
                files.append(self._write_file(temporary, path.name, waiting, facts))
                os.rename(temporary, path)
            sync_folder(self.folder)
            self._write_metadata(files)
            manifest = self._with(facts, [file.name for file in files[len(self._files) :]])
            manifest.write(self.folder, self._key)
        except (OSError, BagError) as error:
            # A file that got its name stays: it is whole, metadata.yaml may name it already, and the next
            # episode takes the same name.
            if temporary != self.folder:
                temporary.unlink(missing_ok=True)
            if isinstance(error, BagError):
                raise
            raise self._cannot_write(error) from error
        self._files, self._manifest = files, manifest
        return path

    def _with(self, facts: Mapping[str, str], names: Sequence[str]) -> BagManifest:
        """The manifest with one more episode. Of one without a whole transition nothing is promised."""
        if not facts.get("digest"):
            return self._manifest
        episode = SealedEpisode(
            id=facts["episode_id"], digest=facts["digest"], files=tuple(names), length=int(facts["length"]),
            episode_return=float(facts["return"]), episode_cost=float(facts["cost"]),
            policy_ids=tuple(facts["policy_ids"].split()),
        )  # fmt: skip
        return replace(self._manifest, episodes=(*self._manifest.episodes, episode))

    def _write_file(self, path: Path, name: str, messages: "_Ahead", facts: Mapping[str, str]) -> SplitFile:
        """As many messages as the limits allow, one at least; what it will be called, and what is in it."""
        first = end = messages.next
        assert first is not None and end is not None
        counts: Counter[str] = Counter()
        size = 0
        with open(path, "xb") as file:
            # Uncompressed, as rosbag2 by default: sensor floats hardly shrink, and CPU time is for control.
            writer = Writer(file, compression=CompressionType.NONE, enable_data_crcs=True)
            writer.start(profile="ros2", library=LIBRARY)
            channels = {}
            for topic in self._topics.values():
                definition = topic.definition
                schema = writer.register_schema(definition.type, "ros2msg", definition.text.encode())
                metadata = {"offered_qos_profiles": qos_text(), "topic_type_hash": definition.type_hash}
                channels[topic.name] = writer.register_channel(topic.name, "cdr", schema, metadata)
            while (message := messages.next) is not None:
                over = size + len(message.data) > self._limits.size
                if size and (over or message.log_time - first.log_time > self._limits.time):
                    break
                if message.topic not in channels:
                    raise BagError(
                        f"topic {message.topic!r} was not announced to bag {self.bag_id!r}",
                        f"It was opened for {sorted(self._topics)}",
                    )
                writer.add_message(
                    channel_id=channels[message.topic],
                    log_time=message.log_time,
                    publish_time=message.log_time,
                    sequence=counts.total(),
                    data=message.data,
                )
                counts[message.topic] += 1
                size += len(message.data)
                end = message
                messages.step()
            writer.add_metadata(EPISODE_RECORD, {**facts, **({CONTINUED: "true"} if message is not None else {})})
            writer.finish()
            file.flush()
            os.fsync(file.fileno())
        return SplitFile(name, first.log_time, end.log_time, counts)

    def _write_metadata(self, files: Sequence[SplitFile]) -> None:
        topics = list(self._topics.values())
        text = metadata_text(self.bag_id, topics, files, self._custom, self._ros_distro)
        write_atomically(self.folder / METADATA_NAME, text.encode())

    def _cannot_write(self, error: OSError) -> BagError:
        return BagError(
            f"bag {str(self.folder)!r} cannot be written: {error}",
            "Make room or give a folder that this user may write to; sealed episodes are safe",
        )


class _Ahead:
    """Messages with a look at the next one; None: there is none."""

    def __init__(self, messages: Iterator[RawMessage]) -> None:
        self._messages = messages
        self.next = next(messages, None)

    def step(self) -> None:
        """On to the following one."""
        self.next = next(self._messages, None)


def _in_order(messages: Iterable[RawMessage]) -> Iterator[RawMessage]:
    """By time of reception: a command may be received before the observation that it answers, and matched later.

    No more than `_AHEAD` are held; one that comes after so many later ones keeps its place.
    """
    held: list[tuple[int, int, RawMessage]] = []
    for number, message in enumerate(messages):
        heapq.heappush(held, (message.log_time, number, message))
        if len(held) > _AHEAD:
            yield heapq.heappop(held)[2]
    while held:
        yield heapq.heappop(held)[2]
