"""Bags into a dataset: all of them or none; the dataset that was there stays until the new one is whole."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.episode import Episode
from saferule_ros.recording.assembly import Faults
from saferule_ros.recording.errors import BagError
from saferule_ros.recording.reader import BagContent, read_bag_content

# Called with (bags done, bags in all, id or folder of the bag that comes next or "" at the end).
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class BagReport:
    """What one bag gave. `incomplete` maps episode ids to what was wrong; the rest as in `BagContent`."""

    bag_id: str
    folder: str
    episodes: int
    transitions: int
    duplicates: int
    incomplete: dict[str, str]
    faults: Faults
    malformed: int
    strays: int


@dataclass(frozen=True)
class IngestReport:
    """What was ingested.

    Attributes:
        folder: of the dataset.
        dataset_digest: digest of the dataset as a whole.
        episodes, transitions: in the dataset.
        duplicates: episodes that came in several bags, alike, and were taken once.
        faults: sum over all bags.
        bags: one report each, in the order given.
    """

    folder: str
    dataset_digest: str
    episodes: int
    transitions: int
    duplicates: int
    faults: Faults
    bags: tuple[BagReport, ...]

    @property
    def complete(self) -> bool:
        """True if nothing was lost, refused or left out on the way."""
        harmless = Faults(duplicated=self.faults.duplicated, out_of_order=self.faults.out_of_order)
        return self.faults == harmless and not any(bag.incomplete or bag.malformed for bag in self.bags)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**asdict(self), "complete": self.complete}


def ingest(bags: Sequence[Path | str], out_folder: Path | str, progress: Progress | None = None) -> IngestReport:
    """Reads bags and writes one dataset, which replaces the one in `out_folder` in one atomic step.

    Args:
        bags: rosbag2 folders, in the order in which their episodes go into the dataset.
        out_folder: of the dataset.
        progress: told before each bag and at the end.

    Raises:
        BagError: no bag, one that cannot be read, two with the same id, an episode id that names different
            episodes, or no episode at all. Nothing is written then.
        DatasetError: episodes of different sizes, or the dataset cannot be written.
    """
    if not bags:
        raise BagError("no bag was named", "Name at least one bag folder")
    tell = progress or (lambda done, total, bag: None)
    episodes: dict[str, Episode] = {}
    reports: dict[str, BagReport] = {}
    for done, folder in enumerate(bags):
        tell(done, len(bags), Path(folder).name)
        content = read_bag_content(folder)
        if content.bag_id in reports:
            raise BagError(
                f"{str(folder)!r} and {reports[content.bag_id].folder!r} both are bag {content.bag_id!r}",
                "Name each bag once",
            )
        before = len(episodes)
        _add(episodes, content, str(folder))
        reports[content.bag_id] = _bag_report(content, str(folder), len(episodes) - before)
    if not episodes:
        raise BagError(
            f"there is not one usable episode in {len(bags)} bags: {_why_nothing(reports)}",
            "Record whole episodes with dataset_recorder; an existing dataset was left as it is",
        )
    dataset = EpisodeDataset.from_episodes(episodes.values())
    dataset.save(out_folder)
    tell(len(bags), len(bags), "")
    return IngestReport(
        folder=str(out_folder),
        dataset_digest=dataset.digest,
        episodes=dataset.episodes,
        transitions=len(dataset),
        duplicates=sum(report.duplicates for report in reports.values()),
        faults=sum((report.faults for report in reports.values()), Faults()),
        bags=tuple(reports.values()),
    )


def _add(episodes: dict[str, Episode], content: BagContent, folder: str) -> None:
    for episode in content.episodes:
        known = episodes.setdefault(episode.id, episode)
        if known.digest != episode.digest:
            raise BagError(
                f"episode id {episode.id!r} names different episodes in bag {known.bag_id!r} and {folder!r}",
                "Leave one bag out, or record with another label: forgetting tells episodes apart by id",
            )


def _bag_report(content: BagContent, folder: str, added: int) -> BagReport:
    return BagReport(
        bag_id=content.bag_id,
        folder=folder,
        episodes=len(content.episodes),
        transitions=sum(episode.length for episode in content.episodes),
        duplicates=len(content.episodes) - added,
        incomplete={assembled.episode_id: assembled.message for assembled in content.incomplete},
        faults=content.faults,
        malformed=content.malformed,
        strays=content.strays,
    )


def _why_nothing(reports: dict[str, BagReport]) -> str:
    for report in reports.values():
        for episode_id, message in report.incomplete.items():
            return f"episode {episode_id!r} of bag {report.bag_id!r}: {message}"
    return "they hold no messages"
