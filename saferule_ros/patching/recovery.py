"""After a kill or a power cut: jobs that never ended get the report that their worker could not write."""

import logging
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from saferule_ros.dataset.durable import write_atomically
from saferule_ros.patching.lock import lives
from saferule_ros.patching.process import REQUEST_FILE
from saferule_ros.patching.report import REPORT_FILE, Outcome, PatchReport
from saferule_ros.patching.request import PatchRequest
from saferule_ros.workspace import Workspace

log = logging.getLogger(__name__)


def close_interrupted_jobs(workspace: Workspace) -> list[str]:
    """Marks every job without a report as failed, unless its worker lives. Returns their ids, oldest first.

    A candidate is put into the store in one atomic step, so an interrupted job has either made one or left
    nothing; either way it may simply be started again. A job whose folder cannot be read or written is logged and left.
    """
    closed = []
    for folder in sorted(workspace.jobs.iterdir()):
        try:
            if not (folder / REQUEST_FILE).is_file() or (folder / REPORT_FILE).exists() or lives(folder):
                continue
            write_atomically(folder / REPORT_FILE, _report(folder).model_dump_json(indent=1).encode())
            closed.append(folder.name)
        except OSError as error:
            log.warning("job %s was interrupted, and its report cannot be written: %s", folder.name, error)
    return closed


def _report(folder: Path) -> PatchReport:
    try:
        forget_set_id = PatchRequest.model_validate_json((folder / REQUEST_FILE).read_bytes()).forget_set_id
    except ValidationError:
        forget_set_id = ""
    return PatchReport(
        job_id=folder.name,
        forget_set_id=forget_set_id,
        outcome=Outcome.FAILED,
        message="interrupted: the machine or the server stopped while it ran. Start it again",
        finished=datetime.now(UTC).isoformat(timespec="milliseconds"),
    )
