"""The recorder without ROS: serialized messages in, durable episodes out."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from saferule_ros.recording.assembler import EpisodeAssembler
from saferule_ros.recording.assembly import AssembledEpisode
from saferule_ros.recording.bag_writer import BagSummary, BagWriter
from saferule_ros.recording.cdr import decode_action, decode_observation
from saferule_ros.recording.errors import CdrError
from saferule_ros.recording.messages import RawMessage


@dataclass(frozen=True)
class RecordedEpisode:
    """An episode that is on disk, or one that held nothing to record.

    Attributes:
        assembled: the episode and what was wrong with it.
        bag_id: bag that holds it.
        file: where it is; None if `assembled.episode` is None: then nothing was written.
    """

    assembled: AssembledEpisode
    bag_id: str
    file: Path | None


class EpisodeRecorder:
    """Feeds an assembler, and writes each finished episode to the bag before it hands it out.

    Not safe for use from several threads at once.

    Attributes:
        malformed: messages that could not be decoded.
        transitions: of the episodes on disk.

    Args:
        writer: the bag; open until `stop`.
    """

    def __init__(self, writer: BagWriter) -> None:
        self.malformed = 0
        self.transitions = 0
        self._writer = writer
        self._assembler = EpisodeAssembler(writer.bag_id)

    @property
    def bag(self) -> BagSummary:
        """What is on disk."""
        return self._writer.summary

    @property
    def strays(self) -> int:
        """Messages that belong to no episode."""
        return self._assembler.strays

    @property
    def is_waiting(self) -> bool:
        """True if an episode has ended but a command of it is missing: call `finish_ended` after a while."""
        return self._assembler.is_waiting

    def observation(self, message: RawMessage) -> list[RecordedEpisode]:
        """Takes one serialized msg/Observation.

        Returns:
            The episodes that are finished by it and on disk.

        Raises:
            CdrError: the bytes are no Observation; counted, and otherwise without effect.
            BagError: the disk refuses. The episode is lost; those that are on disk stay.
        """
        try:
            decoded = decode_observation(message.data)
        except CdrError:
            self.malformed += 1
            raise
        return self._write(self._assembler.observation(decoded, message))

    def action(self, message: RawMessage) -> list[RecordedEpisode]:
        """Takes one serialized msg/Action; the rest as for `observation`."""
        try:
            decoded = decode_action(message.data)
        except CdrError:
            self.malformed += 1
            raise
        return self._write(self._assembler.action(decoded, message))

    def finish_ended(self) -> list[RecordedEpisode]:
        """Gives up waiting for commands of episodes that have ended."""
        return self._write(self._assembler.finish_ended())

    def stop(self) -> list[RecordedEpisode]:
        """Finishes what is open, as truncated."""
        return self._write(self._assembler.finish())

    def _write(self, finished: Iterable[AssembledEpisode]) -> list[RecordedEpisode]:
        return [self._recorded(assembled) for assembled in finished]

    def _recorded(self, assembled: AssembledEpisode) -> RecordedEpisode:
        episode = assembled.episode
        if episode is None:
            return RecordedEpisode(assembled, self._writer.bag_id, None)
        # A command may be received before the observation that it answers, and be matched later.
        messages = sorted(assembled.messages, key=lambda message: message.log_time)
        facts = {"id": episode.id, "digest": episode.digest, "length": str(episode.length)}
        file = self._writer.write_episode(messages, facts)
        self.transitions += episode.length
        return RecordedEpisode(assembled, self._writer.bag_id, file)
