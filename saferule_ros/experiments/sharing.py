"""What several processes would make at the same time is made by one of them; the others wait for it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from saferule_ros.experiments.cancelling import Cancelled, TrialCancelled
from saferule_ros.file_locks import try_lock

# How often who waits looks whether it is its turn, and whether it is to stop [s].
LOOK_EVERY = 0.2


@contextmanager
def only_one(folder: Path, cancelled: Cancelled) -> Iterator[None]:
    """Lets one process at a time make a shared folder; others wait, and then find it made.

    Raises:
        TrialCancelled: it was told to stop while it waited.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f".{folder.name}.lock").open("w") as lock:
        while not try_lock(lock.fileno()):
            if cancelled():
                raise TrialCancelled(
                    f"cancelled while another trial made {folder.name}", "The same command goes on from there"
                )
            time.sleep(LOOK_EVERY)
        yield
