"""Writing so that a kill or a power cut at any instant leaves either the old or the new content."""

import os
import uuid
from contextlib import ExitStack
from pathlib import Path

from saferule_ros.syncing import sync_folder, write_new

# Files that begin with this are half-written: readers ignore them, the next writer removes them.
TEMPORARY_PREFIX = ".writing-"


def temporary_name(path: Path) -> Path:
    """A fresh name beside `path`, on the same file system, so that a rename to `path` is atomic."""
    return path.parent / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex[:12]}-{path.name}"


def write_atomically(path: Path, content: bytes) -> None:
    """Replaces `path` by `content`: readers see all of the old or all of the new. Durable on return."""
    temporary = temporary_name(path)
    with ExitStack() as undo:
        undo.callback(temporary.unlink, missing_ok=True)
        write_new(temporary, content)
        os.replace(temporary, path)
        undo.pop_all()
    sync_folder(path.parent)
