"""One recording, from start to stop: which messages belong to it, and what has become of its episodes."""

from collections.abc import Callable

from saferule_ros.nodes.sealer import Sealed, Sealer
from saferule_ros.recording.assembler import EpisodeAssembler
from saferule_ros.recording.assembly import AssembledEpisode
from saferule_ros.recording.bag_writer import BagWriter
from saferule_ros.recording.cdr import decode_action, decode_observation
from saferule_ros.recording.errors import CdrError
from saferule_ros.recording.messages import RawMessage


class Recording:
    """Pairs messages into episodes and has them sealed. All but `on_sealed` runs in the node's thread.

    Args:
        writer: an open bag.
        on_sealed: called in the sealer's thread, once per episode, in their order.
    """

    def __init__(self, writer: BagWriter, on_sealed: Callable[[Sealed], None]) -> None:
        self.episodes = 0
        self.transitions = 0
        self.failed = 0
        self.messages = 0
        self.undecodable = 0
        self._assembler = EpisodeAssembler(writer.bag_id)
        self._on_sealed = on_sealed
        self._begun = False
        self._sealer = Sealer(writer, self._count)

    @property
    def bag_id(self) -> str:
        """Name of the bag."""
        return self._sealer.bag_id

    @property
    def path(self) -> str:
        """Folder of the bag."""
        return str(self._sealer.folder)

    @property
    def waiting(self) -> int:
        """Finished episodes that are not on disk yet."""
        return self._sealer.waiting

    @property
    def open_episodes(self) -> tuple[str, ...]:
        """Episodes that have begun and are not finished."""
        return self._assembler.open_episodes

    @property
    def lacks_commands(self) -> bool:
        """An episode has ended, but a command of it is missing still."""
        return self._assembler.is_waiting

    @property
    def strays(self) -> int:
        """Messages that belong to no episode."""
        return self._assembler.strays

    def observation(self, raw: RawMessage) -> None:
        """Takes one observation. Those before the first episode that begins are not recorded."""
        self.messages += 1
        try:
            message = decode_observation(raw.data)
        except CdrError:
            self.undecodable += 1
            return
        self._begun = self._begun or message.step == 0
        if self._begun:
            self._seal(self._assembler.observation(message, raw))

    def action(self, raw: RawMessage) -> None:
        """Takes one command."""
        self.messages += 1
        try:
            message = decode_action(raw.data)
        except CdrError:
            self.undecodable += 1
            return
        # Always, even before the first observation: the two topics may overtake each other.
        self._seal(self._assembler.action(message, raw))

    def give_up_missing_commands(self) -> None:
        """Finishes the episodes that have ended, as they are."""
        self._seal(self._assembler.finish_ended())

    def close(self) -> None:
        """Truncates what is open, and returns when everything is on disk."""
        self._seal(self._assembler.finish())
        self._sealer.close()

    def _seal(self, finished: list[AssembledEpisode]) -> None:
        for assembled in finished:
            self._sealer.seal(assembled)

    def _count(self, sealed: Sealed) -> None:
        if sealed.error:
            self.failed += 1
        elif sealed.assembled.episode:
            self.episodes += 1
            self.transitions += sealed.assembled.episode.length
        self._on_sealed(sealed)
