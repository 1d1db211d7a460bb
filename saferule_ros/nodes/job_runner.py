"""One patch job at a time, its reports handed to the node's own thread."""

import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue

from pydantic import ValidationError
from rclpy.executors import Executor

from saferule_ros.errors import SaferuleError
from saferule_ros.patching.process import PatchProcess
from saferule_ros.patching.progress import PatchProgress, Stage
from saferule_ros.patching.report import PatchReport
from saferule_ros.patching.request import PatchRequest


class JobRefused(SaferuleError):
    """A job was not started."""


class JobRunner:
    """Starts a job and reports on it by callbacks, which run in the executor.

    Args:
        executor: runs the callbacks.
        on_progress: gets every report of the worker.
        on_end: gets the final report; no job is running any more when it is called.
    """

    def __init__(
        self,
        executor: Executor,
        on_progress: Callable[[PatchRequest, PatchProgress], None],
        on_end: Callable[[PatchReport, PatchProgress], None],
    ) -> None:
        self._executor = executor
        self._on_progress = on_progress
        self._on_end = on_end
        self._process: PatchProcess | None = None
        self._last = PatchProgress(stage=Stage.LOADING)
        self._inbox: SimpleQueue[Callable[[], None]] = SimpleQueue()

    @property
    def request(self) -> PatchRequest | None:
        """What runs now."""
        return self._process.request if self._process else None

    @property
    def cancelling(self) -> bool:
        """Whether what runs now was asked to stop."""
        return self._process is not None and self._process.cancelled

    @property
    def pid(self) -> int | None:
        """Process id of the worker that runs now."""
        return self._process.pid if self._process else None

    def start(self, request: PatchRequest) -> None:
        """Starts a job.

        Raises:
            JobRefused: another one runs.
            JobError: it cannot be started.
        """
        if self._process is not None:
            raise JobRefused(
                f"job {self._process.request.job_id} runs",
                "Wait for its end or cancel it first",
            )
        self._process = PatchProcess.start(request)
        self._last = PatchProgress(stage=Stage.LOADING, steps=request.steps)
        self._on_progress(request, self._last)
        # A daemon: where the worker cannot be ended (state D), the node still can.
        threading.Thread(target=self._follow, args=(self._process,), name="job", daemon=True).start()

    def cancel(self) -> None:
        """Asks the running job to stop; its end is reported as usual."""
        if self._process is not None:
            self._process.cancel()

    def kill(self) -> None:
        """Ends the running job at once; its end is reported as usual."""
        if self._process is not None:
            self._process.kill()

    def _follow(self, process: PatchProcess) -> None:
        """The reader's thread: blocks on the worker, and leaves all work to the executor."""
        for progress in process.progress():
            self._deliver(partial(self._progressed, process.request, progress))
        self._deliver(partial(self._ended, process.wait()))

    def _deliver(self, call: Callable[[], None]) -> None:
        # The executor promises nothing about the order of its tasks, so the order is kept here.
        self._inbox.put(call)
        self._executor.create_task(lambda: self._inbox.get_nowait()())

    def _progressed(self, request: PatchRequest, progress: PatchProgress) -> None:
        self._last = progress
        self._on_progress(request, progress)

    def _ended(self, report: PatchReport) -> None:
        self._process = None
        self._on_end(report, self._last)


def request_for(**fields: object) -> PatchRequest:
    """A validated request with these fields.

    Raises:
        JobRefused: a value is out of its range.
    """
    try:
        return PatchRequest.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise JobRefused(f"{name} is {first['input']!r}: {first['msg']}", "Give another value") from error
