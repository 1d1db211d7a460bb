"""Two set-ups at once would install into each other: the second waits for the first."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def only_one(root: Path, of: str) -> Iterator[None]:
    """Within it, no other set-up of this checkout is within the same.

    Args:
        of: what is installed into: an environment's name, or what they share.
    """
    path = root / ".venv" / f"{of}.lock"
    path.parent.mkdir(exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"  Another set-up is at work on {of}; waiting for it.", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
