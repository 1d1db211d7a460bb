"""What an ingest took, and what was lost on the way: bag by bag, and all together."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

from saferule_ros.dataset.record import EpisodeRecord
from saferule_ros.recording.assembly import Faults
from saferule_ros.recording.ticks import Ticks


class Status(StrEnum):
    """How an ingest ended: nothing lost, something lost, or nothing taken."""

    COMPLETE = "complete"
    PARTIAL = "partial"
    FAILED = "failed"


@dataclass(frozen=True)
class BagReport:
    """What one bag gave.

    Attributes:
        bag_id, folder: which one.
        status: see `Status`.
        episodes, transitions: that were taken from it.
        duplicates: episodes that came in an earlier bag already, alike.
        incomplete: episode id -> why there is not one whole transition of it.
        refused: file, or id of an episode -> why it is not what was acknowledged.
        recovered_episodes: that their recorder had not sealed when it was killed; truncated.
        remains: episodes that may be less than what was recorded, or were never acknowledged: see `BagReading`.
        missing_episodes: that the bag's manifest promises and that were not found.
        problems: damage, in words; or why the bag failed.
        faults: see `Faults`.
        malformed, strays: messages that could not be decoded, or belong to no episode.
        messages: that were read, of all topics.
        lost_messages: that are known to be missing.
        ticks: of the contract, see `Ticks`.
        signed_by: name of the trusted key that signed the manifest; empty if it was not checked or not signed.
    """

    bag_id: str
    folder: str
    status: Status = Status.COMPLETE
    episodes: int = 0
    transitions: int = 0
    duplicates: int = 0
    incomplete: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    recovered_episodes: tuple[str, ...] = ()
    remains: tuple[str, ...] = ()
    missing_episodes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    faults: Faults = field(default_factory=Faults)
    malformed: int = 0
    strays: int = 0
    messages: int = 0
    lost_messages: int = 0
    ticks: Ticks = field(default_factory=Ticks)
    signed_by: str = ""

    def without(self, refused: Mapping[str, str], kept: Sequence[EpisodeRecord]) -> "BagReport":
        """The same where some episodes (id -> why) are refused after all, and these are left."""
        if not refused:
            return self
        status = self.status if self.status is Status.FAILED else Status.PARTIAL
        return replace(
            self, refused={**self.refused, **refused}, episodes=len(kept),
            transitions=sum(record.length for record in kept), status=status if kept else Status.FAILED,
        )  # fmt: skip


@dataclass(frozen=True)
class IngestReport:
    """What was ingested.

    Attributes:
        folder: of the dataset.
        dataset_digest: digest of the dataset as a whole.
        episodes, transitions: in the dataset.
        duplicates: episodes that came in several bags, alike, and were taken once.
        faults, ticks: sums over all bags.
        bags: one report each, in the order given.
    """

    folder: str
    dataset_digest: str
    episodes: int
    transitions: int
    duplicates: int
    faults: Faults
    ticks: Ticks
    bags: tuple[BagReport, ...]

    @property
    def status(self) -> Status:
        """Complete only if every bag is; there is no report of an ingest that failed."""
        return Status.COMPLETE if self.complete else Status.PARTIAL

    @property
    def complete(self) -> bool:
        """True if nothing was lost, refused or left out on the way."""
        return all(bag.status is Status.COMPLETE for bag in self.bags)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**asdict(self), "status": self.status, "complete": self.complete}
