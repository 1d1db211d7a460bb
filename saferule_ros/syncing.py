"""Files and names that are on the disk when a call returns: what every durable write here is made of.

Three kinds of writes are built on it, and stay apart for what they add: `dataset.durable` (a temporary name that every
reader ignores), `policy.durable` (through the store's own staging folder, with the store's errors), and keys in
`signing` (linked, so that an existing one is never replaced). All calls go through `os`, so that tests can cut the
power at each.
"""

import contextlib
import os
from pathlib import Path


def write_new(path: Path, data: bytes, mode: int = 0o666, exactly: bool = False) -> None:
    """Creates `path` with `data`; its content is on the disk on return, its name not yet.

    Args:
        path: must not exist.
        data: all of it.
        mode: less what the umask takes away.
        exactly: whatever the umask is.

    Raises:
        OSError: it exists, or the disk refuses; a part of it may be left.
    """
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        if exactly:
            os.fchmod(handle, mode)
        write_all(handle, data)
        os.fsync(handle)
    finally:
        os.close(handle)


def write_all(handle: int, data: bytes) -> None:
    """The operating system may take less at a time than it is given."""
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def sync_file(path: Path) -> None:
    """Returns when the file's content is on the disk."""
    _sync(path, os.O_RDONLY)


def sync_folder(path: Path) -> None:
    """Returns when the folder's list of names is on the disk (a rename is durable only after this)."""
    _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def make_folder(path: Path) -> None:
    """Makes a folder, and those above it that are missing (idempotent). Their names are on the disk on return.

    Raises:
        OSError: the disk refuses.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        sync_folder(folder.parent)
    if not missing:
        # Whoever made it may have been cut off before this. Where this user may not even look, it was somebody else.
        with contextlib.suppress(PermissionError):
            sync_folder(path.parent)


def _sync(path: Path, flags: int) -> None:
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
