"""The samples of one source over time, and what it says at a given instant."""

from bisect import bisect_left, bisect_right
from collections import Counter

import numpy as np
import numpy.typing as npt

from saferule_ros.contract.decoding import Sample
from saferule_ros.contract.model import Align, Source
from saferule_ros.units import NANOSECONDS

# More samples than a source brings while a tick waits (four seconds at 1 kHz); beyond it the oldest go.
_MOST_SAMPLES = 4096
_NOTHING = -(2**62)  # a time before all times


class Unusable(Exception):
    """The source has nothing for this instant, and will not have; the text says why."""


class Early(Unusable):
    """The instant lies before the first that was ever heard of the source."""


class Stream:
    """One source.

    Attributes:
        counts: samples and what was wrong with them: received, out_of_order, late, ahead of the clock,
            malformed, non-finite, …
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.counts: Counter[str] = Counter()
        self._times: list[int] = []
        self._samples: list[Sample] = []
        self._forgotten = _NOTHING
        self._unseen: list[Sample] = []  # max_since: what no tick has seen yet, in whatever order it came

    @property
    def newest(self) -> int | None:
        """Time of its newest sample [ns]; None before the first."""
        return self._times[-1] if self._times else None

    def add(self, sample: Sample) -> None:
        """Takes a sample; one that was overtaken is put in its place."""
        self.counts["received"] += 1
        if sample.problem:
            self.counts[sample.problem.partition(":")[0]] += 1
        if sample.time < self._forgotten:
            self.counts["late"] += 1
            return
        if self.source.align is Align.MAX_SINCE:
            self._unseen = [*self._unseen[-_MOST_SAMPLES + 1 :], sample]
        where = bisect_right(self._times, sample.time)
        if where < len(self._times):
            self.counts["out_of_order"] += 1
        self._times.insert(where, sample.time)
        self._samples.insert(where, sample)
        if len(self._times) > _MOST_SAMPLES:
            del self._times[0], self._samples[0]
            self._forgotten = self._times[0]

    def refuse(self, why: str) -> None:
        """Counts a sample that is not taken."""
        self.counts["received"] += 1
        self.counts[why] += 1

    def set_back(self, step: int) -> None:
        """The clock went back by `step` [ns]: samples of before would be of the future, and are forgotten.

        But for what holds however old it is: that is not said again until it changes, and is as old as before.
        """
        holds = self.source.align in (Align.LATEST, Align.MAX_SINCE) and self.source.max_age is None
        newest = self._samples[-1:] if holds else []
        self._samples = [sample._replace(time=sample.time - step) for sample in newest]
        self._times = [sample.time for sample in self._samples]
        self._forgotten, self._unseen = _NOTHING, []

    def at(self, time: int) -> npt.NDArray[np.float64] | None:
        """The values (K,) at an instant [ns], or None: they may still come.

        Raises:
            Unusable: they are too old, missing or unusable. Nothing is ever filled in.
            Early: the source was not heard before.
        """
        if self.source.align is Align.LATEST:
            return self._latest(time)
        if self.source.align is Align.MAX_SINCE:
            return self._largest(time)
        if self.source.align is Align.EXACT:
            return self._exact(time)
        return self._between(time)

    def forget(self, before: int, seen: bool = True) -> None:
        """Ticks up to this instant are done: what only they could use is not needed any more.

        Args:
            before: the instant [ns].
            seen: whether the tick at it saw what the source said; else the largest of that meets the next one, too.
        """
        due = [sample for sample in self._unseen if sample.time <= before]
        if due:
            kept = [] if seen else _largest_of(due)
            self._unseen = [*kept, *(sample for sample in self._unseen if sample.time > before)]
        keep = max(bisect_right(self._times, before) - 1, 0)
        if keep:
            self._forgotten = self._times[keep]
            del self._times[:keep], self._samples[:keep]

    def _latest(self, time: int) -> npt.NDArray[np.float64]:
        where = bisect_right(self._times, time) - 1
        if where < 0:
            raise self._missing("nothing was received before")
        self._check_age(time - self._times[where])
        return _values(self._samples[where])

    def _largest(self, time: int) -> npt.NDArray[np.float64]:
        """What came between two ticks and is over counts, too."""
        newest = self._latest(time)
        since = [_values(sample) for sample in self._unseen if sample.time <= time]
        if any(len(values) != len(newest) for values in since):
            raise Unusable("wrong size: it changed between two ticks")
        return np.max([newest, *since], axis=0) if since else newest

    def _exact(self, time: int) -> npt.NDArray[np.float64] | None:
        tolerance = round(self.source.tolerance * NANOSECONDS)
        begin = bisect_left(self._times, time - tolerance)
        end = bisect_right(self._times, time + tolerance)
        if begin < end:
            nearest = min(range(begin, end), key=lambda where: (abs(self._times[where] - time), where))
            return _values(self._samples[nearest])
        if end < len(self._times):
            raise Unusable("no message has the tick's time") if end else self._missing("no message has the tick's time")
        return None

    def _between(self, time: int) -> npt.NDArray[np.float64] | None:
        after = bisect_left(self._times, time)
        if after == len(self._times):
            return None
        if self._times[after] == time:
            return _values(self._samples[after])
        if after == 0:
            raise self._missing("nothing was received before")
        begin, end = self._times[after - 1], self._times[after]
        self._check_age(end - begin)
        first, second = _values(self._samples[after - 1]), _values(self._samples[after])
        return first + (second - first) * ((time - begin) / (end - begin))

    def _missing(self, why: str) -> Unusable:
        """There is nothing before an instant: there never was, or it is forgotten."""
        return Early(why) if self._forgotten == _NOTHING else Unusable(why)

    def _check_age(self, age: int) -> None:
        limit = self.source.max_age
        if limit is not None and age > round(limit * NANOSECONDS):
            raise Unusable(f"stale: {age / NANOSECONDS:.3f} s, allowed {limit:g} s")


def _largest_of(samples: list[Sample]) -> list[Sample]:
    """One for all that can be used, of the size of the newest; none if none can: it costs its own tick, and no more."""
    usable = [(sample.time, sample.values) for sample in samples if sample.values is not None]
    if not usable:
        return []
    time, newest = max(usable, key=lambda one: one[0])
    return [Sample(time, np.max([values for _, values in usable if len(values) == len(newest)], axis=0))]


def _values(sample: Sample) -> npt.NDArray[np.float64]:
    if sample.values is None:
        raise Unusable(sample.problem)
    return sample.values
