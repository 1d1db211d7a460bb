"""One recording, from start to stop: which messages belong to it, and what has become of its episodes."""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass

from saferule_ros.errors import SaferuleError
from saferule_ros.nodes.open_bag import OpenBag
from saferule_ros.nodes.sealer import Sealed, Sealer
from saferule_ros.recording.assembler import EpisodeAssembler
from saferule_ros.recording.assembly import AssembledEpisode
from saferule_ros.recording.bag_writer import BagWriter
from saferule_ros.recording.cdr import decode_action, decode_observation
from saferule_ros.recording.errors import CdrError
from saferule_ros.recording.messages import ObservationMessage, RawMessage

# Messages of an open episode are with the operating system after so long [s]: what a kill can cost of it.
FLUSH_PERIOD = 0.05
# The disk's free space is looked at this often [s], and at the beginning of an episode.
LOOK_PERIOD = 1.0


@dataclass(frozen=True)
class BagSeries:
    """A recording that goes on in the next bag after so many episodes.

    Attributes:
        episodes: that begin in one bag.
        next_writer: opens the next one; raises SaferuleError or OSError where that is impossible.
    """

    episodes: int
    next_writer: Callable[[], BagWriter]


class Recording:
    """Pairs messages into episodes and has them sealed. All but `on_sealed` runs in the node's thread.

    An episode is of the bag in which it begins, wherever its messages lie in the stream: where the next bag begins,
    that of the episodes before goes on until they are sealed. One assembler and one sealer go through all bags, so that
    nothing is lost or changes its order in between.

    Args:
        writer: an open bag.
        on_sealed: called in the sealer's thread, once per episode, in their order.
        min_free: with less free space on the disk, no new episode is taken [bytes].
        series: when the next bag begins, and how; None: all is one bag.

    Attributes:
        not_taken: episodes that were not taken because the disk is nearly full.
        empty: episodes of which nothing is written, as they were no more than an observation: a robot that is parked
            at its goal, or that nobody commands, begins one with each.
        bags: bags that were begun.
        bag_problem: why the next bag could not be begun, where one was due; empty if it could.
        failed: episodes that could not be written, of all bags.
        messages: that were received.
        undecodable: of these.
    """

    def __init__(
        self,
        writer: BagWriter,
        on_sealed: Callable[[Sealed], None],
        min_free: int = 0,
        series: BagSeries | None = None,
    ) -> None:
        self.not_taken = self.empty = 0
        self.bags = 1
        self.bag_problem = ""
        self.failed = self.messages = self.undecodable = 0
        self._series = series
        self._min_free = min_free
        self._free, self._looked, self._unknown = 0, -LOOK_PERIOD, ""
        self._refused_id = ""
        self._flushed = 0.0
        self._bag = OpenBag(writer)
        self._bags = {writer.bag_id: self._bag}  # the newest last; those before as long as an episode of them is open
        self._bag_of: dict[str, OpenBag] = {}  # of open episodes
        self._assembler = EpisodeAssembler(writer.bag_id, writer.folder)
        self._on_sealed = on_sealed
        self._begun = False
        self._sealer = Sealer(self._count)

    @property
    def bag_id(self) -> str:
        """Name of the newest bag."""
        return self._bag.writer.bag_id

    @property
    def path(self) -> str:
        """Folder of the newest bag."""
        return str(self._bag.writer.folder)

    @property
    def episodes(self) -> int:
        """Sealed episodes of the newest bag."""
        return self._bag.episodes

    @property
    def transitions(self) -> int:
        """Transitions in them."""
        return self._bag.transitions

    @property
    def waiting(self) -> int:
        """Finished episodes that are not on disk yet."""
        return self._sealer.waiting

    @property
    def untold(self) -> int:
        """Episodes of which `on_sealed` could not tell what became of them."""
        return self._sealer.untold

    @property
    def untold_problem(self) -> str:
        """The last of them, and why; empty if there is none."""
        return self._sealer.untold_problem

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

    @property
    def journal_problem(self) -> str:
        """Why open episodes are not on disk; empty if they are."""
        return self._bag.journal_problem

    def observation(self, raw: RawMessage) -> None:
        """Takes one observation. Those before the first episode that begins are not recorded."""
        self.messages += 1
        try:
            message = decode_observation(raw.data)
        except CdrError:
            self.undecodable += 1
            return
        self._begun = self._begun or message.step == 0
        if not self._begun or not self._takes(message):
            return
        if self._assembler.is_new(message.episode_id):
            self._open(message)
        if message.episode_id in self._bag_of:
            self._bag_of[message.episode_id].keep(raw)
            self._flush_when_due()
        self._seal(self._assembler.observation(message, raw))

    def action(self, raw: RawMessage) -> None:
        """Takes one command."""
        self.messages += 1
        try:
            message = decode_action(raw.data)
        except CdrError:
            self.undecodable += 1
            return
        # It may be of any open episode. Where none is open nothing is written: the episode may never be taken. As the
        # two topics may overtake each other, its command waits in the assembler, and is kept when it begins.
        for bag in self._bags.values():
            if bag.has_open:
                bag.keep(raw)
        self._flush_when_due()
        self._seal(self._assembler.action(message, raw))

    def give_up_missing_commands(self) -> None:
        """Finishes the episodes that have ended, as they are."""
        self._seal(self._assembler.finish_ended())

    def close(self) -> None:
        """Truncates what is open, and returns when everything is on disk."""
        self._seal(self._assembler.finish())
        self._sealer.close()
        self.tend()
        for bag in self._bags.values():
            bag.close()

    def tend(self) -> None:
        """To be called regularly: hands open episodes to the disk, and forgets those that are sealed."""
        self._flushed = time.monotonic()
        for bag in tuple(self._bags.values()):
            bag.tend()
            if bag is not self._bag and bag.is_idle:
                bag.close()
                del self._bags[bag.writer.bag_id]

    @property
    def disk_problem(self) -> str:
        """Why no new episode is taken; empty if they are."""
        now = time.monotonic()
        if now - self._looked >= LOOK_PERIOD:
            self._look()
            self._looked = now
        if self._unknown:
            return f"it is not known how much of the disk is free: {self._unknown}; no new episode is taken"
        if self._free >= self._min_free:
            return ""
        return (
            f"the disk is nearly full: {self._free // 2**20} MiB are free, min_free_space is "
            f"{self._min_free // 2**20} MiB; no new episode is taken, and nothing is deleted"
        )

    def _look(self) -> None:
        try:
            self._free, self._unknown = shutil.disk_usage(self._bag.writer.folder.parent).free, ""
        except OSError as error:  # the folder is gone, or its mount
            self._unknown = str(error)

    def _takes(self, message: ObservationMessage) -> bool:
        """Whether this observation is taken. An episode that has begun is taken to its end."""
        if message.episode_id in self._bag_of:
            return True
        if message.step and message.episode_id == self._refused_id:
            return False
        # What is of no episode any more costs no room; an id that is used once more does.
        if (self._assembler.is_new(message.episode_id) or message.step == 0) and self.disk_problem:
            self.not_taken += message.episode_id != self._refused_id
            self._refused_id = message.episode_id
            return False
        return True

    def _open(self, message: ObservationMessage) -> None:
        if self._series is not None and self._bag.begun >= self._series.episodes:
            self._go_on_in_next_bag(self._series)
        self._bag_of[message.episode_id] = self._bag
        self._bag.begin(message.episode_id, self._assembler.waiting_from(message.sequence - message.step))

    def _go_on_in_next_bag(self, series: BagSeries) -> None:
        """Where that is impossible, this one goes on, and the next episode tries again."""
        try:
            writer = series.next_writer()
        except (SaferuleError, OSError) as error:
            self.bag_problem = f"the next bag cannot be begun: {error}; meanwhile {self.bag_id} goes on"
            return
        self.bag_problem = ""
        self.bags += 1
        self._bag = self._bags[writer.bag_id] = OpenBag(writer)
        self._assembler.next_bag(writer.bag_id, writer.folder)

    def _flush_when_due(self) -> None:
        if time.monotonic() - self._flushed > FLUSH_PERIOD:
            self.tend()

    def _seal(self, finished: list[AssembledEpisode]) -> None:
        for assembled in finished:
            # One whose id was used before was never opened.
            bag = self._bag_of.pop(assembled.episode_id, self._bag)
            if assembled.empty:
                self.empty += 1
                bag.drop(assembled.episode_id)
                continue
            bag.finish(assembled.episode_id)
            self._sealer.seal(bag.writer, assembled)

    def _count(self, sealed: Sealed) -> None:
        self.failed += bool(sealed.error)
        self._bags[sealed.bag_id].count(sealed)
        self._on_sealed(sealed)
