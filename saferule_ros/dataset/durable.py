"""Writing so that a kill or a power cut at any instant leaves either the old or the new content."""

import os
import uuid
from contextlib import ExitStack
from pathlib import Path

# Files that begin with this are half-written: readers ignore them, the next writer removes them.
TEMPORARY_PREFIX = ".writing-"


def temporary_name(path: Path) -> Path:
    """A fresh name beside `path`, on the same file system, so that a rename to `path` is atomic."""
    return path.parent / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex[:12]}-{path.name}"


def sync_file(path: Path) -> None:
    """Returns when the file's content is on the disk."""
    _sync(path, os.O_RDONLY)


def sync_folder(path: Path) -> None:
    """Returns when the folder's list of names is on the disk (a rename is durable only after this)."""
    _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def write_atomically(path: Path, content: bytes) -> None:
    """Replaces `path` by `content`: readers see all of the old or all of the new. Durable on return."""
    temporary = temporary_name(path)
    with ExitStack() as undo:
        undo.callback(temporary.unlink, missing_ok=True)
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        undo.pop_all()
    sync_folder(path.parent)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
