"""The ticks after a swap in which a fault of the new policy brings the previous one back. Pure: no clock, no I/O.

Cost and safeguard judge where actions led to, one observation later. A swap in a place that costs or is unsafe, such as
the one that a poisoned policy has driven to, is not the new policy's fault: until the first observation without cost,
cost is not counted, and unsafe ticks not until the first that is not unsafe; likewise after somebody else commanded
[ours].
"""

import math
from dataclasses import dataclass

from saferule_ros.policy.failsafe import Reason


@dataclass(frozen=True)
class ProbationLimits:
    """What a policy has to get through.

    Args:
        ticks: for so many answered observations; 0: there is no probation.
        late: so many late actions are a fault. One alone can be the machine's doing, which a policy that is slow
            shows again at the next tick.
        cost: sum of an episode's costs beyond which it is a fault, in units of the task; infinite: not watched.
        unsafe: so many unsafe ticks of the safeguard are tolerated.
    """

    ticks: int = 50
    late: int = 2
    cost: float = math.inf
    unsafe: int = 0


class Probation:
    """One policy's probation.

    Args:
        limits: see there.
    """

    def __init__(self, limits: ProbationLimits) -> None:
        self._limits = limits
        self.left = limits.ticks
        self._late = 0
        self._cost = 0.0
        self._unsafe = 0
        self._cost_is_its_own = self._unsafe_is_its_own = False

    @property
    def over(self) -> bool:
        """Whether it got through."""
        return self.left <= 0

    def judge(self, reason: Reason, detail: str, cost: float, unsafe: str | None = "") -> str:
        """Takes one tick into account.

        Args:
            reason: why the failsafe refused its action; NONE: it did not. Only for ticks whose input was good:
                bad input is not the policy's fault.
            detail: of the reason.
            cost, unsafe: see led_to.

        Returns:
            What it failed for; "" if it has not.
        """
        self.left -= 1
        led_to = self.led_to(cost, unsafe)
        if reason is Reason.LATE:
            self._late += 1
            if self._late >= self._limits.late:
                return f"{reason}: {self._late} late actions, the last: {detail}"
        elif reason is not Reason.NONE:
            return f"{reason}: {detail}"
        return led_to

    def led_to(self, cost: float, unsafe: str | None) -> str:
        """Takes into account what the action before an observation led to; the last of an episode has no other tick.

        Args:
            cost: what the observation said. A NaN is no cost, and no proof that there was none.
            unsafe: what the safeguard said; "" where it is not broken, None where nobody knows.

        Returns:
            As judge.
        """
        self._cost_is_its_own |= cost <= 0.0
        if self._cost_is_its_own and cost > 0.0:
            self._cost += cost
        self._unsafe_is_its_own |= unsafe == ""
        if self._unsafe_is_its_own and unsafe:
            self._unsafe += 1
        if self._unsafe > self._limits.unsafe:
            return f"safeguard: {self._unsafe} unsafe ticks, {self._limits.unsafe} tolerated, the last: {unsafe}"
        if self._cost > self._limits.cost:
            return f"cost: {self._cost:g} since the swap, limit {self._limits.cost:g}"
        return ""

    def begin_episode(self, cost: float) -> None:
        """Costs are summed anew: a limit is one of an episode.

        Args:
            cost: of its first observation, to which no action led: it tells whether the robot stands where it costs.
        """
        self._cost = 0.0
        self._cost_is_its_own |= cost <= 0.0

    def leave_out(self) -> None:
        """Somebody else commands: where that leads to is not this policy's doing, until it is seen to be out of it."""
        self._cost_is_its_own = self._unsafe_is_its_own = False
