"""Runs independent pieces of simulation on several processes, results in order."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from saferule_ros.errors import SaferuleError

T = TypeVar("T")
R = TypeVar("R")


def map_in_order(function: Callable[[T], R], items: Sequence[T], workers: int) -> Iterator[R]:
    """Like map(), on `workers` processes (1: in this one, nothing is pickled); results come in the items' order.

    Processes are spawned, not forked: a fork of a process with threads (torch, DDS) can hang. So a script that
    calls this must have the usual `if __name__ == "__main__":`.

    Raises:
        SaferuleError: `workers` < 1, or a worker died (out of memory, killed).
    """
    if workers < 1:
        raise SaferuleError(f"{workers} workers", "Choose 1 or more.")
    if workers == 1 or len(items) < 2:
        yield from map(function, items)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(items)), mp_context=context)
    try:
        results: Iterable[R] = pool.map(function, items)
        yield from results
    except BrokenProcessPool as error:
        raise SaferuleError("a simulation worker process died",
                            "See the messages above; try fewer workers if memory is short.") from error
    finally:
        pool.shutdown(cancel_futures=True)
