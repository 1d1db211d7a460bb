"""metadata.yaml of a rosbag2 folder, version 9 (what Jazzy and later write)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from saferule_ros.recording.definitions import MessageDefinition
from saferule_ros.recording.errors import BagError

METADATA_NAME = "metadata.yaml"
COMPRESSED = ".zstd"  # rosbag2's compression mode "file" adds it; message by message it is seen in each message
_VERSION = 9
_ROOT = "rosbag2_bagfile_information"
_BAG_ID = "saferule_ros.bag_id"

# How `observation` and `action` are published: `ros2 bag play` offers the same again.
_NO_LIMIT = {"sec": 9223372036, "nsec": 854775807}  # the middleware's "infinite": 2^63 - 1 ns
_QOS = {
    "history": "keep_last",
    "depth": 2048,
    "reliability": "reliable",
    "durability": "volatile",
    "deadline": _NO_LIMIT,
    "lifespan": _NO_LIMIT,
    "liveliness": "automatic",
    "liveliness_lease_duration": _NO_LIMIT,
    "avoid_ros_namespace_conventions": False,
}


@dataclass(frozen=True)
class Topic:
    """One topic of a bag: full name, with the leading slash, and type."""

    name: str
    definition: MessageDefinition


@dataclass(frozen=True)
class SplitFile:
    """One storage file of a bag. Times in nanoseconds since the epoch; `counts`: messages per topic name."""

    name: str
    start: int
    end: int
    counts: Mapping[str, int]

    @property
    def messages(self) -> int:
        """Number of messages in it."""
        return sum(self.counts.values())


# The parsers in C are ten times faster, and there wherever ROS is; a bag of thousands of files needs them.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Writes repeated parts out in full: rosbag2's own files hold no YAML anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def qos_text() -> str:
    """The QoS profiles of a topic as the YAML text that an MCAP channel carries."""
    return yaml.dump([_QOS], Dumper=_Dumper, sort_keys=False).strip()


def metadata_text(
    bag_id: str,
    topics: Sequence[Topic],
    files: Sequence[SplitFile],
    custom: Mapping[str, str],
    ros_distro: str,
) -> str:
    """The whole content of metadata.yaml for a bag of MCAP files."""
    start = min((file.start for file in files), default=0)
    end = max((file.end for file in files), default=0)
    content = {
        "version": _VERSION,
        "storage_identifier": "mcap",
        "duration": {"nanoseconds": end - start},
        "starting_time": {"nanoseconds_since_epoch": start},
        "message_count": sum(file.messages for file in files),
        "topics_with_message_count": [
            {
                "topic_metadata": {
                    "name": topic.name,
                    "type": topic.definition.type,
                    "serialization_format": "cdr",
                    "offered_qos_profiles": [_QOS],
                    "type_description_hash": topic.definition.type_hash,
                },
                "message_count": sum(file.counts.get(topic.name, 0) for file in files),
            }
            for topic in topics
        ],
        "compression_format": "",
        "compression_mode": "",
        "relative_file_paths": [file.name for file in files],
        "files": [
            {
                "path": file.name,
                "starting_time": {"nanoseconds_since_epoch": file.start},
                "duration": {"nanoseconds": file.end - file.start},
                "message_count": file.messages,
            }
            for file in files
        ],
        "custom_data": {_BAG_ID: bag_id, **custom},
        "ros_distro": ros_distro,
    }
    return yaml.dump({_ROOT: content}, Dumper=_Dumper, sort_keys=False)


@dataclass(frozen=True)
class BagDescription:
    """What metadata.yaml says that matters for reading.

    Attributes:
        bag_id: from our own recorder, else the folder's name.
        files: storage files in order.
        custom: what the recorder noted.
        counts: messages of each file, by its name without what compression adds to it; empty where it is not known.
        unwritten: messages that are in these counts and were never written.
    """

    bag_id: str
    files: tuple[Path, ...]
    custom: Mapping[str, str]
    counts: Mapping[str, int]
    unwritten: int = 0


def read_description(folder: Path) -> BagDescription:
    """Reads metadata.yaml of any version.

    Raises:
        BagError: there is none, or it is damaged.
    """
    path = folder / METADATA_NAME
    try:
        content = yaml.load(path.read_bytes(), Loader=_Loader)[_ROOT]
        names = [str(name) for name in content["relative_file_paths"]]
        custom = {str(key): str(value) for key, value in (content.get("custom_data") or {}).items()}
        # A bag that is compressed by file lists its files here as they were called before.
        counts = {
            uncompressed_name(str(entry["path"])): int(entry["message_count"]) for entry in content.get("files") or []
        }  # fmt: skip
        written = int(content["message_count"])
        if not counts and len(names) == 1:
            counts = {uncompressed_name(names[0]): written}
    except FileNotFoundError as error:
        raise BagError(
            f"{str(folder)!r} has no {METADATA_NAME}",
            f"Its recorder was killed or a copy is incomplete: `ros2 bag reindex -s mcap {folder}` makes it anew",
        ) from error
    except (OSError, yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BagError(
            f"{str(path)!r} cannot be understood: {type(error).__name__} {error}".replace("\n", " "),
            f"Delete it and let `ros2 bag reindex -s mcap {folder}` make it anew",
        ) from error
    # Only names in the folder itself: metadata of a foreign bag must not lead elsewhere.
    files = tuple(folder / Path(name).name for name in names)
    # The recorder counts by file what it receives, and in all what it writes: between them is its cache.
    unwritten = max(0, sum(counts.values()) - written)
    return BagDescription(custom.get(_BAG_ID) or folder.resolve().name, files, custom, counts, unwritten)


def uncompressed_name(path: str) -> str:
    """Name of a storage file as it was before it was compressed as a whole."""
    return Path(path).name.removesuffix(COMPRESSED)
