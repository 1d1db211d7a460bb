"""What was read of a bag beside what its manifest promises: only what was acknowledged is taken."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from saferule_ros.dataset.record import EpisodeRecord
from saferule_ros.recording.bag_metadata import METADATA_NAME
from saferule_ros.recording.errors import BagError
from saferule_ros.recording.ingest_report import BagReport, Status
from saferule_ros.recording.manifest import MANIFEST_NAME, BagManifest, missing_episodes, read_manifest
from saferule_ros.signing import TrustedKeys


def keep_acknowledged(
    report: BagReport, place: Path, records: Sequence[EpisodeRecord], trusted: TrustedKeys | None, only_signed: bool
) -> tuple[BagReport, tuple[EpisodeRecord, ...]]:
    """Leaves out the episodes that a bag's manifest, where it has one, does not name with their digests.

    Args:
        report: of the bag, as it was read.
        place: where it lies.
        records: its episodes.
        trusted: keys to check the manifest's signature with; None: it is not checked.
        only_signed: the manifest has to be signed by one of these keys, and what is left of a damaged file, or of what
            a killed recorder had not acknowledged, is not taken: nobody signed that.

    Returns:
        The report with what is refused and missing, and the episodes that are to be taken.

    Raises:
        BagError: only signed bags are asked for, and this one is not, or its signature is for another name.
    """
    check = read_manifest(place, trusted)
    if only_signed:
        _check_signature(place, report, records, check.manifest if check.signed_by else None, check.problem)
    if check.manifest is None:
        partial = bool(check.problem) and report.status is Status.COMPLETE
        problems = (*report.problems, *((check.problem,) if check.problem else ()))
        return replace(report, problems=problems, status=Status.PARTIAL if partial else report.status), tuple(records)
    promised = {episode.id: episode.digest for episode in check.manifest.episodes}
    refused = {
        record.id: _why_not(record, promised, report) for record in records
        if promised.get(record.id) != record.digest and (only_signed or record.id not in report.remains)
    }  # fmt: skip
    kept = tuple(record for record in records if record.id not in refused)
    missing = tuple(missing_episodes(check.manifest, {record.id: record.digest for record in kept}))
    checked = report.without(refused, kept)
    status = Status.PARTIAL if missing and checked.status is Status.COMPLETE else checked.status
    checked = replace(checked, signed_by=check.signed_by, missing_episodes=missing, status=status)
    return checked, kept


def _why_not(record: EpisodeRecord, promised: dict[str, str], report: BagReport) -> str:
    if record.id in report.remains:
        return (
            "it is what is left of a damaged file, or of a recorder that was killed, and no signature covers that: "
            "without --signed it is taken"
        )
    if record.id not in promised:
        return f"{MANIFEST_NAME} does not name it: it was added to the bag, or its recorder never acknowledged it"
    return (
        f"its digest is {record.digest}, {MANIFEST_NAME} says {promised[record.id]}: it was changed after it was "
        "recorded"
    )


def _check_signature(
    place: Path, report: BagReport, records: Sequence[EpisodeRecord], signed: BagManifest | None, problem: str
) -> None:
    if signed is None:
        raise BagError(
            f"bag {str(place)!r} is not signed with a trusted key: {problem or 'it has no signature'}",
            "Leave it out, or trust its recorder's key: saferule keys trust FILE",
        )
    # Data is forgotten by these names, and they are in no episode's digest.
    said = {(report.bag_id, record.recorded_by) for record in records}
    if said - {(signed.bag_id, signed.recorded_by)}:
        told = ", ".join(f"{bag_id!r}, recorded by {recorder!r}" for bag_id, recorder in sorted(said))
        raise BagError(
            f"what was signed in {str(place)!r} is bag {signed.bag_id!r}, recorded by {signed.recorded_by!r}, but "
            f"{METADATA_NAME} makes it {told}",
            f"Bring back the {METADATA_NAME} that its recorder wrote, or leave the bag out",
        )
