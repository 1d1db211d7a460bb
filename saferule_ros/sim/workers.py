"""Runs independent pieces of simulation on several processes, results in order."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pickle import PicklingError
from typing import Any, Generic, TypeVar

from saferule_ros.errors import SaferuleError

S = TypeVar("S")
T = TypeVar("T")
R = TypeVar("R")

# In a worker process: the function and the shared value that it was started with.
_started_with: dict[str, Any] = {}


class Workers(Generic[S, T, R]):
    """Processes that wait for work, as a context: `with Workers(f, shared, 2) as pool: pool.map(items)`.

    With one worker all happens in this process. Otherwise processes are spawned, not forked, as a fork of a
    process with threads (torch, DDS) can hang; so a script that calls this needs the usual
    `if __name__ == "__main__":`.

    Args:
        function: called with (shared, item).
        shared: sent once to each process; an item goes to one of them.
        workers: processes.

    Raises:
        SaferuleError: `workers` < 1.
    """

    def __init__(self, function: Callable[[S, T], R], shared: S, workers: int) -> None:
        if workers < 1:
            raise SaferuleError(f"{workers} workers", "Choose 1 or more")
        self._function, self._shared = function, shared
        self._pool = None if workers == 1 else ProcessPoolExecutor(
            workers,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_start,
            initargs=(function, shared),
        )  # fmt: skip

    def map(self, items: Sequence[T]) -> Iterator[R]:
        """Yields function(shared, item) for each item, in order.

        Raises:
            SaferuleError: `shared` cannot be sent, or a worker died (out of memory, killed).
        """
        if self._pool is None:
            for item in items:
                yield self._function(self._shared, item)
            return
        try:
            try:
                results = self._pool.map(_work, items)
            except (PicklingError, TypeError, AttributeError) as error:  # what pickling raises, by kind of object
                raise SaferuleError(
                    f"this work cannot be sent to other processes: {error}",
                    "Use workers=1, or for a policy wrap its loading: Lazily(load, path)",
                ) from error
            yield from results
        except BrokenProcessPool as error:
            raise SaferuleError(
                "a simulation worker process died",
                "See the messages above; try fewer workers if memory is short",
            ) from error

    def __enter__(self) -> Workers[S, T, R]:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


def map_in_order(function: Callable[[S, T], R], shared: S, items: Sequence[T], workers: int) -> Iterator[R]:
    """Yields function(shared, item) for each item, in order, worked on by `workers` processes; see Workers."""
    with Workers(function, shared, min(workers, max(1, len(items)))) as pool:
        yield from pool.map(items)


def _start(function: Callable[[S, T], R], shared: S) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes: the one that gave the work decides
    _started_with.update(function=function, shared=shared)


def _work(item: Any) -> Any:
    return _started_with["function"](_started_with["shared"], item)
