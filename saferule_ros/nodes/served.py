"""A policy in service, and what its actions are held against."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from saferule_ros.policy.failsafe import Limits, Reaction, Reason
from saferule_ros.policy.runtime import PolicyRuntime


@dataclass(frozen=True)
class Served:
    """A loaded policy, and what its actions are held against."""

    runtime: PolicyRuntime
    limits: Limits

    @property
    def id(self) -> str:
        return self.runtime.bundle_id


@dataclass(frozen=True)
class LimitSettings:
    """What makes the limits of any policy; zero takes the policy's own control period.

    Args:
        longest_answer: no deadline is longer [s]. Beside a `fallback` an action that is there later may not go out any
            more: a deadline beyond would never be missed, control would be lost instead, and the policy never be late.
    """

    stale_after: float
    deadline: float
    reaction: Reaction
    reactions: Mapping[Reason, Reaction] = field(default_factory=dict)
    damping: float = 0.8
    largest_rate: float = 0.0
    longest_answer: float = math.inf

    def of(self, runtime: PolicyRuntime) -> Limits:
        """The limits for one policy."""
        deadline = min(self.deadline or 1.0 / runtime.spec.control_rate, self.longest_answer)
        return Limits(
            runtime.spec, self.stale_after, deadline, self.reaction,
            reactions=self.reactions, damping=self.damping, largest_rate=self.largest_rate,
        )  # fmt: skip
