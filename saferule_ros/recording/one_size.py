"""A dataset holds vectors of one size: of episodes with several, those of the usual one are taken."""

from collections import Counter
from collections.abc import Sequence

from saferule_ros.dataset.record import EpisodeRecord
from saferule_ros.recording.bag_part import Part, Sizes
from saferule_ros.recording.ingest_report import BagReport


def usual_sizes(parts: Sequence[Part], taken: Sequence[Sequence[EpisodeRecord]]) -> Sizes | None:
    """What most transitions of all bags have; the first of several that are alike. None: there is no episode."""
    counts: Counter[Sizes] = Counter()
    for part, records in zip(parts, taken, strict=True):
        for record in records:
            counts[part.sizes[record.id]] += record.length
    return counts.most_common(1)[0][0] if counts else None


def keep_of_size(
    report: BagReport, part: Part, records: Sequence[EpisodeRecord], usual: Sizes, whose: str
) -> tuple[BagReport, tuple[EpisodeRecord, ...]]:
    """Leaves out the episodes of a bag whose vectors have another size.

    Args:
        report: of the bag.
        part: what was read of it.
        records: its episodes.
        usual: (observation, action) size.
        whose: what has that size, for the reason.

    Returns:
        The report with what is refused, and the episodes that are to be taken.
    """
    refused = {
        record.id: f"it has (observation, action) size {part.sizes[record.id]}, {whose} {usual}; episodes of another "
        "robot or contract go into another dataset" for record in records if part.sizes[record.id] != usual
    }  # fmt: skip
    kept = tuple(record for record in records if record.id not in refused)
    return report.without(refused, kept), kept
