"""A patch job in a process of its own, seen from the process that asked for it.

Learning never shares a process with control: not the interpreter lock, not the memory, not the scheduler's
priority. This side starts the worker, passes on what it reports, and can stop it; it never imports torch.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import ValidationError

from saferule_ros.dataset.durable import write_atomically
from saferule_ros.errors import SaferuleError
from saferule_ros.patching.lock import sign_of_life
from saferule_ros.patching.progress import PatchProgress
from saferule_ros.patching.report import REPORT_FILE, Outcome, PatchReport
from saferule_ros.patching.request import PatchRequest
from saferule_ros.patching.unreported import report_of_ended
from saferule_ros.workspace import Workspace

REQUEST_FILE = "request.json"
LOG_FILE = "log.txt"
WORKER_MODULE = "saferule_ros.patching.worker"

# A worker that was asked to stop does so after the gradient step at hand; an ONNX export takes the longest.
# Less than the 10 s that a launch gives a node before it kills it.
STOP_SECONDS = 8.0
# Of the log of a worker that died without a report, so much goes into the report's message.
LOG_TAIL_BYTES = 400


class JobError(SaferuleError):
    """A patch job could not be started."""


class PatchProcess:
    """One running (or finished) patch job. Start it with `PatchProcess.start`.

    `progress()` is to be read by one thread until it ends; `cancel()` may be called from any thread.
    """

    def __init__(self, request: PatchRequest, folder: Path, process: subprocess.Popen[str]) -> None:
        self.request = request
        self.folder = folder
        self._process = process
        self._cancelled = False
        self._started = time.monotonic()

    @classmethod
    def start(cls, request: PatchRequest, worker: str = WORKER_MODULE) -> Self:
        """Makes the job's folder with the request in it and starts the worker.

        Args:
            request: what is to be done.
            worker: module that is run with the job's folder as its argument.

        Raises:
            JobError: the job exists already, or its folder or process cannot be made.
        """
        folder = Workspace(request.workspace).job(request.job_id)
        try:
            folder.mkdir(parents=True)
            with sign_of_life(folder) as alive, (folder / LOG_FILE).open("ab") as log:
                write_atomically(folder / REQUEST_FILE, request.model_dump_json(indent=1).encode())
                process = subprocess.Popen(
                    [sys.executable, "-P", "-m", worker, str(folder)],
                    # The worker never reads: its end of this pipe tells it when its parent is gone, however
                    # that came about.
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    pass_fds=(alive.fileno(),),  # the worker holds it to its end
                    text=True,
                    # Ctrl-C in a terminal is for the parent, which then decides about the job.
                    start_new_session=True,
                )
        except FileExistsError as error:
            raise JobError(f"job {request.job_id!r} exists already", "Give each job an id of its own") from error
        except OSError as error:
            raise JobError(
                f"job {request.job_id!r} cannot be started: {error}",
                f"Check that {str(folder.parent)!r} can be written to and has room",
            ) from error
        return cls(request, folder, process)

    @property
    def pid(self) -> int:
        """Process id of the worker."""
        return self._process.pid

    @property
    def cancelled(self) -> bool:
        """Whether it was asked to stop, or ended from here."""
        return self._cancelled

    @property
    def running(self) -> bool:
        """Whether the worker's process still exists."""
        return self._process.poll() is None

    def progress(self) -> Iterator[PatchProgress]:
        """What the worker reports, as it comes; ends when the worker has closed its output."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                yield PatchProgress.model_validate_json(line)
            except ValidationError as error:
                self._note(f"unreadable progress {line.strip()[:200]!r}: {error.error_count()} errors")

    def cancel(self) -> None:
        """Asks the worker to stop. It reports and ends on its own; see `wait`."""
        self._cancelled = True
        if self.running:
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Ends the worker at once. What it wrote so far stays as it is."""
        self._cancelled = True
        if self.running:
            self._process.kill()

    def wait(self, timeout: float | None = None) -> PatchReport:
        """The job's report, once the worker has ended.

        A worker that died without one (killed, out of memory) gets a report that says so.

        Args:
            timeout: longest wait [s].

        Raises:
            subprocess.TimeoutExpired: the worker still runs.
        """
        status = self._process.wait(timeout)
        self._close_pipes()
        try:
            return PatchReport.load(self.folder)
        except (OSError, ValidationError) as error:
            report = self._post_mortem(status, error)
        try:
            write_atomically(self.folder / REPORT_FILE, report.model_dump_json(indent=1).encode())
        except OSError as error:
            self._note(f"the report cannot be written: {error}")
        return report

    def stop(self, seconds: float = STOP_SECONDS) -> PatchReport:
        """Cancels, and kills what has not ended after so many seconds. Returns the report."""
        self.cancel()
        try:
            return self.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            return self.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.running:
            self.stop()
        self._close_pipes()

    def _close_pipes(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()

    def _post_mortem(self, status: int, error: Exception) -> PatchReport:
        """The report that the worker did not leave."""
        if status < 0:
            how = f"was ended by {signal.Signals(-status).name}"
            if -status == signal.SIGKILL:
                how += " (by hand, or by the kernel for want of memory)"
        else:
            how = f"ended with status {status} and no readable report ({type(error).__name__})"
        if self._cancelled:
            outcome, message = Outcome.CANCELLED, "cancelled"
        else:
            tail = self._log_tail()
            outcome, message = Outcome.FAILED, f"the worker {how}. See {self.folder / LOG_FILE}"
            message += f", which ends with: {tail}" if tail else ""
        return report_of_ended(
            Workspace(self.request.workspace), self.folder, self.request.forget_set_id, outcome, message,
            f"the worker {how}", duration=time.monotonic() - self._started,
        )  # fmt: skip

    def _log_tail(self) -> str:
        try:
            content = (self.folder / LOG_FILE).read_bytes()
        except OSError:
            return ""
        return content[-LOG_TAIL_BYTES:].decode(errors="replace").strip()

    def _note(self, line: str) -> None:
        """Adds a line to the job's log, where the worker's own output is."""
        try:
            with (self.folder / LOG_FILE).open("a") as log:
                log.write(f"[parent] {line}\n")
        except OSError:
            print(f"{self.request.job_id}: {line}", file=sys.stderr)


def new_job_id(forget_set_id: str) -> str:
    """A name for a job: sorts by time, says what it forgets, and differs between processes."""
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    return f"{now}-{forget_set_id[:8]}-{os.getpid()}"
