"""One patch at a time in a workspace, whoever starts it: a node, the command line, or both."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

from saferule_ros.errors import SaferuleError
from saferule_ros.workspace import Workspace

LOCK_FILE = ".running"


class WorkspaceBusy(SaferuleError):
    """Another patch runs in this workspace."""


@contextmanager
def patch_lock(workspace: Workspace, job_id: str) -> Iterator[None]:
    """Holds the workspace's patch lock; the kernel lets go of it when this process ends in whatever way.

    Raises:
        WorkspaceBusy: someone else holds it.
    """
    workspace.jobs.mkdir(parents=True, exist_ok=True)
    with (workspace.jobs / LOCK_FILE).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise WorkspaceBusy(
                f"job {file.read().strip()!r} runs in {str(workspace.root)!r}",
                "Wait for its end, or cancel it first",
            ) from error
        file.truncate(0)
        file.write(job_id)
        file.flush()
        yield
