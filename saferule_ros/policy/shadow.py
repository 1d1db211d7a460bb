"""A shadow run: the candidate answers what the active policy answers, and only the active one acts.

The control thread puts each observation with the action that went out into a queue, which takes about a microsecond;
the candidate computes in the thread that makes the swap.
"""

import queue
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from saferule_ros.policy.errors import InferenceError, PolicyError
from saferule_ros.policy.failsafe import Limits, Tick, output_fault
from saferule_ros.policy.runtime import PolicyRuntime
from saferule_ros.policy.would_be import WouldBe
from saferule_ros.safeguard.model import Safeguard

#: How violations of the safeguard are counted, beside the reasons of the failsafe.
SAFEGUARD = "safeguard"

# So many observations may wait for the candidate, 20 s at 200 Hz: one that falls back further never catches up.
BACKLOG = 4096
# Percentiles of times are of this many newest answers, which take 2 MB: a run can have millions.
REMEMBERED_TIMES = 65_536
# How often a wait for an observation is interrupted to see whether the run is wanted still [s].
WANTED_POLL = 0.1


class ShadowRefusedError(PolicyError):
    """The candidate would have done what it may not do."""


@dataclass(frozen=True)
class ShadowLimits:
    """What a shadow run demands.

    Args:
        ticks: so many observations; 0: no shadow run.
        divergence: largest mean difference from the active policy, in halves of the action range; 0: not judged (a
            patched policy is meant to differ).
        patience: longest wait for one observation [s].
        unsafe: so many ticks in which its answers would have broken the safeguard are tolerated.
    """

    ticks: int = 0
    divergence: float = 0.0
    patience: float = 10.0
    unsafe: int = 0


class Seen(NamedTuple):
    """One tick of the active policy."""

    observation: np.ndarray  # float32 (O,)
    action: np.ndarray  # float32 (A,): what went out
    begins: bool = False  # the first observation of an episode
    replaced: bool = False  # the safeguard kept any policy from acting
    gap: bool = False  # between this one and the one before came others that no policy answered


class Tap:
    """Where the control thread leaves what the shadow sees, until that are so many ticks that a policy answered.

    Args:
        ticks: so many.
        wanted: called now and then by those who wait; what it raises ends the wait.
    """

    def __init__(self, ticks: int, wanted: Callable[[], None] = lambda: None) -> None:
        self._left = ticks
        self._wanted = wanted
        self._overrun = False
        self._queue: queue.SimpleQueue[Seen] = queue.SimpleQueue()

    def put(
        self, observation: np.ndarray, action: np.ndarray, begins: bool = False, replaced: bool = False,
        gap: bool = False,
    ) -> None:  # fmt: skip
        """From the control thread; never blocks."""
        if self._left > 0 and self._queue.qsize() >= BACKLOG:
            self._left, self._overrun = 0, True
        elif self._left > 0:
            self._left -= not replaced
            self._queue.put(Seen(observation, action, begins, replaced, gap))

    def get(self, until: float, patience: float) -> Seen:
        """For the shadow.

        Args:
            until: by the monotonic clock.
            patience: how long that was from the last one that a policy answered, for people.

        Raises:
            ShadowRefusedError: nothing came, or too much.
        """
        while True:
            self._wanted()
            if self._overrun:
                raise ShadowRefusedError(
                    f"{BACKLOG} observations wait for the candidate's answer",
                    "It takes longer than a control period, or the machine is too busy to try it now",
                )
            left = until - time.monotonic()
            try:
                return self._queue.get(timeout=min(max(left, 0.0), WANTED_POLL))
            except queue.Empty as error:
                if left <= WANTED_POLL:
                    raise ShadowRefusedError(
                        f"no observation came in {patience:g} s for the shadow run, or none that a policy may answer",
                        "Swap while the robot runs, and the safeguard lets it",
                    ) from error


@dataclass
class ShadowReport:
    """What was counted. Differences are in halves of the action range."""

    ticks: int = 0
    divergence_mean: float = 0.0
    divergence_max: float = 0.0
    latency_p50: float = 0.0  # [s], of the newest REMEMBERED_TIMES answers
    latency_p99: float = 0.0  # [s]
    violations: Counter[str] = field(default_factory=Counter)  # reason -> ticks
    first_violation: str = ""

    def count(self, reason: str, detail: str) -> None:
        """One more tick with a violation."""
        self.violations[reason] += 1
        self.first_violation = self.first_violation or f"{reason}: {detail}"

    @property
    def unsafe(self) -> int:
        """Ticks in which the safeguard would have been broken."""
        return self.violations[SAFEGUARD]

    @property
    def summary(self) -> str:
        """One line."""
        counted = ", ".join(f"{count} {reason}" for reason, count in sorted(self.violations.items())) or "none"
        return (
            f"shadow: {self.ticks} ticks, differs by {self.divergence_mean:.3g} on average and "
            f"{self.divergence_max:.3g} at most, p99 {1e3 * self.latency_p99:.3f} ms, violations: {counted}"
        )

    def require(self, limits: ShadowLimits) -> None:
        """Raises ShadowRefusedError unless the candidate may go on."""
        if self.violations.total() > self.unsafe or self.unsafe > limits.unsafe:
            raise ShadowRefusedError(f"{self.summary}; the first: {self.first_violation}", "Patch it again")
        if limits.divergence and self.divergence_mean > limits.divergence:
            raise ShadowRefusedError(f"{self.summary}; allowed on average: {limits.divergence:g}", "Patch it again")


def run_shadow(
    candidate: PolicyRuntime, limits: Limits, shadow: ShadowLimits, tap: Tap, safeguard: Safeguard | None = None
) -> ShadowReport:
    """Answers what the tap brings, `shadow.ticks` times. Blocks: for a thread that has the time.

    Ticks in which the safeguard kept any policy from acting do not count: they would prove nothing.

    Args:
        candidate: loaded and warm.
        limits: what its actions are held against, as if it served; action rate included.
        safeguard: what they must not break either; see WouldBe.

    Raises:
        ShadowRefusedError: observations stopped coming, or come faster than they are answered.
    """
    report, times = ShadowReport(), deque[float](maxlen=REMEMBERED_TIMES)
    compared, differences = 0, 0.0
    last: np.ndarray | None = None
    would_be = WouldBe(safeguard) if safeguard is not None else None
    half_range = 0.5 * (limits.spec.high - limits.spec.low)
    until = time.monotonic() + shadow.patience
    while report.ticks < shadow.ticks:
        seen = tap.get(until, shadow.patience)
        if seen.replaced:
            last = None
            if would_be is not None:
                would_be.observe(seen.observation, seen.begins)
                would_be.answer(seen.action, None)
            continue
        until = time.monotonic() + shadow.patience
        if seen.begins or seen.gap:
            last = None  # no rate is held against what was answered before, as in service
        tick = Tick(
            has_policy=True, observation=seen.observation, stamp_ns=0, previous_stamp_ns=0, now_ns=0,
            last_action=last, last_was_policy=last is not None,
        )  # fmt: skip
        began, cpu = time.perf_counter(), time.thread_time()
        try:
            tick.action = candidate.act(seen.observation)
        except InferenceError as error:
            tick.error = str(error)
        # Late by its own work: this thread steps back behind control, and waiting is not the policy's doing.
        tick.elapsed_s = time.thread_time() - cpu
        times.append(time.perf_counter() - began)
        last = None if tick.action is None else np.asarray(tick.action)
        report.ticks += 1
        fault = output_fault(limits, tick)
        if fault is not None:
            report.count(fault.reason, fault.detail)
        elif last is not None:
            difference = float(np.abs((last - seen.action) / half_range).max())
            compared, differences = compared + 1, differences + difference
            report.divergence_max = max(report.divergence_max, difference)
        if would_be is not None:
            if broken := would_be.observe(seen.observation, seen.begins):
                report.count(SAFEGUARD, broken)
            would_be.answer(seen.action, last if fault is None else None)
    report.latency_p50, report.latency_p99 = (float(value) for value in np.percentile(times, (50, 99)))
    report.divergence_mean = differences / max(compared, 1)
    return report
