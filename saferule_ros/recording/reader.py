"""Bags back to episodes, through the same assembler that recorded them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from saferule_ros.dataset.durable import TEMPORARY_PREFIX
from saferule_ros.dataset.episode import Episode
from saferule_ros.recording.assembler import EpisodeAssembler
from saferule_ros.recording.assembly import AssembledEpisode, Faults
from saferule_ros.recording.bag_metadata import read_description
from saferule_ros.recording.cdr import decode_action, decode_observation
from saferule_ros.recording.errors import BagError, CdrError
from saferule_ros.recording.mcap_file import McapFile
from saferule_ros.recording.messages import ACTION_TYPE, OBSERVATION_TYPE


@dataclass(frozen=True)
class BagContent:
    """All that one bag holds.

    Attributes:
        bag_id: its id.
        episodes: what can be learned from.
        incomplete: episodes of which not one whole transition is there.
        faults: sum over all episodes.
        messages: of our types, decoded.
        malformed: messages that are no CDR of their type; their ticks are lost.
        strays: messages that belong to no episode.
    """

    bag_id: str
    episodes: tuple[Episode, ...]
    incomplete: tuple[AssembledEpisode, ...]
    faults: Faults
    messages: int
    malformed: int
    strays: int


def read_bag(folder: Path | str) -> list[Episode]:
    """The episodes of a bag, in the order of recording. See `read_bag_content` for the errors."""
    return list(read_bag_content(folder).episodes)


def read_bag_content(folder: Path | str) -> BagContent:
    """Reads a rosbag2 folder of MCAP files, by our recorder or by `ros2 bag record`.

    A file that our recorder finished, but was killed before it could name it in metadata.yaml, is read too.

    Raises:
        BagError: missing, damaged, without our topics, with several of one type, or an episode is not what
            its digest says.
    """
    description = read_description(Path(folder))
    reading = _Reading(Path(folder), description.bag_id)
    for path in (*description.files, *_finished_unnamed(Path(folder), description.files)):
        reading.read(path)
    return reading.content()


def _finished_unnamed(folder: Path, named: Iterable[Path]) -> list[Path]:
    """Files with a final name that metadata.yaml does not list. At most the last one of a killed recorder."""
    known = {path.name for path in named}
    found = [path for path in folder.glob("*.mcap") if not path.name.startswith(TEMPORARY_PREFIX)]
    return sorted(path for path in found if path.name not in known)


class _Reading:
    """The state of going through the files of one bag."""

    def __init__(self, folder: Path, bag_id: str) -> None:
        self._folder, self._bag_id = folder, bag_id
        self._assembler = EpisodeAssembler(bag_id)
        self._topics: dict[str, str] = {}
        self._names = {OBSERVATION_TYPE: "", ACTION_TYPE: ""}
        self._assembled: list[AssembledEpisode] = []
        self._messages = self._malformed = 0

    def read(self, path: Path) -> None:
        file = McapFile(path)
        before = len(self._assembled)
        for topic, type_name, data in file.messages():
            self._messages += 1
            if self._names[type_name] != topic:
                self._note_topic(type_name, topic)
            try:
                if type_name == OBSERVATION_TYPE:
                    self._assembled += self._assembler.observation(decode_observation(data))
                else:
                    self._assembled += self._assembler.action(decode_action(data))
            except CdrError:
                self._malformed += 1
        self._topics.update(file.topics)
        if file.episode:
            self._assembled += self._assembler.finish()
            _check_recorded(path, file.episode, self._assembled[before:])

    def content(self) -> BagContent:
        if not self._messages and self._topics and not set(self._names) & set(self._topics.values()):
            listed = ", ".join(f"{topic} ({kind})" for topic, kind in sorted(self._topics.items()))
            raise BagError(
                f"bag {str(self._folder)!r} has no topic of type {OBSERVATION_TYPE}; it holds {listed}",
                "Record the `observation` and `action` topics of robot_bridge or sim_bridge",
            )
        self._assembled += self._assembler.finish()
        # Messages are only kept for the recorder; here they were not handed in.
        incomplete = tuple(replace(a, messages=()) for a in self._assembled if a.episode is None)
        return BagContent(
            bag_id=self._bag_id,
            episodes=tuple(a.episode for a in self._assembled if a.episode is not None),
            incomplete=incomplete,
            faults=sum((a.faults for a in self._assembled), Faults()),
            messages=self._messages,
            malformed=self._malformed,
            strays=self._assembler.strays,
        )

    def _note_topic(self, type_name: str, topic: str) -> None:
        if self._names[type_name]:
            raise BagError(
                f"bag {str(self._folder)!r} has two topics of type {type_name}: "
                f"{self._names[type_name]!r} and {topic!r}",
                "Keep one robot per bag: `ros2 bag convert` can split it",
            )
        self._names[type_name] = topic


def _check_recorded(path: Path, recorded: Mapping[str, str], found: list[AssembledEpisode]) -> None:
    """What our recorder acknowledged must come out again, to the bit."""
    digests = [assembled.episode.digest for assembled in found if assembled.episode is not None]
    digest = recorded.get("digest")
    if digests != ([digest] if digest else []):
        raise BagError(
            f"{str(path)!r} does not hold what was recorded: episode {recorded.get('episode_id')!r} with digest "
            f"{digest or 'none'}, but reading gives {digests or 'no episode'}",
            "The file was changed after it was recorded: restore it from a copy, or leave this bag out",
        )
