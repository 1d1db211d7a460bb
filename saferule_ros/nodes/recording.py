"""One recording, from start to stop: which messages belong to it, and what has become of its episodes."""

import shutil
import time
from collections import deque
from collections.abc import Callable
from functools import partial

from saferule_ros.nodes.sealer import Sealed, Sealer
from saferule_ros.recording.assembler import EpisodeAssembler
from saferule_ros.recording.assembly import AssembledEpisode
from saferule_ros.recording.bag_writer import BagWriter
from saferule_ros.recording.cdr import decode_action, decode_observation
from saferule_ros.recording.errors import CdrError
from saferule_ros.recording.journal import Journal
from saferule_ros.recording.messages import ObservationMessage, RawMessage

# Messages of an open episode are with the operating system after so long [s]: what a kill can cost of it.
FLUSH_PERIOD = 0.05
# The disk's free space is looked at this often [s], and at the beginning of an episode.
LOOK_PERIOD = 1.0


class Recording:
    """Pairs messages into episodes and has them sealed. All but `on_sealed` runs in the node's thread.

    Args:
        writer: an open bag.
        on_sealed: called in the sealer's thread, once per episode, in their order.
        min_free: with less free space on the disk, no new episode is taken [bytes].

    Attributes:
        not_taken: episodes that were not taken because the disk is nearly full.
        journal_problem: why open episodes are not on disk; empty if they are.
    """

    def __init__(self, writer: BagWriter, on_sealed: Callable[[Sealed], None], min_free: int = 0) -> None:
        self.not_taken = 0
        self.journal_problem = ""
        self._min_free = min_free
        self._free, self._looked = 0, -LOOK_PERIOD
        self._refused_id = ""
        self._journal = Journal(writer.folder, writer.topics)
        self._flushed = 0.0
        self._sealed: deque[str] = deque()
        self.episodes = 0
        self.transitions = 0
        self.failed = 0
        self.messages = 0
        self.undecodable = 0
        self._assembler = EpisodeAssembler(writer.bag_id, writer.folder)
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
    def held(self) -> int:
        """Messages of open episodes in memory."""
        return self._assembler.held

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
        if self._begun and self._takes(message):
            self._keep(raw)
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
        self._keep(raw)
        self._seal(self._assembler.action(message, raw))

    def give_up_missing_commands(self) -> None:
        """Finishes the episodes that have ended, as they are."""
        self._seal(self._assembler.finish_ended())

    def close(self) -> None:
        """Truncates what is open, and returns when everything is on disk."""
        self._seal(self._assembler.finish())
        self._sealer.close()
        self.tend()
        self._with_journal(self._journal.close)

    def tend(self) -> None:
        """To be called regularly: hands open episodes to the disk, and forgets those that are sealed."""
        now = time.monotonic()
        self._flushed = now
        self._with_journal(self._journal.flush)
        while self._sealed:
            episode_id = self._sealed.popleft()
            self._with_journal(partial(self._journal.sealed, episode_id))

    @property
    def disk_problem(self) -> str:
        """Why no new episode is taken; empty if they are."""
        now = time.monotonic()
        if now - self._looked >= LOOK_PERIOD:
            self._free, self._looked = shutil.disk_usage(self._sealer.folder.parent).free, now
        if self._free >= self._min_free:
            return ""
        return (
            f"the disk is nearly full: {self._free // 2**20} MiB are free, min_free_space is "
            f"{self._min_free // 2**20} MiB; no new episode is taken, and nothing is deleted"
        )

    def _takes(self, message: ObservationMessage) -> bool:
        """Whether this observation's episode is taken. One that has begun is taken to its end."""
        known = message.episode_id in self._assembler.open_episodes
        if known or message.step:
            return message.episode_id != self._refused_id
        if self.disk_problem:
            self.not_taken += message.episode_id != self._refused_id
            self._refused_id = message.episode_id
            return False
        episodes = [*self._assembler.open_episodes, message.episode_id]
        self._with_journal(partial(self._journal.begin, episodes))
        return True

    def _keep(self, raw: RawMessage) -> None:
        self._with_journal(partial(self._journal.add, raw))
        if time.monotonic() - self._flushed > FLUSH_PERIOD:
            self.tend()

    def _with_journal(self, act: Callable[[], None]) -> None:
        """The journal is a help; where it cannot be written, recording goes on without."""
        try:
            act()
        except OSError as error:
            self.journal_problem = f"open episodes would not survive a kill: {error}"

    def _seal(self, finished: list[AssembledEpisode]) -> None:
        for assembled in finished:
            self._sealer.seal(assembled)

    def _count(self, sealed: Sealed) -> None:
        if sealed.error:
            self.failed += 1
        elif sealed.assembled.episode:
            self.episodes += 1
            self.transitions += sealed.assembled.episode.length
        if not sealed.error:  # otherwise the journal is all that is left of it
            self._sealed.append(sealed.assembled.episode_id)
        self._on_sealed(sealed)
