"""One bag of a recording: its open episodes, with their journal, and what has become of the others."""

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial

from saferule_ros.nodes.sealer import Sealed
from saferule_ros.recording.bag_writer import BagWriter
from saferule_ros.recording.journal import Journal
from saferule_ros.recording.messages import RawMessage


class OpenBag:
    """Belongs to the node's thread, all but `count`.

    Args:
        writer: an open bag.

    Attributes:
        begun: episodes that began in it.
        episodes: that are sealed, with at least one whole transition.
        transitions: in them.
        journal_problem: why its open episodes are not on disk; empty if they are.
    """

    def __init__(self, writer: BagWriter) -> None:
        self.writer = writer
        self.begun = self.episodes = self.transitions = 0
        self.journal_problem = ""
        self._journal = Journal(writer.folder, writer.topics)
        self._open: dict[str, None] = {}  # oldest first
        self._leaving = 0  # episodes that are finished, and whose end the journal has not been told
        self._left: deque[Sealed] = deque()  # from the sealer's thread
        self._only_in_journal: set[str] = set()  # could not be sealed

    @property
    def has_open(self) -> bool:
        """Whether an episode of it has begun and is not finished."""
        return bool(self._open)

    @property
    def is_idle(self) -> bool:
        """Whether nothing of it is open, or on its way to the disk."""
        return not self._open and not self._leaving

    def begin(self, episode_id: str, before: Iterable[RawMessage]) -> None:
        """An episode begins.

        Args:
            episode_id: its name.
            before: what was received of it already: commands that overtook their observations.
        """
        self.begun += 1
        self._open[episode_id] = None
        self.journal_problem = ""
        self._with_journal(partial(self._journal.begin, tuple(self._open)))
        for raw in before:
            self.keep(raw)

    def keep(self, raw: RawMessage) -> None:
        """A message that may be of an open episode goes into the journal."""
        self._with_journal(partial(self._journal.add, raw))

    def finish(self, episode_id: str) -> None:
        """An episode is finished, and goes to the sealer."""
        self._open.pop(episode_id, None)
        self._leaving += 1

    def drop(self, episode_id: str) -> None:
        """An episode is finished, and there is nothing to seal of it: as if it had not begun."""
        if self._open.pop(episode_id, episode_id) is None:
            self.begun -= 1
        if episode_id not in self._only_in_journal:
            self._with_journal(partial(self._journal.sealed, episode_id))

    def count(self, sealed: Sealed) -> None:
        """In the sealer's thread: what became of it."""
        if not sealed.error and sealed.assembled.episode:
            self.episodes += 1
            self.transitions += sealed.assembled.episode.length
        self._left.append(sealed)

    def tend(self) -> None:
        """Hands open episodes to the operating system, and forgets those that are sealed."""
        self._with_journal(self._journal.flush)
        while self._left:
            sealed = self._left.popleft()
            self._leaving -= 1
            episode_id = sealed.assembled.episode_id
            if sealed.error:
                self._only_in_journal.add(episode_id)
            elif episode_id not in self._only_in_journal:  # its id may be used once more
                self._with_journal(partial(self._journal.sealed, episode_id))

    def close(self) -> None:
        """The end: of the journal stays what could not be sealed."""
        self._with_journal(self._journal.close)

    def _with_journal(self, act: Callable[[], None]) -> None:
        """The journal is a help; where it cannot be written, recording goes on without."""
        try:
            act()
        except OSError as error:
            self.journal_problem = f"open episodes would not survive a kill: {error}"
