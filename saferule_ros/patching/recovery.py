"""After a kill or a power cut: jobs that never ended get the report that their worker could not write."""

from datetime import UTC, datetime

from pydantic import ValidationError

from saferule_ros.dataset.durable import write_atomically
from saferule_ros.patching.lock import WorkspaceBusy, patch_lock
from saferule_ros.patching.process import REQUEST_FILE
from saferule_ros.patching.report import REPORT_FILE, Outcome, PatchReport
from saferule_ros.patching.request import PatchRequest
from saferule_ros.workspace import Workspace


def close_interrupted_jobs(workspace: Workspace) -> list[str]:
    """Marks every job without a report as failed, unless one runs right now. Returns their ids, oldest first.

    A candidate is put into the store in one atomic step, so an interrupted job has either made one or left
    nothing; either way it may simply be started again.
    """
    closed = []
    try:
        with patch_lock(workspace, "recovery"):
            for folder in sorted(workspace.jobs.iterdir()):
                if not (folder / REQUEST_FILE).is_file() or (folder / REPORT_FILE).exists():
                    continue
                try:
                    request = PatchRequest.model_validate_json((folder / REQUEST_FILE).read_bytes())
                    forget_set_id = request.forget_set_id
                except ValidationError:
                    forget_set_id = ""
                report = PatchReport(
                    job_id=folder.name,
                    forget_set_id=forget_set_id,
                    outcome=Outcome.FAILED,
                    message="interrupted: the machine or the server stopped while it ran. Start it again",
                    finished=datetime.now(UTC).isoformat(timespec="milliseconds"),
                )
                write_atomically(folder / REPORT_FILE, report.model_dump_json(indent=1).encode())
                closed.append(folder.name)
    except WorkspaceBusy:
        pass  # a job of the command line, which will write its own report
    return closed
