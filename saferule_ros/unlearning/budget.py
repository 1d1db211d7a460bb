"""What a run costs: steps, time, arithmetic. Counted in the same way for every method and for retraining."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from saferule_ros.learning.flops import FlopCounter


@dataclass(frozen=True)
class Budget:
    """What some steps cost. Seconds of gradient steps alone: neither loading nor certificate nor checkpoints."""

    steps: int
    seconds: float  # wall time
    cpu_seconds: float  # of this process, all threads: comparable where the machine does other things as well
    flops: float  # of all matrix products, forward and backward


class Meter:
    """Adds up what steps cost.

    FLOPs are those of the matrix products (a multiplication and an addition are two) that torch really dispatches,
    forward and backward; element-wise work and the optimiser are left out. They are counted at the first step of each
    kind and taken as the same for all others of it, which they are, as shapes do not change. Counting takes
    hundredths of a second for each kind, which `seconds` includes.

    Args:
        computed_once: FLOPs so far of what steps compute once for all, and which are therefore not the same for each.
    """

    def __init__(self, computed_once: Callable[[], float] = lambda: 0.0) -> None:
        self._computed_once = computed_once
        self.steps = 0
        self.flops = 0.0
        self.seconds = 0.0
        self.cpu_seconds = 0.0
        self._flops_of: dict[str, float] = {}

    @contextmanager
    def step(self, kind: str) -> Iterator[None]:
        """Around one gradient step of some kind."""
        if kind in self._flops_of:
            yield
        else:
            before = self._computed_once()
            with FlopCounter() as counter:
                yield
            self._flops_of[kind] = counter.total - (self._computed_once() - before)
        self.steps += 1
        self.flops += self._flops_of[kind]

    @contextmanager
    def time(self) -> Iterator[None]:
        """Around a step and, where its numbers are read, the reading: a GPU's work is done only then."""
        wall, cpu = time.monotonic(), time.process_time()
        yield
        self.seconds += time.monotonic() - wall
        self.cpu_seconds += time.process_time() - cpu

    def go_on_from(self, budget: Budget) -> None:
        """Counts on from an earlier part of the same run, whose `computed_once` this one has, too."""
        self.steps, self.flops = budget.steps, budget.flops - self._computed_once()
        self.seconds, self.cpu_seconds = budget.seconds, budget.cpu_seconds

    @property
    def budget(self) -> Budget:
        """So far."""
        return Budget(self.steps, self.seconds, self.cpu_seconds, self.flops + self._computed_once())
