"""One patch at a time in a workspace, whoever starts it: a node, the command line, or both; and which jobs live."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from saferule_ros.errors import SaferuleError
from saferule_ros.workspace import Workspace

LOCK_FILE = ".running"
# In a job's folder: locked for as long as anyone works on it.
ALIVE_FILE = ".alive"


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


def sign_of_life(folder: Path) -> FileIO:
    """Locks a job's folder until the file is closed here and in every process that it was passed to.

    Raises:
        OSError: it cannot be made.
    """
    file = FileIO(folder / ALIVE_FILE, "w")
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return file


def lives(folder: Path) -> bool:
    """Whether anyone holds a job's sign of life. Raises OSError: it cannot be read."""
    try:
        with (folder / ALIVE_FILE).open("r") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
