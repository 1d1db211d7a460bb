"""Bags back to episodes, through the same assembler that recorded them: whole ones, and what is left of others."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

from saferule_ros.dataset.episode import Episode
from saferule_ros.recording.assembler import EpisodeAssembler
from saferule_ros.recording.assembly import AssembledEpisode, Faults
from saferule_ros.recording.bag_files import find_bag, open_scan
from saferule_ros.recording.bag_writer import CONTINUED, EPISODE_RECORD, LIBRARY, RECORDED_BY
from saferule_ros.recording.errors import BagError
from saferule_ros.recording.journal import is_being_written
from saferule_ros.recording.messages import ObservationMessage, RawMessage
from saferule_ros.recording.own_messages import Messages, OwnMessages, Translation
from saferule_ros.recording.reception_order import ReceptionOrder
from saferule_ros.recording.scan import Scan, TopicInfo, batches
from saferule_ros.recording.ticks import Ticks


class BagReading:
    """Goes through a bag once, from its first message to the last. No more is in memory than the newest ticks.

    Args:
        place: a rosbag2 folder, or a single storage file.
        translation: what its messages mean; by default our own two topics.
        folder: on whose disk long episodes go while they are read; None: the system's folder for temporary files.
        on_share: told now and then what share of the bag's messages was read, where its metadata tell their number.

    Attributes:
        bag_id: its id.
        incomplete: episodes of which not one whole transition is there: id -> why.
        refused: files whose episode is not what its recorder acknowledged: name -> why. Nothing is taken of them.
        recovered_episodes: ids of those that the recorder had not sealed when it was killed; they are truncated.
        remains: ids of episodes that may be less than what was recorded, as a file of theirs is damaged or missing, or
            that a killed recorder may not have acknowledged.
        problems: what is missing or damaged, in words.
        faults: sum over all episodes.
        messages: that were read, of all topics.
        lost: messages that are known to be missing: of damaged places, and of files that are shorter than recorded.
        topics: of the bag.

    Raises:
        BagError: there is no bag.
    """

    def __init__(
        self, place: Path | str, translation: Translation | None = None, folder: Path | None = None,
        on_share: Callable[[float], None] = lambda _: None,
    ) -> None:  # fmt: skip
        self._files = find_bag(Path(place))
        self._on_share = on_share
        self._translation = translation or OwnMessages()
        self._translation.begin_bag(self._files.bag_id)
        self._recorded_by = self._files.custom.get(RECORDED_BY, "")
        self._ids: set[str] = set()
        self._held: list[AssembledEpisode] = []
        self._damaged = False
        self._goes_on = False  # the last file of our own ended within an episode
        self._folder = folder
        self._assembler = EpisodeAssembler(self._files.bag_id, folder)
        self._order = ReceptionOrder()
        self.bag_id = self._files.bag_id
        self.incomplete: dict[str, str] = {}
        self.refused: dict[str, str] = {}
        self.recovered_episodes: list[str] = []
        self.remains: set[str] = set()
        self.problems = list(self._files.problems)
        self.faults = Faults()
        self.messages = self.lost = 0
        self.topics: dict[str, TopicInfo] = {}

    @property
    def malformed(self) -> int:
        """Messages that are no CDR of their type; their ticks are lost."""
        return self._translation.malformed

    @property
    def used(self) -> int:
        """Messages of the topics that matter."""
        return self._translation.used

    @property
    def ticks(self) -> Ticks:
        """What became of the contract's ticks."""
        return self._translation.ticks

    @property
    def strays(self) -> int:
        """Messages that belong to no episode."""
        return self._assembler.strays

    @property
    def complete(self) -> bool:
        """True if nothing was lost, refused or left out on the way."""
        harmless = Faults(duplicated=self.faults.duplicated, out_of_order=self.faults.out_of_order)
        wrong = (
            self.incomplete, self.refused, self.recovered_episodes, self.problems, self.malformed, self.lost,
            self.ticks.lost,
        )  # fmt: skip
        return self.faults == harmless and not any(wrong)

    def episodes(self) -> Iterator[Episode]:
        """The episodes in the order of recording; to be exhausted once, after which the attributes are complete.

        Raises:
            BagError: without the topics that are read, with several of one type, or another version of them.
        """
        for path in self._files.files:
            with open_scan(path) as scan:
                yield from self._file(path, scan)
        for batch in batches(self._order.rest()):
            yield from self._accept(self._assembled(self._assembler, self._translation.take(batch, self.topics)))
        yield from self._accept(self._assembled(self._assembler, self._translation.finish()))
        open_at_end, self._held = [*self._held, *self._assembler.finish()], []
        if self._goes_on:
            self.remains.update(assembled.episode_id for assembled in open_at_end)
        yield from self._accept(open_at_end)
        for path in self._files.journals:
            yield from self._journal(path)
        why = "" if self.used or self.problems else self._translation.explain(self.topics)
        if why:
            raise BagError(
                f"nothing in bag {self.bag_id!r} can be used: {why}",
                "Give a contract that says what they mean, and try it: saferule contract check FILE --bag BAG",
            )

    def _file(self, path: Path, scan: Scan) -> Iterator[Episode]:
        before = set(self._ids)
        for batch in batches(self._in_order(scan)):
            self.topics.update(scan.topics)
            self._tell(scan)
            found = self._assembled(self._assembler, self._translation.take(batch, self.topics))
            if scan.library == LIBRARY:  # one episode: not before it is known whether it is what was acknowledged
                self._held += found
            else:
                yield from self._accept(found)
        self.topics.update(scan.topics)
        self._note(path, scan)
        if scan.damage:
            found_here = {*(self._ids - before), *(assembled.episode_id for assembled in self._held)}
            self.remains |= found_here | set(self._assembler.open_episodes)
        record = scan.records.get(EPISODE_RECORD, {})
        self._goes_on = scan.library == LIBRARY and CONTINUED in record
        if scan.library != LIBRARY or self._goes_on:
            return
        held, self._held = [*self._held, *self._assembler.finish()], []
        problem = "" if self._damaged else _difference(record, held)
        self._damaged = False
        if problem:
            self.refused[path.name] = problem
            self._ids.update(assembled.episode_id for assembled in held)
        else:
            yield from self._accept(held)

    def _tell(self, scan: Scan) -> None:
        expected = sum(self._files.expected.values())
        if expected:
            self._on_share(min(1.0, (self.messages + scan.recovered) / expected))

    def _in_order(self, scan: Scan) -> Iterator[RawMessage]:
        """Our own recorder's files are in the order of reception, and must give the very episodes of that order."""
        messages = scan.messages()
        first = next(messages, None)  # with it, the file has said who wrote it
        if first is not None:
            every = chain([first], messages)
            yield from every if scan.library == LIBRARY else self._order.sort(every)

    def _journal(self, path: Path) -> Iterator[Episode]:
        """Episodes that a killed recorder had begun: what it had received of them."""
        if is_being_written(path):
            return
        assembler = EpisodeAssembler(self.bag_id, self._folder)
        with open_scan(path) as scan:
            for batch in batches(scan.messages()):
                for assembled in self._assembled(assembler, self._translation.take(batch, scan.topics)):
                    yield from self._recover(assembled)
        self.messages += scan.recovered
        for assembled in assembler.finish():
            yield from self._recover(assembled)

    def _recover(self, assembled: AssembledEpisode) -> Iterator[Episode]:
        # Sealed or not: it may have been killed between the file and the manifest.
        self.remains.add(assembled.episode_id)
        if assembled.episode_id in self._ids:  # sealed, or in an earlier file of the journal
            return
        self.recovered_episodes.append(assembled.episode_id)
        yield from self._accept([assembled])

    def _assembled(self, assembler: EpisodeAssembler, messages: Messages) -> list[AssembledEpisode]:
        found: list[AssembledEpisode] = []
        for message in messages:
            if isinstance(message, ObservationMessage):
                found += assembler.observation(message)
            else:
                found += assembler.action(message)
        return found

    def _accept(self, assembled: Iterable[AssembledEpisode]) -> Iterator[Episode]:
        for one in assembled:
            self._ids.add(one.episode_id)
            self.faults += one.faults
            if one.episode is None:
                self.incomplete[one.episode_id] = one.message
            else:
                yield replace(one.episode, recorded_by=self._recorded_by)

    def _note(self, path: Path, scan: Scan) -> None:
        self.messages += scan.recovered
        self.problems += scan.damage
        self._damaged |= bool(scan.damage)
        given = self._files.expected_of(path)
        expected = given if given is not None else scan.expected or 0
        self.lost += max(scan.lost, expected - scan.recovered)


@dataclass(frozen=True)
class BagContent:
    """All that one bag holds, in memory: see `BagReading` for what the attributes mean."""

    bag_id: str
    episodes: tuple[Episode, ...]
    incomplete: Mapping[str, str]
    faults: Faults
    messages: int
    malformed: int
    strays: int
    problems: tuple[str, ...] = ()
    lost: int = 0
    refused: Mapping[str, str] = field(default_factory=dict)
    recovered_episodes: tuple[str, ...] = ()
    complete: bool = True
    ticks: Ticks = field(default_factory=Ticks)


def read_bag(place: Path | str) -> list[Episode]:
    """The episodes of a bag, in the order of recording.

    Raises:
        BagError: there is none, or a file in it is damaged or was changed: see `read_bag_content` for what is left.
    """
    content = read_bag_content(place)
    wrong = [*content.problems, *content.refused.values()]
    if wrong:
        raise BagError(f"bag {str(place)!r} is damaged: {wrong[0]}", "`saferule data ingest` takes what is left of it")
    return list(content.episodes)


def read_bag_content(place: Path | str, translation: Translation | None = None) -> BagContent:
    """Reads all of a bag.

    Raises:
        BagError: there is none, it has other topics, several of one type, or another version of them.
    """
    reading = BagReading(place, translation)
    episodes = tuple(reading.episodes())
    return BagContent(
        bag_id=reading.bag_id, episodes=episodes, incomplete=reading.incomplete, faults=reading.faults,
        messages=reading.used, malformed=reading.malformed, strays=reading.strays, problems=tuple(reading.problems),
        lost=reading.lost, refused=reading.refused, recovered_episodes=tuple(reading.recovered_episodes),
        complete=reading.complete, ticks=reading.ticks,
    )  # fmt: skip


def _difference(recorded: Mapping[str, str], found: list[AssembledEpisode]) -> str:
    """What our recorder acknowledged must come out again, to the bit; empty if it does."""
    digests = [assembled.episode.digest for assembled in found if assembled.episode is not None]
    digest = recorded.get("digest")
    if digests == ([digest] if digest else []):
        return ""
    return (
        f"it does not hold what was recorded: episode {recorded.get('episode_id')!r} with digest {digest or 'none'}, "
        f"but reading gives {', '.join(digests) or 'no episode'}; the file was changed after it was recorded"
    )
