"""Not a test: a worker whose job does what `settings.name` says, run by test_patching_process in a real process.

Everything but the learning is the real worker: request, signals, progress, reports, niceness, lock.
"""

import errno
import os
import signal
import sys
import time
from collections.abc import Callable

from saferule_ros.errors import SaferuleError
from saferule_ros.patching.progress import PatchCancelled, PatchProgress, Stage
from saferule_ros.patching.proposal import Proposal
from saferule_ros.patching.report import Outcome, PatchReport
from saferule_ros.patching.request import PatchRequest
from saferule_ros.patching.worker import main
from saferule_ros.policy.store import PolicyStore
from saferule_ros.workspace import Workspace

STEP_SECONDS = 0.01


def job(
    request: PatchRequest, on_progress: Callable[[PatchProgress], None], cancelled: Callable[[], bool]
) -> PatchReport:
    assert request.settings is not None
    behaviour = request.settings.name
    step = 0
    while behaviour in ("endless", "deaf", "silent") or step < request.steps:
        step += 1
        time.sleep(STEP_SECONDS)  # stands for a gradient step
        if step == 1 or behaviour != "silent":
            on_progress(PatchProgress(stage=Stage.UNLEARNING, step=step, steps=request.steps))
        if cancelled() and behaviour != "deaf":
            raise PatchCancelled(f"cancelled at step {step}")
        if behaviour == "refused":
            raise SaferuleError("no policy is active in 'x'", "Activate one first")
        if behaviour in ("proposed", "proposing", "proposed, then full"):
            Proposal(candidate_id=request.requester).note(Workspace(request.workspace).job(request.job_id))
            if behaviour != "proposing":
                PolicyStore(Workspace(request.workspace).store).set_candidate(request.requester)
            if behaviour != "proposed, then full":
                os.kill(os.getpid(), signal.SIGKILL)
        if behaviour.endswith("full"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if behaviour == "broken":
            raise ZeroDivisionError("a defect")
        if behaviour == "noisy":
            print("a library prints this")
            os.write(1, b"and C code that\n")
    facts = {"nice": str(os.nice(0)), "threads": os.environ["OMP_NUM_THREADS"], "pid": str(os.getpid())}
    return PatchReport(
        job_id=request.job_id, forget_set_id=request.forget_set_id, outcome=Outcome.SUCCEEDED, digests=facts
    )


if __name__ == "__main__":
    sys.exit(main(job=job))
