"""After a kill or a power cut: jobs that never ended get the report that their worker could not write."""

import logging
from pathlib import Path

from pydantic import ValidationError

from saferule_ros.dataset.durable import write_atomically
from saferule_ros.patching.lock import lives
from saferule_ros.patching.process import REQUEST_FILE
from saferule_ros.patching.report import REPORT_FILE, Outcome, PatchReport
from saferule_ros.patching.request import PatchRequest
from saferule_ros.patching.unreported import report_of_ended
from saferule_ros.workspace import Workspace

log = logging.getLogger(__name__)


def close_interrupted_jobs(workspace: Workspace) -> list[str]:
    """Gives every job without a report one, unless its worker lives. Returns their ids, oldest first.

    A candidate is put into the store in one atomic step, so an interrupted job has either made one, which its report
    then names, or left nothing. A job whose folder cannot be read or written is logged and left.
    """
    closed = []
    for folder in sorted(workspace.jobs.iterdir()):
        try:
            if not (folder / REQUEST_FILE).is_file() or (folder / REPORT_FILE).exists() or lives(folder):
                continue
            write_atomically(folder / REPORT_FILE, _report(workspace, folder).model_dump_json(indent=1).encode())
            closed.append(folder.name)
        except OSError as error:
            log.warning("job %s was interrupted, and its report cannot be written: %s", folder.name, error)
    return closed


def _report(workspace: Workspace, folder: Path) -> PatchReport:
    try:
        forget_set_id = PatchRequest.model_validate_json((folder / REQUEST_FILE).read_bytes()).forget_set_id
    except ValidationError:
        forget_set_id = ""
    how = "the machine or the server stopped"
    return report_of_ended(
        workspace, folder, forget_set_id, Outcome.FAILED, f"interrupted: {how} while it ran. Start it again", how
    )
