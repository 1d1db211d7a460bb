"""The report of a job that left none of its own: it was killed, or failed on its way."""

from datetime import UTC, datetime
from pathlib import Path

from saferule_ros.patching.proposal import proposed, still_waiting
from saferule_ros.patching.report import Outcome, PatchReport
from saferule_ros.workspace import Workspace


def report_of_ended(
    workspace: Workspace, job_folder: Path, forget_set_id: str, outcome: Outcome, message: str, how: str,
    started: str = "", duration: float = 0.0,
) -> PatchReport:  # fmt: skip
    """A job that had made its candidate by then has made it, whatever came after; of another one, its outcome.

    Args:
        workspace, job_folder: of the job.
        forget_set_id: that it was to forget.
        outcome, message: of a job without a candidate.
        how: it ended, in words, for one with a candidate.
        started: ISO 8601, UTC; empty: not known.
        duration: wall time of the job [s].
    """
    candidate = proposed(workspace, job_folder)
    if candidate:
        outcome = Outcome.SUCCEEDED
        message = f"candidate {candidate}; {how} before it could report: what the patch measured is not known"
    else:
        message += still_waiting(workspace)
    return PatchReport(
        job_id=job_folder.name, forget_set_id=forget_set_id, outcome=outcome, message=message, candidate_id=candidate,
        started=started, duration=duration, finished=datetime.now(UTC).isoformat(timespec="milliseconds"),
    )  # fmt: skip
