"""Bags into a dataset, in one step: what was there stays until the new dataset is whole.

Each bag is read into a part of its own first, `.ingest-<dataset>/<bag>` beside the dataset, in several processes if
asked. A part that is finished is not made again: after a kill, the same command goes on where it was.
"""

import multiprocessing
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

from saferule_ros.dataset.record import EpisodeRecord
from saferule_ros.dataset.writer import DatasetWriter
from saferule_ros.recording.acknowledged import keep_acknowledged
from saferule_ros.recording.assembly import Faults
from saferule_ros.recording.bag_names import ids_of_bags
from saferule_ros.recording.bag_part import ANOTHER_LABEL, EMPTY, MakeTranslation, Part, part_of, read_into_part
from saferule_ros.recording.errors import BagError
from saferule_ros.recording.ingest_lock import end_with_parent, only_ingest
from saferule_ros.recording.ingest_report import BagReport, IngestReport
from saferule_ros.recording.one_size import keep_of_size, usual_sizes
from saferule_ros.recording.ticks import Ticks
from saferule_ros.signing import TrustedKeys

# Called with (bags done, bags in all, id or folder of the bag that comes next or "" at the end). Where bags are read
# one by one, the share of the one at hand counts.
Progress = Callable[[float, int, str], None]


def ingest(
    bags: Sequence[Path | str],
    out_folder: Path | str,
    progress: Progress | None = None,
    *,
    make_translation: MakeTranslation | None = None,
    translation_id: str = "",
    processes: int = 1,
    append: bool = False,
    trusted: TrustedKeys | None = None,
    only_signed: bool = False,
) -> IngestReport:
    """Reads bags and writes one dataset, which replaces the one in `out_folder` in one atomic step.

    Args:
        bags: rosbag2 folders or storage files, in the order in which their episodes go into the dataset.
        out_folder: of the dataset.
        progress: told before each bag, within it where its length is known, and at the end.
        make_translation: what the messages mean; by default our own two topics.
        translation_id: tells one translation from another: parts made with another one are made anew.
        processes: bags that are read at the same time.
        append: keep the episodes that are in the dataset, and add the new ones.
        trusted: keys to check the signatures of manifests with; None: they are not checked.
        only_signed: refuse bags whose manifest none of these keys has signed, and what a signature does not cover.

    Raises:
        BagError: another ingest into this dataset runs; no bag, two different ones with the same id (see `bag_names`),
            an episode id that names different episodes, or no episode at all. Nothing is written then.
        DatasetError: the dataset, or a part of it, cannot be written.
    """
    if not bags:
        raise BagError("no bag was named", "Name at least one bag folder")
    out = Path(out_folder)
    places = [Path(bag) for bag in bags]
    tell = progress or (lambda done, total, bag: None)
    with only_ingest(out):
        return _ingest(places, out, tell, make_translation, translation_id, processes, append, trusted, only_signed)


def _ingest(
    places: Sequence[Path], out: Path, tell: Progress, make_translation: MakeTranslation | None, translation_id: str,
    processes: int, append: bool, trusted: TrustedKeys | None, only_signed: bool,
) -> IngestReport:  # fmt: skip
    parts = out.parent / f".ingest-{out.name}"
    reports: list[BagReport] = []
    for done, report in enumerate(_read_all(places, parts, make_translation, translation_id, processes, tell)):
        reports.append(report)
        if done + 1 < len(places):
            tell(done + 1, len(places), places[done + 1].name)
    read = [Part.load(part_of(parts, place)) for place in places]
    records: list[tuple[EpisodeRecord, ...]] = []
    for number, place in enumerate(places):
        reports[number], kept = keep_acknowledged(reports[number], place, read[number].records, trusted, only_signed)
        records.append(kept)
    _check_any(reports)
    merged = _merge(read, out, reports, records, append)
    shutil.rmtree(parts, ignore_errors=True)
    tell(len(places), len(places), "")
    return merged


def _read_all(
    places: Sequence[Path], parts: Path, make: MakeTranslation | None, translation_id: str, processes: int,
    tell: Progress,
) -> Iterator[BagReport]:  # fmt: skip
    """The bags' reports in their order, each once its part is on disk."""
    tell(0, len(places), places[0].name)
    if processes == 1 or len(places) == 1:
        for done, place in enumerate(places):

            def tell_share(share: float, done: int = done, name: str = place.name) -> None:
                tell(done + share, len(places), name)

            yield read_into_part(place, part_of(parts, place), make, translation_id, tell_share)
        return
    # Spawned, not forked: whoever calls may have threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(processes, len(places)), context, end_with_parent) as pool:
        waiting: list[Future[BagReport]] = [
            pool.submit(read_into_part, place, part_of(parts, place), make, translation_id) for place in places
        ]
        try:
            for future in waiting:
                yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _merge(
    parts: Sequence[Part], out: Path, reports: list[BagReport], taken: list[tuple[EpisodeRecord, ...]], append: bool
) -> IngestReport:
    """These episodes of the parts, one after the other, into the dataset; one that came before, alike, is left out."""
    final: list[BagReport] = []
    with DatasetWriter(out, append) as writer:
        sizes, whose = writer.sizes or usual_sizes(parts, taken), "the dataset has" if writer.sizes else "most have"
        assert sizes is not None, "there are episodes"
        for number, part in enumerate(parts):
            reports[number], taken[number] = keep_of_size(reports[number], part, taken[number], sizes, whose)
        _check_any(reports)
        bags = [(report.bag_id, Path(report.folder)) for report in reports]
        ids = ids_of_bags(bags, taken, writer.records)
        owners = {record.id: record.bag_id for record in writer.records}
        for part, report, records, bag_id in zip(parts, reports, taken, ids, strict=True):
            for record in records:
                if writer.digest_of(record.id) not in ("", record.digest):
                    raise BagError(
                        f"episode id {record.id!r} names different episodes in bag {owners[record.id]!r} and "
                        f"{report.folder!r}",
                        ANOTHER_LABEL,
                    )
            new = [record for record in records if not writer.digest_of(record.id)]
            if new:
                writer.add_from(part.folders[sizes], (record.id for record in new), bag_id)
            owners |= {record.id: bag_id for record in new}
            duplicates = report.duplicates + len(records) - len(new)
            final.append(replace(report, bag_id=bag_id, duplicates=duplicates))
        digest = writer.commit()
        return IngestReport(
            folder=str(out),
            dataset_digest=digest,
            episodes=len(writer.records),
            transitions=sum(record.length for record in writer.records),
            duplicates=sum(report.duplicates for report in final),
            faults=sum((report.faults for report in final), Faults()),
            ticks=sum((report.ticks for report in final), Ticks()),
            bags=tuple(final),
        )


def _check_any(reports: Sequence[BagReport]) -> None:
    if not any(report.episodes for report in reports):
        raise BagError(
            f"there is not one usable episode in {len(reports)} bags: {_why_nothing(reports)}",
            "Record whole episodes with dataset_recorder; an existing dataset was left as it is",
        )


def _why_nothing(reports: Iterable[BagReport]) -> str:
    for report in reports:
        for problem in (*report.problems, *report.refused.values()):
            if problem != EMPTY:
                return problem
        for episode_id, message in report.incomplete.items():
            return f"episode {episode_id!r} of bag {report.bag_id!r}: {message}"
        if report.ticks.lost:
            return f"bag {report.bag_id!r}: {report.ticks}"
        if report.ticks.early:
            return f"bag {report.bag_id!r}: {report.ticks.early} ticks, but not all sources were ever heard"
    return "they hold no messages"
