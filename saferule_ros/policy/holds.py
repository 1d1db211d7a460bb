"""Which bundles running jobs need: a file per hold, locked for as long as the job's process lives.

The kernel frees the lock when the process dies, however it dies, so no hold outlives its job.
"""

import contextlib
import os
from pathlib import Path
from typing import NamedTuple

from saferule_ros.file_locks import WHERE_LOCKS_WORK, try_lock, try_lock_of
from saferule_ros.policy.errors import StoreError


def take(folder: Path, bundle_id: str) -> "Hold":
    """A hold on a bundle. Call it with the store locked: prune() must not meet it before it is locked.

    Raises:
        StoreError: the hold cannot be written, or not be locked.
    """
    path = folder / f"{bundle_id}.{os.getpid()}.{os.urandom(4).hex()}"
    try:
        folder.mkdir(exist_ok=True)
        hold = Hold(path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}", "Make the store writable") from error
    try:
        if try_lock(hold.handle):
            return hold
        why = "another process holds it, without the lock of the store"
    except OSError as error:
        why = str(error.strerror)
    hold.release()
    raise StoreError(f"{path} cannot be locked: {why}", WHERE_LOCKS_WORK)


class Hold(NamedTuple):
    """A file that is locked."""

    path: Path
    handle: int

    def release(self) -> None:
        """Ends it."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        os.close(self.handle)


def held(folder: Path) -> frozenset[str]:
    """Ids of the bundles that are held now. Files that dead processes left are removed."""
    if not folder.is_dir():
        return frozenset()
    return frozenset(path.name.split(".")[0] for path in sorted(folder.iterdir()) if _is_held(path))


def _is_held(path: Path) -> bool:
    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:  # its job ended just now
        return False
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}", "Make the store writable") from error
    try:
        if not try_lock_of(handle, str(path), StoreError):
            return True
    finally:
        os.close(handle)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    return False
