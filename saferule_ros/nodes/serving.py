"""The control path: one observation in, one action out. Small on purpose: every line costs time in every tick."""

from __future__ import annotations

import array
import time
from dataclasses import dataclass

import numpy as np
from builtin_interfaces.msg import Time
from numpy.typing import NDArray

from saferule_ros.msg import Action, Observation
from saferule_ros.policy.errors import InferenceError
from saferule_ros.policy.failsafe import Decision, Limits, Reaction, Reason, Tick, decide, input_fault
from saferule_ros.policy.runtime import PolicyRuntime

NANOSECONDS = 1_000_000_000
# Percentiles are over this many newest actions: 20 s at 200 Hz, and sorted in 50 us once a second.
REMEMBERED_TIMES = 4096
# Observations this old [ns] are not late, they are stamped by another clock.
DIFFERENT_CLOCK = 86_400 * NANOSECONDS


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
    """What makes the limits of any policy; zero takes the policy's own control period."""

    stale_after: float
    deadline: float
    reaction: Reaction

    def of(self, runtime: PolicyRuntime) -> Limits:
        """The limits for one policy."""
        deadline = self.deadline or 1.0 / runtime.spec.control_rate
        return Limits(runtime.spec, self.stale_after, deadline, self.reaction)


class ControlPath:
    """Answers observations with the served policy, or with the declared reaction and the reason for it.

    Used in one thread. `switch` is the swap: the reference is replaced between two calls of `answer`, so every
    action is by exactly one policy, and carries its generation.
    """

    def __init__(self) -> None:
        self.served: Served | None = None
        self.generation = 0
        self.first_sequence = 0  # Action.sequence of this generation's first action
        self.sequence = 0  # Action.sequence of the newest action
        self.fallbacks = 0
        self.last_fault = ""
        self._previous_stamp: int | None = None
        self._last_action: NDArray[np.float32] | None = None
        self._times = np.zeros(REMEMBERED_TIMES, np.float32)
        self._timed = 0

    def switch(self, served: Served | None) -> None:
        """From the next action on, `served` acts."""
        self.served = served
        self.generation += 1
        self.first_sequence = self.sequence + 1

    def answer(self, message: Observation, now_ns: int) -> Action:
        """The action for an observation; `now_ns` is the clock that stamped it [ns]."""
        start = time.perf_counter()
        served = self.served
        assert served is not None, "the subscription exists only while a policy is served"
        stamp = message.header.stamp
        stamp_ns = stamp.sec * NANOSECONDS + stamp.nanosec
        if message.step == 0:
            self._previous_stamp = None  # a new episode may come from a simulator that was started anew
        observation = np.asarray(message.data, np.float32)
        tick = Tick(
            has_policy=True,
            observation=observation,
            stamp_ns=stamp_ns,
            previous_stamp_ns=self._previous_stamp,
            now_ns=now_ns,
            last_action=self._last_action,
        )
        self._previous_stamp = stamp_ns
        if input_fault(served.limits, tick) is None:
            try:
                tick.action = served.runtime.act(observation)
            except InferenceError as error:
                tick.error = str(error)
        tick.elapsed_s = time.perf_counter() - start
        decision = decide(served.limits, tick)
        if decision.use_policy:
            self._times[self._timed % REMEMBERED_TIMES] = tick.elapsed_s
            self._timed += 1
        return self._action(decision, served.id, message.sequence, stamp_ns, now_ns, tick.elapsed_s)

    def parting(self, now_ns: int) -> Action | None:
        """The safe action that is sent last; None if no policy was ever served, and so nothing commanded."""
        if self.served is None:
            return None
        tick = Tick(
            has_policy=True,
            observation=None,
            stamp_ns=now_ns,
            previous_stamp_ns=None,
            now_ns=now_ns,
            last_action=self._last_action,
            shutting_down=True,
        )
        return self._action(decide(self.served.limits, tick), self.served.id, 0, now_ns, now_ns, 0.0)

    def times(self) -> tuple[float, float]:
        """Median and 99th percentile of the time per action [s]; NaN before the first."""
        known = self._times[: min(self._timed, REMEMBERED_TIMES)]
        if known.size == 0:
            return float("nan"), float("nan")
        median, tail = np.percentile(known, (50, 99))
        return float(median), float(tail)

    def _action(
        self, decision: Decision, policy_id: str, observation_sequence: int, stamp_ns: int, now_ns: int, elapsed: float
    ) -> Action:
        self.sequence += 1
        self._last_action = decision.action
        message = Action(
            sequence=self.sequence,
            observation_sequence=observation_sequence,
            data=array.array("f", decision.action.tobytes()),
            policy_generation=self.generation,
        )
        message.header.stamp = Time(sec=now_ns // NANOSECONDS, nanosec=now_ns % NANOSECONDS)
        if decision.use_policy:
            message.policy_id = policy_id
            message.inference_time = elapsed
        else:
            self.fallbacks += 1
            self.last_fault = f"{decision.reason}: {decision.detail}"
            if decision.reason is Reason.STALE_OBSERVATION and now_ns - stamp_ns > DIFFERENT_CLOCK:
                self.last_fault += ". Two clocks: set use_sim_time for simulated observations, and only for those"
            message.fallback = True
            message.fallback_reason = str(decision.reason)
        return message
