"""How long answers took: the newest ones, for the server's status."""

import numpy as np
import numpy.ma  # by np.percentile at its first call otherwise, which holds the interpreter for 40 ms

# Percentiles are over this many newest actions: 20 s at 200 Hz, and sorted in 50 us once a second.
REMEMBERED_TIMES = 4096


class AnswerTimes:
    """Times of the newest REMEMBERED_TIMES actions of the policy [s]. Adding one costs an assignment."""

    def __init__(self) -> None:
        self._newest = np.zeros(REMEMBERED_TIMES, np.float32)
        self._count = 0

    def add(self, elapsed: float) -> None:
        """One more [s]."""
        self._newest[self._count % REMEMBERED_TIMES] = elapsed
        self._count += 1

    def median_and_tail(self) -> tuple[float, float]:
        """Median and 99th percentile [s]; NaN before the first."""
        if self._count == 0:
            return float("nan"), float("nan")
        median, tail = np.percentile(self._newest[: min(self._count, REMEMBERED_TIMES)], (50, 99))
        return float(median), float(tail)
