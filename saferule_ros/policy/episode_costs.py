"""What a policy's episodes cost in service, held against its limit: whether there is something to patch. Pure."""

import math
from typing import NamedTuple

# The newest episodes that are looked at: as many as an evaluation has, and few enough to show soon that a patch helped.
NEWEST = 20


class CostRecord(NamedTuple):
    """What is known of one policy in service, in units of the task."""

    limit: float  # of an episode
    running: float  # of the episode that runs, so far; NaN where none runs of which everything was seen
    newest: tuple[float, ...]  # of the newest whole episodes, NEWEST at most

    @property
    def mean(self) -> float:
        """Of the newest episodes; NaN without any."""
        return sum(self.newest) / len(self.newest) if self.newest else math.nan

    @property
    def over(self) -> int:
        """How many of them cost more than the limit."""
        return sum(cost > self.limit for cost in self.newest)

    @property
    def violation(self) -> str:
        """How the limit is violated, for people; "" if it is not."""
        if self.mean > self.limit:
            newest = f"in the mean of its newest {len(self.newest)} episodes"
            return f"costs {self.mean:.4g} {newest}, {self.over} of them over its limit of {self.limit:g}"
        if self.running > self.limit:
            return f"has cost {self.running:.4g} in the episode that runs, its limit is {self.limit:g}"
        return ""


class EpisodeCosts:
    """Counts for one policy. Costs come with observations: of what the action before them led to.

    An episode counts if the policy was in service from its first observation to its end, none in between was lost, and
    nobody else commanded: neither `fallback` nor, in a state that it calls unsafe, the safeguard. The declared reaction
    to a late or wrong action is the policy's doing. A cost that is not finite makes its episode unknown.
    """

    def __init__(self) -> None:
        self._running = math.nan
        self._step = 0  # of the newest observation
        self._newest: tuple[float, ...] = ()  # replaced as a whole: another thread may read it

    def observed(self, step: int, cost: float) -> None:
        """One observation: what the action before it cost. With step 0 an episode begins, to which none led.

        The episode before is over then, if nobody said so.
        """
        if step == 0:
            self._close()
            self._running = 0.0
        else:
            self._led_to(step, cost)
        self._step = step

    def ended(self, step: int, cost: float) -> None:
        """The last observation of an episode."""
        if step > 0:
            self._led_to(step, cost)
        self._close()

    def _led_to(self, step: int, cost: float) -> None:
        self._running = self._running + cost if step == self._step + 1 else math.nan

    def _close(self) -> None:
        if math.isfinite(self._running):
            self._newest = (*self._newest, self._running)[-NEWEST:]
        self._running = math.nan

    def leave_out(self) -> None:
        """Somebody else commanded: the episode that runs is not this policy's alone."""
        self._running = math.nan

    def record(self, limit: float) -> CostRecord:
        """What is known now, held against a limit."""
        running = self._running if math.isfinite(self._running) else math.nan
        return CostRecord(limit, running, self._newest)
