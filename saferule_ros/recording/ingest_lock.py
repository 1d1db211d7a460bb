"""One ingest at a time into a dataset: two would take each other's parts for leftovers."""

import multiprocessing
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from saferule_ros.file_locks import try_lock_of
from saferule_ros.recording.errors import BagError


@contextmanager
def only_ingest(dataset: Path) -> Iterator[None]:
    """Holds the lock of a dataset's parts; the kernel lets go of it when this process ends in whatever way.

    Args:
        dataset: its folder; the lock is a file beside it, and stays there.

    Raises:
        BagError: another ingest holds it, or it cannot be made or locked.
    """
    path = dataset.parent / f".ingest-{dataset.name}.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    except OSError as error:
        raise BagError(
            f"{str(path)!r} cannot be made: {error.strerror}", "Give a folder that this user may write to"
        ) from error
    with file:
        if not try_lock_of(file.fileno(), repr(str(path)), BagError):
            raise BagError(
                f"another ingest into {str(dataset)!r} runs, it holds {str(path)!r}",
                f"Wait for its end; `fuser {path}` finds it, on each machine that shares the folder",
            )
        yield


def end_with_parent() -> None:
    """To be called first in a process that reads bags for another one: it does not outlive that, even if it is killed
    hard. What goes on would write into the parts of the ingest that comes next."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "it was started by one"

    def wait_and_end() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait_and_end, name="end with parent", daemon=True).start()
