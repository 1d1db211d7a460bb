"""Writes finished episodes to their bags in a thread of its own.

Syncing to disk takes milliseconds to seconds, and the node must go on taking messages meanwhile.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import Queue

from saferule_ros.errors import SaferuleError
from saferule_ros.recording.assembly import AssembledEpisode
from saferule_ros.recording.bag_writer import BagWriter

# Finished episodes that may wait for the disk. Where they are more, the node stops taking messages, which
# then wait in the middleware (a whole episode of them), and after that are lost, visibly.
WAITING_EPISODES = 8


@dataclass(frozen=True)
class Sealed:
    """What became of one episode: it is durable on disk, or `error` says why not."""

    bag_id: str
    assembled: AssembledEpisode
    error: str = ""


class Sealer:
    """The thread that writes to the bags of a recording, in the order of `seal`.

    Args:
        on_sealed: called in the thread, after the episode is durable or has failed. What it raises is kept, and ends
            nothing: the episodes that wait have to be written, whoever hears of them.

    Attributes:
        untold: episodes that `on_sealed` raised something for.
        untold_problem: the last of them, and what it was; empty if there is none.
    """

    def __init__(self, on_sealed: Callable[[Sealed], None]) -> None:
        self.untold, self.untold_problem = 0, ""
        self._on_sealed = on_sealed
        self._queue: Queue[tuple[BagWriter, AssembledEpisode] | None] = Queue(WAITING_EPISODES)
        self._thread = threading.Thread(target=self._work, name="sealer")
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Episodes that are not on disk yet."""
        return self._queue.unfinished_tasks

    def seal(self, writer: BagWriter, assembled: AssembledEpisode) -> None:
        """Queues an episode for an open bag, which this thread alone writes to; blocks while too many wait."""
        self._queue.put((writer, assembled))

    def close(self) -> None:
        """Returns when everything that was queued is on disk, or has failed."""
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (queued := self._queue.get()) is not None:
            writer, assembled = queued
            self._tell(Sealed(writer.bag_id, assembled, _write(writer, assembled)))
            self._queue.task_done()

    def _tell(self, sealed: Sealed) -> None:
        try:
            self._on_sealed(sealed)
        except Exception as error:  # noqa: BLE001 - a middleware that refuses to publish must not end the recording
            self.untold += 1
            became = f"could not be written ({sealed.error})" if sealed.error else "is on disk"
            self.untold_problem = (
                f"episode {sealed.assembled.episode_id!r} of bag {sealed.bag_id!r} {became}, and that could not be "
                f"announced: {type(error).__name__}: {error}"
            )


def _write(writer: BagWriter, assembled: AssembledEpisode) -> str:
    """Why it could not be written; empty: it is durable."""
    try:
        writer.write_episode(assembled.messages, assembled.facts)
    except SaferuleError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - one bad episode must not end the recording of all others
        return f"defect: {type(error).__name__}: {error}"
    return ""
