"""One patch at a time in a workspace, whoever starts it: a node, the command line, or both, here or on an edge box that
shares the folder; the same learning once at a time; and which jobs live. The locks are those of file_locks."""

import contextlib
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from saferule_ros.errors import SaferuleError
from saferule_ros.file_locks import try_lock, try_lock_of
from saferule_ros.syncing import make_folder
from saferule_ros.workspace import Workspace, WorkspaceError

LOCK_FILE = ".running"
# Ends the name of the lock beside a folder.
_OF_FOLDER = ".lock"
# In a job's folder: locked for as long as anyone works on it.
ALIVE_FILE = ".alive"


class WorkspaceBusy(SaferuleError):
    """Another patch runs in this workspace, or the same learning."""


@contextmanager
def patch_lock(workspace: Workspace, job_id: str) -> Iterator[None]:
    """Holds the workspace's patch lock; the kernel lets go of it when this process ends in whatever way.

    Raises:
        WorkspaceBusy: someone else holds it.
        WorkspaceError: the file system has no locks.
    """
    workspace.jobs.mkdir(parents=True, exist_ok=True)
    with (workspace.jobs / LOCK_FILE).open("a+") as file:
        if not try_lock_of(file.fileno(), repr(file.name), WorkspaceError):
            file.seek(0)
            raise WorkspaceBusy(
                f"job {file.read().strip()!r} runs in {str(workspace.root)!r}",
                "Wait for its end, or cancel it first",
            )
        file.truncate(0)
        file.write(job_id)
        file.flush()
        yield


@contextmanager
def only_worker(folder: Path) -> Iterator[None]:
    """While this is entered nobody else makes what is made in a folder, or goes on with it.

    The lock is a file beside the folder, as the folder itself comes and goes; it is removed in the end. The kernel lets
    go of it when this process ends in whatever way.

    Args:
        folder: its parent is made if there is none.

    Raises:
        WorkspaceBusy: somebody else holds it.
        WorkspaceError: the file system has no locks.
    """
    make_folder(folder.parent)
    path = folder.with_name(f".{folder.name}{_OF_FOLDER}")
    with path.open("a") as file:
        free = try_lock_of(file.fileno(), repr(file.name), WorkspaceError)
        # Who removed the file that was opened here let go of it just now: another process may have made a new one.
        if not (free and _is_still(path, file.fileno())):
            raise WorkspaceBusy(
                f"another process makes the same in {str(folder)!r}",
                f"Wait for its end, or stop it: `fuser {path}` finds it. What it has made by then is gone on with",
            )
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _is_still(path: Path, handle: int) -> bool:
    """Whether an open file has this name (any more)."""
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def refuse_while_learning(parent: Path) -> None:
    """Raises WorkspaceBusy while somebody makes what is made in a folder of these, see only_worker."""
    for path in sorted(parent.glob(f".*{_OF_FOLDER}")):
        with contextlib.suppress(FileNotFoundError), path.open("rb") as file:  # that ended just now
            if not try_lock(file.fileno(), shared=True):
                raise WorkspaceBusy(f"somebody learns in {str(parent)!r}", f"Wait for its end: `fuser {path}` finds it")


def sign_of_life(folder: Path) -> FileIO:
    """Locks a job's folder until the file is closed here and in every process that it was passed to.

    Raises:
        OSError: it cannot be made or locked, or somebody else has locked it.
    """
    file = FileIO(folder / ALIVE_FILE, "w")
    try:
        if not try_lock(file.fileno()):
            raise BlockingIOError(errno.EAGAIN, "somebody works on this job", str(folder / ALIVE_FILE))
    except OSError:
        file.close()
        raise
    return file


def lives(folder: Path) -> bool:
    """Whether anyone holds a job's sign of life. Raises OSError: it cannot be read or locked."""
    try:
        with (folder / ALIVE_FILE).open("rb") as file:
            return not try_lock(file.fileno(), shared=True)
    except FileNotFoundError:
        return False
