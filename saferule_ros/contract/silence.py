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

    @property
    def known(self) -> bool:
        """Whether there were two ticks."""
        return bool(self._distances)

    def add(self, distance: int) -> None:
        """Another tick came, at this distance of the one before [ns]."""
        self._distances.append(distance)

    def is_silence(self, distance: int) -> bool:
        """Whether nothing came for too long [ns]. The first distance of two ticks may be the usual one."""
        if not self.known:
            return False
        usual = sorted(self._distances)[(len(self._distances) - 1) // 2]
        return distance > max(_LEAST, _PERIODS * usual)


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
        """How long nothing has come, or since the first look [s]; 0 while that is not longer than usual.

        Where nothing is known of what is usual, it is told after the shortest silence: it ends no episode.
        """
        if self._since is None:
            self._since = now
        silent = now - self._since
        too_long = self._pace.is_silence(silent) if self._pace.known else silent > _LEAST
        return silent / NANOSECONDS if too_long else 0.0
