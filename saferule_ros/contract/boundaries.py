"""Messages that ask for the beginning or the end of an episode: from which tick on they count."""

from collections import deque
from typing import NamedTuple

# What delays of two sources differ by at most [ns], where their times are of one clock: beyond it they are of two, as
# in a simulation that was recorded without its clock. [ours]
ONE_CLOCK = 10**9
# More than anybody asks for while a tick waits; beyond it the oldest go.
_MOST = 1024


class Moment(NamedTuple):
    """An instant: the time that it has [ns], and when it was heard of [ns]."""

    time: int
    heard: int

    def is_before(self, other: "Moment") -> bool:
        """By their own times; where these are of two clocks, by when they were heard of."""
        if abs((self.heard - self.time) - (other.heard - other.time)) > ONE_CLOCK:
            return self.heard < other.heard
        return self.time < other.time


class Boundaries:
    """What was asked for and no tick has reached yet.

    A tick may wait for its sources while a message comes that was sent after it: it lies before the boundary, and is
    judged after it.
    """

    def __init__(self) -> None:
        self._asked: deque[Moment] = deque(maxlen=_MOST)

    def ask(self, moment: Moment) -> None:
        """The first tick that is not before this is the one."""
        self._asked.append(moment)

    def reached(self, tick: Moment) -> bool:
        """Whether this tick is one."""
        return any(not tick.is_before(moment) for moment in self._asked)

    def forget(self, tick: Moment) -> None:
        """This tick is done: what it reached counts for no other."""
        self._asked = deque((moment for moment in self._asked if tick.is_before(moment)), _MOST)

    def clear(self) -> None:
        """Nothing that was asked for counts any more."""
        self._asked.clear()
