"""Writes rosbag2 folders of MCAP files, one file per episode, each durable before it is acknowledged."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mcap.writer import CompressionType, Writer

from saferule_ros.dataset.durable import sync_folder, temporary_name, write_atomically
from saferule_ros.recording.bag_metadata import METADATA_NAME, SplitFile, Topic, metadata_text, qos_text
from saferule_ros.recording.definitions import installed_definition
from saferule_ros.recording.errors import BagError
from saferule_ros.recording.messages import ACTION_TYPE, OBSERVATION_TYPE, RawMessage
from saferule_ros.workspace import check_name

# Name of the MCAP metadata record that says what episode a file holds.
EPISODE_RECORD = "saferule_ros.episode"


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

    Raises:
        BagError: the folder is there already or cannot be made.
        WorkspaceError: its name is not a safe one.
    """

    def __init__(
        self,
        folder: Path | str,
        topics: Sequence[Topic],
        recorded_by: str = "",
        ros_distro: str | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.bag_id = check_name(self.folder.name, "bag id")
        self._topics = {topic.name: topic for topic in topics}
        self._custom = {"saferule_ros.recorded_by": recorded_by}
        self._ros_distro = os.environ.get("ROS_DISTRO", "") if ros_distro is None else ros_distro
        self._files: list[SplitFile] = []
        try:
            self.folder.mkdir(parents=True)
            self._write_metadata(self._files)
            sync_folder(self.folder.parent)
        except FileExistsError as error:
            raise BagError(f"bag {str(self.folder)!r} is there already", "Give the new bag another id") from error
        except OSError as error:
            raise self._cannot_write(error) from error

    @property
    def summary(self) -> BagSummary:
        """What is durable at this moment."""
        return BagSummary(self.bag_id, self.folder, len(self._files), sum(file.messages for file in self._files))

    def write_episode(self, messages: Sequence[RawMessage], facts: Mapping[str, str]) -> Path:
        """Adds one file. When this returns, the file, its name and the metadata are on disk.

        Args:
            messages: everything that was received for the episode. Written in the order of reception.
            facts: kept with the episode, see `AssembledEpisode.facts`.

        Returns:
            The file's path.

        Raises:
            BagError: no message, a topic that was not announced, or the disk refuses; the bag is as before.
        """
        self._check(messages)
        # A command may be received before the observation that it answers, and be matched with it later.
        ordered = sorted(messages, key=lambda message: message.log_time)
        path = self.folder / f"{self.bag_id}_{len(self._files)}.mcap"
        temporary = temporary_name(path)
        counts = Counter(message.topic for message in messages)
        files = [*self._files, SplitFile(path.name, ordered[0].log_time, ordered[-1].log_time, counts)]
        try:
            self._write_file(temporary, ordered, facts)
            os.rename(temporary, path)
            sync_folder(self.folder)
            self._write_metadata(files)
        except OSError as error:
            # A file that got its name stays: it is whole, metadata.yaml may name it already, and the next
            # episode takes the same name.
            temporary.unlink(missing_ok=True)
            raise self._cannot_write(error) from error
        self._files = files
        return path

    def _check(self, messages: Sequence[RawMessage]) -> None:
        if not messages:
            raise BagError("an episode without messages cannot be written", "Leave it out")
        unknown = {message.topic for message in messages} - self._topics.keys()
        if unknown:
            raise BagError(
                f"topic {min(unknown)!r} was not announced to bag {self.bag_id!r}",
                f"It was opened for {sorted(self._topics)}",
            )

    def _write_file(self, path: Path, messages: Sequence[RawMessage], facts: Mapping[str, str]) -> None:
        with open(path, "xb") as file:
            # Uncompressed, as rosbag2 by default: sensor floats hardly shrink, and CPU time is for control.
            writer = Writer(file, compression=CompressionType.NONE, enable_data_crcs=True)
            writer.start(profile="ros2", library="saferule_ros")
            channels = {}
            for topic in self._topics.values():
                definition = topic.definition
                schema = writer.register_schema(definition.type, "ros2msg", definition.text.encode())
                metadata = {"offered_qos_profiles": qos_text(), "topic_type_hash": definition.type_hash}
                channels[topic.name] = writer.register_channel(topic.name, "cdr", schema, metadata)
            for number, message in enumerate(messages):
                writer.add_message(
                    channel_id=channels[message.topic],
                    log_time=message.log_time,
                    publish_time=message.log_time,
                    sequence=number,
                    data=message.data,
                )
            writer.add_metadata(EPISODE_RECORD, dict(facts))
            writer.finish()
            file.flush()
            os.fsync(file.fileno())

    def _write_metadata(self, files: Sequence[SplitFile]) -> None:
        topics = list(self._topics.values())
        text = metadata_text(self.bag_id, topics, files, self._custom, self._ros_distro)
        write_atomically(self.folder / METADATA_NAME, text.encode())

    def _cannot_write(self, error: OSError) -> BagError:
        return BagError(
            f"bag {str(self.folder)!r} cannot be written: {error}",
            "Make room or give a folder that this user may write to; sealed episodes are safe",
        )
