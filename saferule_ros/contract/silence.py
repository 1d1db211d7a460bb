"""Whether ticks have stopped coming: what their own distance tells, where no rate was given."""

from saferule_ros.units import NANOSECONDS

# So many times the distance of the last two ticks is no jitter any more; and less than so long no silence. [ours]
_PERIODS = 5
_LEAST = NANOSECONDS


def longest(period: int) -> int:
    """How long nothing may come before it is silence [ns].

    Args:
        period: distance of the two ticks before [ns]; 0: there were none.
    """
    return max(_LEAST, _PERIODS * period)


class Silence:
    """Watches the ticks of one robot; times are those of reception [ns]."""

    def __init__(self) -> None:
        self._since: int | None = None
        self._period = 0
        self._heard = False

    def heard(self, now: int) -> None:
        """A tick came."""
        self._period = now - self._since if self._heard and self._since is not None else 0
        self._since, self._heard = now, True

    def seconds(self, now: int) -> float:
        """How long nothing has come, or since the first look [s]; 0 while that is not longer than usual."""
        if self._since is None:
            self._since = now
        silent = now - self._since
        return silent / NANOSECONDS if silent > longest(self._period) else 0.0
