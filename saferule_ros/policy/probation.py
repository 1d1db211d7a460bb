"""The ticks after a swap in which a fault of the new policy brings the previous one back. Pure: no clock, no I/O."""

from dataclasses import dataclass

from saferule_ros.policy.failsafe import Reason


@dataclass(frozen=True)
class ProbationLimits:
    """What a policy has to get through.

    Args:
        ticks: for so many answered observations; 0: there is no probation.
        late: so many late actions are a fault. One alone can be the machine's doing, which a policy that is slow
            shows again at the next tick.
        cost: sum of costs beyond which it is a fault, in units of the task; 0: cost is not watched. A swap in a
            place that costs, such as the one a poisoned policy has driven to, is not the new policy's fault: how
            much is too much, only who knows the task can say.
    """

    ticks: int = 50
    late: int = 2
    cost: float = 0.0


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

    @property
    def over(self) -> bool:
        """Whether it got through."""
        return self.left <= 0

    def judge(self, reason: Reason, detail: str, cost: float) -> str:
        """Takes one tick into account.

        Args:
            reason: why the failsafe refused its action; NONE: it did not. Only for ticks whose input was good:
                bad input is not the policy's fault.
            detail: of the reason.
            cost: what the observation said that the action before led to.

        Returns:
            What it failed for; "" if it has not.
        """
        self.left -= 1
        self._cost += cost if cost > 0.0 else 0.0  # a NaN is no cost
        if reason is Reason.LATE:
            self._late += 1
            return f"{reason}: {self._late} late actions, the last: {detail}" if self._late >= self._limits.late else ""
        if reason is not Reason.NONE:
            return f"{reason}: {detail}"
        if self._limits.cost and self._cost > self._limits.cost:
            return f"cost: {self._cost:g} since the swap, limit {self._limits.cost:g}"
        return ""
