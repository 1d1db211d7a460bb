"""Decides, for one tick, whether the policy's action may go out, and what goes out instead. Pure: plain data
in and out, no clock, no I/O, so that a log replays to the same decisions.

A fault is never repaired: a bad input is not filled in and a bad action is not clipped. The declared reaction
goes out and the reason is said. This is no certified safety function.

    fault = input_fault(limits, tick)      # before inference: the policy never sees a bad input
    if fault is None:
        tick.action = runtime.act(...)     # or tick.error = ...; and tick.elapsed_s
    decision = decide_after(limits, tick, fault)
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from saferule_ros.policy.errors import SpecError
from saferule_ros.policy.spec import PolicySpec
from saferule_ros.units import NANOSECONDS


class Reason(StrEnum):
    """Why the policy did not act, in order of precedence."""

    NONE = "none"
    SHUTDOWN = "shutdown"
    STOPPED = "stopped"
    NO_POLICY = "no_policy"
    MISSING_OBSERVATION = "missing_observation"
    WRONG_SIZE = "wrong_size"
    NON_FINITE_OBSERVATION = "non_finite_observation"
    TIME_BACKWARDS = "time_backwards"
    STALE_OBSERVATION = "stale_observation"
    UNSAFE = "unsafe"
    INFERENCE_ERROR = "inference_error"
    NON_FINITE_ACTION = "non_finite_action"
    OUT_OF_BOUNDS = "out_of_bounds"
    TOO_FAST = "too_fast"
    LATE = "late"


class Reaction(StrEnum):
    """What goes out instead of the policy's action."""

    ZERO = "zero"  # all zeros: stops a robot that takes velocities, torques or forces
    HOLD = "hold"  # the last command again, for a robot that takes positions; zeros where there is none
    DAMP = "damp"  # a share of the last command, every tick less of it: comes to rest without a jerk; zeros at the end,
    # and where the robot may stand already
    STOP = "stop"  # zeros, from now on: no policy acts any more until somebody activates the server again


@dataclass(frozen=True)
class Limits:
    """What a tick is held against. Raises SpecError for a value that makes no sense.

    Args:
        spec: the contract.
        stale_after_s: oldest observation that is acted on [s].
        deadline_s: longest time that computing an action may take [s], judged when it is there: inference is not
            interrupted, and that it hangs is for the node `fallback` to see. What an observation waited before counts
            for stale_after_s alone.
        reaction: what goes out in case of a fault.
        reactions: what goes out for single reasons instead.
        damping: the share of the last command that "damp" sends, from 0 to below 1.
        largest_rate: how fast an action may change [1/s], in halves of its range; 0: not limited. From one action of
            the policy to its next: after a fault it may begin anew.
        future_tolerance_s: by how much a stamp may be ahead of the clock [s]. Clocks of two machines differ
            by milliseconds, and a simulator's clock can arrive some ticks after an observation stamped with it.
    """

    spec: PolicySpec
    stale_after_s: float
    deadline_s: float
    reaction: Reaction = Reaction.ZERO
    future_tolerance_s: float = 0.5
    reactions: Mapping[Reason, Reaction] = field(default_factory=dict)
    damping: float = 0.8
    largest_rate: float = 0.0
    low: np.ndarray = field(init=False, repr=False, compare=False)
    high: np.ndarray = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("stale_after_s", "deadline_s", "future_tolerance_s"):
            if not 0.0 < getattr(self, name) < math.inf:
                raise SpecError(f"{name} is {getattr(self, name)!r}", "Give a positive number of seconds")
        for reason, reaction in ((Reason.NONE, self.reaction), *self.reactions.items()):
            if reaction not in tuple(Reaction):
                raise SpecError(f"reaction is {reaction!r}", f"Known ones: {', '.join(Reaction)}")
            if reason not in tuple(Reason):
                raise SpecError(f"a reaction is declared for {reason!r}", f"Known reasons: {', '.join(Reason)}")
        if not 0.0 <= self.damping < 1.0:
            raise SpecError(f"damping is {self.damping!r}", "Give a share from 0 to below 1")
        if not 0.0 <= self.largest_rate < math.inf:
            raise SpecError(f"largest_rate is {self.largest_rate!r}", "Give a positive number, or 0 for none")
        object.__setattr__(self, "low", self.spec.low - self.spec.slack)
        object.__setattr__(self, "high", self.spec.high + self.spec.slack)

    @property
    def patience_s(self) -> float:
        """After so long without an observation one is missing [s]: the next was due a control period after the last,
        and would be stale by now."""
        return self.stale_after_s + 1.0 / self.spec.control_rate


@dataclass(slots=True)
class Tick:
    """All that is known of one tick. Stamps [ns] are of one clock."""

    has_policy: bool
    observation: ArrayLike | None  # (O,) raw units; None: none came
    stamp_ns: int  # when it was measured; where none came: when the one before it came
    previous_stamp_ns: int | None  # of the observation before this one; None: this is the first
    now_ns: int
    last_action: ArrayLike | None = None  # (A,) what went out last; None: nothing yet
    action: ArrayLike | None = None  # (A,) what the policy gave; None: nothing (yet)
    error: str = ""  # why it gave nothing
    elapsed_s: float = 0.0  # that computing the action took
    shutting_down: bool = False
    stopped: bool = False  # a "stop" went out since the server was activated
    last_was_policy: bool = False  # whether last_action was the policy's own
    unsafe: str = ""  # what the safeguard says of the observation, where it is enforced; "" if nothing
    at_rest: bool = False  # the robot may have stopped by itself since last_action: what damps begins from zero


class Fault(NamedTuple):
    """A reason, and the values that made it one, for people."""

    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What goes out."""

    use_policy: bool
    reason: Reason
    action: np.ndarray  # float32 (A,)
    detail: str = ""
    reaction: Reaction | None = None  # None: the policy acts


def decide(limits: Limits, tick: Tick) -> Decision:
    """The policy's action if nothing speaks against it, else the declared reaction with the first reason."""
    return decide_after(limits, tick, input_fault(limits, tick))


def decide_after(limits: Limits, tick: Tick, fault: Fault | None) -> Decision:
    """The same where the input has been judged already: `fault` is what input_fault said of this tick."""
    if fault is None:
        fault = output_fault(limits, tick)
    action = _vector(tick.action)
    if fault is None and action is not None:
        return Decision(True, Reason.NONE, action.copy())
    reason, detail = fault or Fault(Reason.INFERENCE_ERROR, "the policy gave nothing")
    kind = Reaction.STOP if reason is Reason.STOPPED else limits.reactions.get(reason, limits.reaction)
    if reason is Reason.SHUTDOWN and kind is Reaction.DAMP:
        kind = Reaction.ZERO  # no tick follows in which there would be less of it
    return Decision(False, reason, react(limits, kind, tick.last_action, tick.at_rest), detail, kind)


def input_fault(limits: Limits, tick: Tick) -> Fault | None:
    """What forbids to run the policy at all. None: it may run."""
    if tick.shutting_down:
        return Fault(Reason.SHUTDOWN, "shutting down")
    if tick.stopped:
        return Fault(Reason.STOPPED, "stopped by an earlier fault, until the server is activated again")
    if not tick.has_policy:
        return Fault(Reason.NO_POLICY, "no policy is active")
    if tick.observation is None:
        silence = (tick.now_ns - tick.stamp_ns) / NANOSECONDS
        return Fault(Reason.MISSING_OBSERVATION, f"no observation for {silence:.6f} s, limit {limits.patience_s:g} s")
    observation, size = _vector(tick.observation), limits.spec.observation_size
    if observation is None or observation.shape != (size,):
        found = "is no vector of numbers" if observation is None else f"has shape {observation.shape}"
        return Fault(Reason.WRONG_SIZE, f"observation {found}, expected ({size},)")
    if not np.isfinite(observation).all():
        index = int(np.flatnonzero(~np.isfinite(observation))[0])
        return Fault(Reason.NON_FINITE_OBSERVATION, f"observation[{index}] is {observation[index]}")
    if tick.previous_stamp_ns is not None and tick.stamp_ns < tick.previous_stamp_ns:
        back = (tick.previous_stamp_ns - tick.stamp_ns) / NANOSECONDS
        return Fault(Reason.TIME_BACKWARDS, f"stamp is {back:.6f} s before that of the observation before")
    age = (tick.now_ns - tick.stamp_ns) / NANOSECONDS
    if age < -limits.future_tolerance_s:
        return Fault(Reason.TIME_BACKWARDS, f"the clock is {-age:.6f} s behind the observation's stamp")
    if age > limits.stale_after_s:
        detail = f"observation is {age:.6f} s old, limit {limits.stale_after_s:g} s"
        return Fault(Reason.STALE_OBSERVATION, detail)
    if tick.unsafe:
        return Fault(Reason.UNSAFE, f"the safeguard says: {tick.unsafe}")
    return None


def output_fault(limits: Limits, tick: Tick) -> Fault | None:
    """What forbids to send what the policy gave. None: it may go out."""
    if tick.error or tick.action is None:
        return Fault(Reason.INFERENCE_ERROR, tick.error or "the policy gave nothing")
    action, size = _vector(tick.action), limits.spec.action_size
    if action is None or action.shape != (size,):
        found = "is no vector of numbers" if action is None else f"has shape {action.shape}"
        return Fault(Reason.WRONG_SIZE, f"action {found}, expected ({size},)")
    if not np.isfinite(action).all():
        index = int(np.flatnonzero(~np.isfinite(action))[0])
        return Fault(Reason.NON_FINITE_ACTION, f"action[{index}] is {action[index]}")
    inside = (action >= limits.low) & (action <= limits.high)
    if not inside.all():
        index = int(np.flatnonzero(~inside)[0])
        low, high = limits.spec.action_low[index], limits.spec.action_high[index]
        return Fault(Reason.OUT_OF_BOUNDS, f"action[{index}] is {action[index]:g}, bounds {low:g}..{high:g}")
    if limits.largest_rate and (fault := _rate_fault(limits, tick, action)) is not None:
        return fault
    if not tick.elapsed_s <= limits.deadline_s:  # NaN is late
        return Fault(Reason.LATE, f"action took {tick.elapsed_s:.6f} s, deadline {limits.deadline_s:g} s")
    return None


def react(limits: Limits, kind: Reaction, last_action: ArrayLike | None, at_rest: bool = False) -> np.ndarray:
    """What a reaction sends, float32 (A,): always finite and in bounds.

    Args:
        last_action: what went out last, (A,); None: nothing yet.
        at_rest: the robot may have stopped by itself since. A share of what moved it would move it again: "damp" gives
            zeros. A position that was held is held on.
    """
    size = limits.spec.action_size
    zero = np.zeros(size, np.float32)
    if kind is Reaction.DAMP and at_rest:
        return zero
    last = _vector(last_action) if kind in (Reaction.HOLD, Reaction.DAMP) else None
    if last is None or last.shape != (size,) or not bool(((last >= limits.low) & (last <= limits.high)).all()):
        return zero
    return last.copy() if kind is Reaction.HOLD else (np.float32(limits.damping) * last).astype(np.float32)


def _rate_fault(limits: Limits, tick: Tick, action: np.ndarray) -> Fault | None:
    """Whether the policy's action moved faster than is allowed since its last one."""
    last = _vector(tick.last_action) if tick.last_was_policy else None
    if last is None or last.shape != action.shape or tick.previous_stamp_ns is None:
        return None
    # Lost observations give it more time, jitter that brings two close together does not take any away.
    seconds = max((tick.stamp_ns - tick.previous_stamp_ns) / NANOSECONDS, 1.0 / limits.spec.control_rate)
    half_range = 0.5 * (limits.spec.high - limits.spec.low)
    allowed = limits.largest_rate * seconds * half_range + limits.spec.slack
    change = np.abs(action - last)
    if bool((change <= allowed).all()):
        return None
    index = int((change - allowed).argmax())
    detail = f"action[{index}] changed by {change[index]:g} in {seconds:.6f} s, allowed {allowed[index]:g}"
    return Fault(Reason.TOO_FAST, detail)


def tick_record(tick: Tick) -> dict[str, Any]:
    """A tick as JSON values. Floats that JSON cannot say become "nan", "inf", "-inf"."""
    record: dict[str, Any] = {name: getattr(tick, name) for name in Tick.__slots__}
    for name in ("observation", "last_action", "action"):
        vector = _vector(record[name])
        record[name] = None if vector is None else [_number(value) for value in vector.ravel().tolist()]
    return record | {"elapsed_s": _number(tick.elapsed_s)}


def tick_from_record(record: dict[str, Any]) -> Tick:
    """The tick that tick_record wrote: decide() gives the same for both."""
    values = dict(record)
    for name in ("observation", "last_action", "action"):
        if values[name] is not None:
            values[name] = np.asarray([float(value) for value in values[name]], np.float32)
    return Tick(**values | {"elapsed_s": float(values["elapsed_s"])})


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def _vector(value: ArrayLike | None) -> np.ndarray | None:
    """float32, without a copy where it is already; None where it is no array of numbers."""
    if value is None or (isinstance(value, np.ndarray) and value.dtype == np.float32):
        return value
    try:
        with np.errstate(over="ignore"):  # too large for float32 becomes infinite, which is found
            return np.asarray(value, np.float32)
    except (TypeError, ValueError, OverflowError):
        return None
