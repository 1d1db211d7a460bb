"""The worker: `python -m saferule_ros.patching.worker JOB_FOLDER` does the job that is described there.

Reads request.json; reports each step as a line of JSON on standard output and in progress.jsonl; logs to
standard error; leaves report.json, whatever happens. SIGTERM, or the end of the process that started it,
cancels the job cleanly: what it had made so far is no candidate, and what serves is not touched.

Exit status: 0 a candidate was made, 1 the job failed, 2 cancelled, 3 no job could be read, 4 nothing is proposed.
"""

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from pydantic import ValidationError

from saferule_ros.dataset.durable import write_atomically
from saferule_ros.errors import SaferuleError
from saferule_ros.patching.lock import WorkspaceBusy, patch_lock
from saferule_ros.patching.process import REQUEST_FILE, STOP_SECONDS
from saferule_ros.patching.progress import PatchCancelled, PatchProgress, Stage
from saferule_ros.patching.report import REPORT_FILE, Outcome, PatchReport
from saferule_ros.patching.request import PatchRequest
from saferule_ros.patching.unreported import report_of_ended
from saferule_ros.workspace import Workspace

PROGRESS_FILE = "progress.jsonl"
EXIT_STATUS = {Outcome.SUCCEEDED: 0, Outcome.FAILED: 1, Outcome.CANCELLED: 2, Outcome.WITHHELD: 4}
EXIT_NO_JOB = 3

# Where memory runs out, the kernel shall take this process before any that moves the robot (-1000 to 1000).
OUT_OF_MEMORY_SCORE = 500

Job = Callable[[PatchRequest, Callable[[PatchProgress], None], Callable[[], bool]], PatchReport]


def patch_job(
    request: PatchRequest, on_progress: Callable[[PatchProgress], None], cancelled: Callable[[], bool]
) -> PatchReport:
    """The real job. Its imports take seconds (torch), so they wait until the worker can be cancelled."""
    from saferule_ros.patching.job import run_patch

    return run_patch(request, on_progress, cancelled)


def main(arguments: list[str] | None = None, job: Job = patch_job) -> int:
    """Runs one job; see the module. `job` is what does the work between request and report."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    folder = Path((sys.argv[1:] if arguments is None else arguments)[0])
    try:
        request = PatchRequest.model_validate_json((folder / REQUEST_FILE).read_bytes())
    except (OSError, ValidationError) as error:
        print(f"no job in {str(folder)!r}: {error}", file=sys.stderr)
        return EXIT_NO_JOB
    step_back(request)
    reports = take_standard_output()
    threading.Thread(target=stop_with_parent, args=(stop,), daemon=True).start()

    with (folder / PROGRESS_FILE).open("a") as history:
        outlet = Outlet(reports, history, stop)
        outlet(PatchProgress(stage=Stage.LOADING, steps=request.steps))
        report = report_of(request, job, outlet, stop.is_set)
    write_atomically(folder / REPORT_FILE, report.model_dump_json(indent=1).encode())
    print(f"{report.outcome}: {report.message}", file=sys.stderr)
    return EXIT_STATUS[report.outcome]


def step_back(request: PatchRequest) -> None:
    """Gives way to everything else on the machine: processor time, memory, threads."""
    os.nice(request.nice)
    try:
        Path("/proc/self/oom_score_adj").write_text(str(OUT_OF_MEMORY_SCORE))
    except OSError as error:  # some containers forbid it; the job itself can do without
        print(f"the kernel may end other processes before this one: {error}", file=sys.stderr)
    # Read by the numeric libraries when they are loaded, which has not happened yet.
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = str(request.threads)


def take_standard_output() -> TextIO:
    """The standard output, for reports alone: whatever else prints there lands in the log from now on."""
    sys.stdout.flush()
    own = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return own


def stop_with_parent(stop: threading.Event) -> None:
    """Returns never: cancels when the pipe from the parent breaks; ends the process if that takes long.

    A pipe, because the kernel closes it however the parent ends; a death signal (prctl) would fire when the
    parent's *thread* that started this process ends.
    """
    while os.read(0, 1):
        pass
    stop.set()
    time.sleep(STOP_SECONDS)
    os._exit(EXIT_STATUS[Outcome.CANCELLED])


class Outlet:
    """Where progress goes: to the parent, and to the file that stays."""

    def __init__(self, parent: TextIO, history: TextIO, stop: threading.Event) -> None:
        self._parent = parent
        self._history = history
        self._stop = stop

    def __call__(self, progress: PatchProgress) -> None:
        line = progress.model_dump_json() + "\n"
        try:
            self._history.write(line)
            self._history.flush()
        except OSError as error:  # a full disk: the patch may fit all the same, and says so where it does not
            print(f"progress cannot be noted: {error}", file=sys.stderr)
        try:
            self._parent.write(line)
            self._parent.flush()
        except BrokenPipeError:
            self._stop.set()  # nobody listens any more: the parent is gone


def report_of(
    request: PatchRequest,
    job: Job,
    on_progress: Callable[[PatchProgress], None],
    cancelled: Callable[[], bool],
) -> PatchReport:
    """Runs the job and turns every way in which it can end into a report."""
    began = time.monotonic()
    started = datetime.now(UTC).isoformat(timespec="milliseconds")

    workspace = Workspace(request.workspace)

    def ended(outcome: Outcome, message: str) -> PatchReport:
        return report_of_ended(
            workspace, workspace.job(request.job_id), request.forget_set_id, outcome, message,
            f"the job ended ({message})", started, time.monotonic() - began,
        )  # fmt: skip

    try:
        with patch_lock(workspace, request.job_id):
            return job(request, on_progress, cancelled)
    except PatchCancelled as error:
        return ended(Outcome.CANCELLED, str(error))
    except WorkspaceBusy as error:
        return ended(Outcome.FAILED, str(error))
    except SaferuleError as error:
        traceback.print_exc()
        return ended(Outcome.FAILED, str(error))
    except OSError as error:  # a full disk, a mount that has gone
        traceback.print_exc()
        where = f"{error.filename!r}: " if error.filename else ""
        return ended(
            Outcome.FAILED,
            f"the disk refuses: {where}{error.strerror or error}. Look for room, permissions and mounts of "
            f"{str(request.workspace)!r}, then ask again; the job's log has where it happened",
        )
    except Exception as error:  # noqa: BLE001 - the last line of defence: a defect must leave a report as well
        traceback.print_exc()
        return ended(Outcome.FAILED, f"defect: {type(error).__name__}: {error}. The job's log has the traceback")


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    # All is on disk, and taking the interpreter apart with torch in it takes a second that somebody waits for.
    os._exit(status)
