"""What policy_server says of its health: the worst of what is amiss, and all values beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from saferule_ros.nodes.diagnostics import Health, Level
from saferule_ros.nodes.heart import Heart
from saferule_ros.nodes.policy_services import PolicyServices
from saferule_ros.nodes.serving import ControlPath
from saferule_ros.nodes.stop_latch import StopLatch
from saferule_ros.policy.episode_costs import CostRecord


class PolicyHealth:
    """Sees what came since it was last asked.

    Args:
        path, policies, heart, stop: the parts of policy_server.
        fallback_is_there: whether some node `fallback` could give control.
    """

    def __init__(
        self, path: ControlPath, policies: PolicyServices, heart: Heart, stop: StopLatch,
        fallback_is_there: Callable[[], bool],
    ) -> None:  # fmt: skip
        self._path, self._policies, self._heart, self._stop = path, policies, heart, stop
        self._fallback_is_there = fallback_is_there
        self._reported_fallbacks = self._reported_unsafe = self._reported_withdrawn = 0

    def report(self, phase: str, last_event: str, costs: CostRecord) -> Health:
        """See Diagnostics.

        Args:
            phase, last_event: as the status has them.
            costs: of the newest episodes of what is served.
        """
        fallbacks, withdrawn, unsafe = self._path.fallbacks, self._path.withdrawn, self._path.watch.unsafe_ticks
        new = (
            fallbacks - self._reported_fallbacks,
            withdrawn - self._reported_withdrawn,
            unsafe - self._reported_unsafe,
        )
        self._reported_fallbacks, self._reported_withdrawn, self._reported_unsafe = fallbacks, withdrawn, unsafe
        values = self._values(phase, costs)
        for message in self._errors(phase, last_event):
            return Health(Level.ERROR, message, values)
        for message in self._warnings(*new, costs):
            return Health(Level.WARN, message, values)
        return Health(Level.OK, "serving", values)

    def _errors(self, phase: str, last_event: str) -> Iterator[str]:
        """Why no policy acts, or what lets a stop be forgotten; the worst first."""
        if self._stop.complaint:
            yield self._stop.complaint
        if self._stop.held_back and phase == "inactive":
            yield self._stop.held_back
        if phase != "serving":
            yield f"{phase}: {last_event}"
        if not self._heart.in_control and not self._fallback_is_there():
            yield (
                "nobody commands the robot: no node `fallback` is there, whose word this one waits for. Start it, or "
                "set fallback: false"
            )
        if not self._heart.in_control:
            yield "fallback commands the robot, and was asked to give control back"
        if (stop := self._path.stop) is not None:
            yield f"stopped until activated again: {stop.reason}: {stop.detail}"

    def _warnings(self, fallbacks: int, withdrawn: int, unsafe: int, costs: CostRecord) -> Iterator[str]:
        """What somebody should look at while the policy acts; the most urgent first. The numbers are of what is new."""
        if self._policies.untold:
            yield self._policies.untold
        if fallbacks:
            yield f"{fallbacks} safe actions, the last: {self._path.last_fault}"
        if withdrawn:
            yield f"{withdrawn} answers withdrawn, as control was lost, the last: {self._path.last_fault}"
        if self._path.steps.complaint:
            yield self._path.steps.complaint
        if unsafe:
            yield f"{unsafe} unsafe ticks, the last: {self._path.watch.last_unsafe}"
        if costs.violation:
            yield f"the policy {costs.violation}"

    def _values(self, phase: str, costs: CostRecord) -> dict[str, object]:
        median, tail = self._path.times()
        return {
            "state": phase,
            "policy_id": self._path.served.id if self._path.served is not None else "",
            "policy_generation": self._path.generation,
            "actions_served": self._path.sequence,
            "fallbacks": self._path.fallbacks,
            "answers withdrawn": self._path.withdrawn,
            "last_fault": self._path.last_fault,
            "swap_state": str(self._policies.life.state),
            "trial_fault": self._policies.trial_fault,
            "safeguard": self._path.watch.state or "none",
            "unsafe ticks": self._path.watch.unsafe_ticks,
            "episodes": len(costs.newest),
            "episode cost, mean": round(costs.mean, 4),
            "episode cost, limit": costs.limit,
            "commands": "yes" if self._heart.in_control else "no",
            "time per action p50 [ms]": round(1e3 * median, 4),
            "time per action p99 [ms]": round(1e3 * tail, 4),
        }
