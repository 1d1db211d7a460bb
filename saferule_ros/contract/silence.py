"""Whether ticks have stopped coming: what their own distance tells, where no rate was given."""

from collections import deque

from saferule_ros.units import NANOSECONDS

# So many times the usual distance of ticks is no jitter any more; and less than so long no silence. [ours]
_PERIODS = 5
_LEAST = NANOSECONDS
# So many distances say what is usual. Ticks that have become slow for good are usual after three. [ours]
_DISTANCES = 5


class Pace:
    """The usual distance of ticks: the median of the newest ones; of an even number of them, the smaller of two.

    So neither a silence, nor two with a tick between, nor two messages at once change it.
    """

    def __init__(self) -> None:
        self._distances: deque[int] = deque(maxlen=_DISTANCES)

    def add(self, distance: int) -> None:
        """Another tick came, at this distance of the one before [ns]."""
        self._distances.append(distance)

    @property
    def longest(self) -> int:
        """How long nothing may come before it is silence [ns]."""
        known = sorted(self._distances)
        return max(_LEAST, _PERIODS * known[(len(known) - 1) // 2]) if known else _LEAST


class Silence:
    """Watches the ticks of one robot; times are those of reception [ns]."""

    def __init__(self) -> None:
        self._since: int | None = None
        self._pace = Pace()
        self._heard = False

    def heard(self, now: int) -> None:
        """A tick came."""
        if self._heard and self._since is not None:
            self._pace.add(now - self._since)
        self._since, self._heard = now, True

    def seconds(self, now: int) -> float:
        """How long nothing has come, or since the first look [s]; 0 while that is not longer than usual."""
        if self._since is None:
            self._since = now
        silent = now - self._since
        return silent / NANOSECONDS if silent > self._pace.longest else 0.0
