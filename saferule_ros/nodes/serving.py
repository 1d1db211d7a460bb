"""The control path: one observation in, one action out. Small on purpose: every line costs time in every tick."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from saferule_ros.errors import SaferuleError
from saferule_ros.nodes.answer_times import AnswerTimes
from saferule_ros.nodes.last_command import DAMP_WITHIN, LastCommand, damping_of
from saferule_ros.nodes.safeguard_watch import Look, SafeguardWatch
from saferule_ros.nodes.served import Served
from saferule_ros.nodes.step_counting import StepCounting
from saferule_ros.nodes.wire import Asked, Command
from saferule_ros.policy.episode_costs import EpisodeCosts
from saferule_ros.policy.errors import InferenceError
from saferule_ros.policy.failsafe import (
    Decision,
    Fault,
    Reaction,
    Reason,
    Tick,
    decide,
    decide_after,
    input_fault,
)
from saferule_ros.policy.flight import FlightRecorder
from saferule_ros.policy.probation import Probation
from saferule_ros.policy.shadow import Tap
from saferule_ros.safeguard.model import Safeguard
from saferule_ros.units import NANOSECONDS

# A control thread that is not between two answers for so long [s] hangs: an answer takes a fraction of a tick.
HANGS_AFTER = 1.0
# Observations this old [ns] are not late, they are stamped by another clock.
DIFFERENT_CLOCK = 86_400 * NANOSECONDS


def _always() -> bool:
    return True


class ControlHangsError(SaferuleError):
    """The control thread does not come back from an answer."""


@dataclass(frozen=True)
class Verdict:
    """How a probation ended."""

    policy_id: str
    fault: str  # "" if the policy proved good


class Stop(NamedTuple):
    """Why no policy acts any more."""

    policy_id: str
    reason: Reason
    detail: str


class _Answered(NamedTuple):
    """An answer that has gone out, for what follows it."""

    served: Served
    asked: Asked
    decision: Decision
    bad_input: bool
    before: NDArray[np.float32] | None  # the action that led to the observation
    unsafe: str | None  # what the safeguard says of it, if it was asked before the answer; None: nobody knows


class ControlPath:
    """Answers observations with the served policy, or with the declared reaction and the reason for it.

    `answer`, `follow_up`, `episode_ended` and `unanswered` are called in the control thread, the rest in the
    executor's. `switch` is the swap: the reference is replaced between two calls of `answer`, so every action is by
    exactly one policy, and carries its generation. A fault during the probation of a new policy switches back to the
    one before it, so that the next observation is answered by that one.

    Args:
        safeguard: what is watched in every tick; None: nothing.
        enforced: in an unsafe state no policy acts. The safeguard is then asked before an answer, which otherwise it
            never delays.
        passed: time that never goes back [ns], by which silence is measured; called with a stamp that it has reached.
        damp_within: so long after the last command [s] the robot surely carries it out still. Later it may have
            stopped by itself, as it does at the end of an episode: then the reaction "damp" begins from zero.
    """

    def __init__(
        self, safeguard: Safeguard | None = None, enforced: bool = False,
        passed: Callable[[int], int] = lambda _: time.monotonic_ns(), damp_within: float = DAMP_WITHIN,
    ) -> None:  # fmt: skip
        self._passed = passed
        self._enforced = enforced
        self.served: Served | None = None
        self.generation = 0
        self.first_sequence = 0  # Action.sequence of this generation's first action
        self.sequence = 0  # Action.sequence of the newest action
        self.fallbacks = 0
        self.withdrawn = 0  # answers that did not go out, because control was lost while they were computed
        self.last_fault = ""
        self.tap: Tap | None = None  # where a shadow run listens
        self.flight = FlightRecorder()
        self.stop: Stop | None = None  # what the reaction "stop" was for: no policy acts any more
        self.probation: Probation | None = None
        self.watch = SafeguardWatch(safeguard)
        self.costs = EpisodeCosts()  # of what is served
        self.steps = StepCounting()
        self._answered: _Answered | None = None
        self._between = threading.RLock()  # held for an answer, and for some microseconds by a switch
        self._before: Served | None = None  # what comes back if the probation fails
        self._verdict: Verdict | None = None
        self._previous_stamp: int | None = None
        self._heard: int | None = None  # when the newest was answered, by `passed`; None: no other one is due
        self._silent = False  # and none has come for too long
        self._gap = False  # something came since the policy last answered that a shadow run does not see
        self._last = LastCommand(damp_within)
        self._elapsed = math.inf  # of the newest answer [s]
        self._times = AnswerTimes()

    def begin(self) -> None:
        """Before the first observation after an activation: a "stop" is over, and nobody is late."""
        self.stop = None
        self.watch.begin_anew()
        self._last.ends()
        self._previous_stamp = self._heard = None  # a clock may have been set back meanwhile, and nothing is due
        self._leave()  # whatever came since the last activation

    @property
    def stopped(self) -> bool:
        """Whether no policy acts until begin()."""
        return self.stop is not None

    def switch(self, served: Served | None, probation: Probation | None = None) -> None:
        """From the next action on, `served` acts. With a probation, what acted before comes back if it fails.

        Raises:
            ControlHangsError: nothing was changed.
        """
        with self._between_answers():
            self._before = self.served
            self.probation = probation
            self.served = served
            # A limit of the rate is one from an action of a policy to its own next: another one's first may differ.
            self._last.is_now(self._last.action, by_policy=False)
            self._gap = True
            self.costs = EpisodeCosts()
            self.generation += 1
            self.first_sequence = self.sequence + 1

    def take_back(self, fault: str) -> bool:
        """Ends the probation: from the next action on, what acted before it acts again. False: it had ended already.

        Raises:
            ControlHangsError: nothing was changed.
        """
        with self._between_answers():
            failed, before = self.served, self._before
            if self.probation is None or failed is None or before is None:
                return False
            self.switch(before)
            self._verdict = Verdict(failed.id, fault)
            return True

    def take_verdict(self) -> Verdict | None:
        """How a probation ended since this was last asked; None: none did."""
        with self._between:
            verdict, self._verdict = self._verdict, None
            return verdict

    @property
    def has_verdict(self) -> bool:
        """Whether take_verdict() would give one. Costs a comparison."""
        return self._verdict is not None

    def answer(self, asked: Asked, now_ns: int, may_act: Callable[[], bool] = _always) -> Command | None:
        """The action for an observation, to be sent at once.

        Args:
            asked: the observation.
            now_ns: the clock that stamped it [ns].
            may_act: asked when the action is there, and before anything counts as sent: control may have been lost
                while it was computed.

        Returns:
            None: control was lost. Nothing may go out, and nothing claims that it did: another one commands.
        """
        with self._between:
            return self._answer(asked, now_ns, may_act)

    def rehearse(self, asked: Asked, now_ns: int, within: float) -> None:
        """Answers an observation once more, for nobody: what that takes is then in the processor's caches.

        Only where the last answer took less than half of `within` [s]: the next one must not have to wait for this.
        """
        with self._between:
            if self._elapsed >= within / 2:
                return
            served, tick, _, decision = self._decide(asked, asked.stamp_ns, time.perf_counter())
            self._as_command(decision, served.id, asked.sequence, now_ns, tick.elapsed_s).serialized()

    def follow_up(self) -> None:
        """What an answer is followed by once it is out, and what delays none: a safeguard that is not enforced, costs,
        shadow run, probation."""
        with self._between:
            answered, self._answered = self._answered, None
            if answered is None:
                return
            served, asked, decision, bad_input, before, unsafe = answered
            if not self._enforced:
                unsafe = self.watch.look(asked, before).verdict
            if served is not self.served:  # a switch came in between
                return
            self.costs.observed(asked.step, asked.cost)
            if decision.reason in (Reason.UNSAFE, Reason.STOPPED):  # it did not act
                self.costs.leave_out()
            if self.probation is not None:
                self._on_probation(self.probation, asked, decision, unsafe, bad_input)
            if bad_input:
                self._gap = True
            elif self.tap is not None:
                begins, replaced = asked.step == 0, decision.reason is Reason.UNSAFE
                self.tap.put(asked.data, decision.action, begins, replaced, self._gap)
                self._gap = False

    def episode_ended(self, asked: Asked) -> None:
        """Takes note of an observation that asks for no action: what the last one led to counts, too."""
        with self._between:
            self._heard = None
            self.steps.episode_ended()
            self._last.ends()
            self._gap = True
            self.costs.ended(asked.step, asked.cost)
            look = self.watch.look(asked, self._last.action)
            self.watch.begin_anew()
            if self.probation is not None and (fault := self.probation.led_to(_cost_of_action(asked), look.verdict)):
                self.take_back(fault)

    def overheard(self, asked: Asked) -> None:
        """Takes note of an observation that another one answers, or that nobody does."""
        self._pass_over(asked)
        if self.probation is not None and asked.step == 0:
            self.probation.begin_episode(asked.cost)
        self._leave()

    def _pass_over(self, asked: Asked) -> None:
        if asked.step == 0 or asked.ended:
            self.watch.begin_anew()
            self._last.ends()
        self._last.is_now(self.safe_action(), by_policy=False)  # which that other one sends
        # Should it be silence from here on, whoever is in control then has to act.
        self._heard, self._silent = None if asked.ended else self._passed(asked.stamp_ns), False
        self._gap = True

    def _leave(self) -> None:
        """What comes next is the doing of somebody else."""
        self.costs.leave_out()
        if self.probation is not None:
            self.probation.leave_out()

    def unanswered(self, now_ns: int, may_act: Callable[[], bool] = _always) -> Command | None:
        """The declared reaction where observations stopped coming in the middle of an episode: a robot whose sensors
        are silent must not go on with its last command. None: they have not, or control was lost. For the arguments
        see answer().
        """
        served, heard = self.served, self._heard
        if served is None or heard is None:
            return None
        silence = self._passed(0) - heard
        if silence <= served.limits.patience_s * NANOSECONDS:
            return None
        with self._between:
            tick = self._unobserved(now_ns - silence, now_ns)
            decision = decide(served.limits, tick)
            if not may_act():
                return None
            self._last.goes_out(self._passed(0))
            if not self._silent:  # the first tells enough, and does not push out what was before it
                self.flight.note(served.limits, served.id, tick, decision)
            self._silent = True
            return self._command(decision, served.id, 0, now_ns, now_ns, 0.0)

    @contextmanager
    def _between_answers(self) -> Iterator[None]:
        """Holds what an answer holds; for those who must not wait for ever if one never ends."""
        if not self._between.acquire(timeout=HANGS_AFTER):
            raise ControlHangsError(
                f"the control thread has not come back from an answer for {HANGS_AFTER:g} s",
                "The node `fallback` commands meanwhile, if it runs; end policy_server and start it again",
            )
        try:
            yield
        finally:
            self._between.release()

    def _answer(self, asked: Asked, now_ns: int, may_act: Callable[[], bool]) -> Command | None:
        self.steps.observed(asked.step)
        if asked.step == 0:
            self._previous_stamp = None  # a new episode may come from a simulator that was started anew
            self._last.ends()  # whether or not the end of the one before was heard
        start = time.perf_counter()
        look = self.watch.look(asked, self._last.action) if self._enforced else Look()
        served, tick, fault, decision = self._decide(asked, now_ns, start, look.unsafe)
        self._elapsed = tick.elapsed_s
        bad_input = fault is not None and fault.reason is not Reason.UNSAFE
        answered = _Answered(served, asked, decision, bad_input, self._last.action, look.verdict)
        if not may_act():
            self._withdraw(answered, tick)
            return None
        self._previous_stamp = asked.stamp_ns
        self._heard, self._silent = self._passed(asked.stamp_ns), False
        self._last.goes_out(self._heard)
        if decision.use_policy:
            self._times.add(tick.elapsed_s)
        self.flight.note(served.limits, served.id, tick, decision)
        self._answered = answered
        return self._command(decision, served.id, asked.sequence, asked.stamp_ns, now_ns, tick.elapsed_s)

    def _decide(
        self, asked: Asked, now_ns: int, start: float, unsafe: str = ""
    ) -> tuple[Served, Tick, Fault | None, Decision]:
        """What is done about an observation; `start` is when that began, by perf_counter. Changes nothing here."""
        served = self.served
        assert served is not None, "the subscription exists only while a policy is served"
        tick = Tick(
            has_policy=True,
            observation=asked.data,
            stamp_ns=asked.stamp_ns,
            previous_stamp_ns=self._previous_stamp,
            now_ns=now_ns,
            last_action=self._last.action,
            stopped=self.stopped,
            last_was_policy=self._last.by_policy,
            unsafe=unsafe,
        )
        fault = input_fault(served.limits, tick)
        if fault is None:
            try:
                tick.action = served.runtime.act(asked.data)
            except InferenceError as error:
                tick.error = str(error)
        tick.elapsed_s = time.perf_counter() - start
        decision = decide_after(served.limits, tick, fault)
        # Asked only where it matters.
        if decision.reaction is Reaction.DAMP and self._last.at_rest(self._passed(asked.stamp_ns)):
            tick.at_rest = True
            decision = decide_after(served.limits, tick, fault)
        return served, tick, fault, decision

    def _withdraw(self, answered: _Answered, tick: Tick) -> None:
        """Takes note of an answer that does not go out. What is the policy's fault in it remains so: one that takes so
        long that control is lost would otherwise never end its probation."""
        served, asked, decision, bad_input, before, unsafe = answered
        self.withdrawn += 1
        if decision.use_policy:  # no tick for the flight log, which would say that the policy acted
            self.last_fault = "withdrawn: control was lost before the action was there"
        else:
            self.last_fault = f"{decision.reason}: {decision.detail}"
            self.flight.note(served.limits, served.id, tick, decision)
            self._note_stop(decision, served.id)  # which holds, whoever sent the zeros
        self._pass_over(asked)
        if not self._enforced:
            unsafe = self.watch.look(asked, before).verdict
        if self.probation is not None:
            self._on_probation(self.probation, asked, decision, unsafe, bad_input, acted=False)
        self._leave()

    def _unobserved(self, heard_ns: int, now_ns: int, shutting_down: bool = False) -> Tick:
        """A tick without an observation; `heard_ns` is when the one before came."""
        return Tick(
            has_policy=True,
            observation=None,
            stamp_ns=heard_ns,
            previous_stamp_ns=None,
            now_ns=now_ns,
            last_action=self._last.action,
            stopped=self.stopped,
            shutting_down=shutting_down,
            at_rest=self._last.at_rest(self._passed(0)),
        )

    def _on_probation(
        self, probation: Probation, asked: Asked, decision: Decision, unsafe: str | None, bad_input: bool,
        acted: bool = True,
    ) -> None:  # fmt: skip
        if asked.step == 0:
            probation.begin_episode(asked.cost)
        cost = _cost_of_action(asked)
        # Where it did not act, that proves nothing and is no fault of its own; what its last action led to is.
        if bad_input or decision.reason is Reason.UNSAFE or (decision.use_policy and not acted):
            fault = probation.led_to(cost, unsafe)
        else:
            fault = probation.judge(decision.reason, decision.detail, cost, unsafe)
        if fault:
            self.take_back(fault)
        elif probation.over:
            assert self.served is not None
            self.probation = self._before = None
            self._verdict = Verdict(self.served.id, "")

    def parting(self, now_ns: int) -> Command | None:
        """The safe action that is sent last; None if no policy was ever served, and so nothing commanded."""
        if self.served is None:
            return None
        tick = self._unobserved(now_ns, now_ns, shutting_down=True)
        return self._command(decide(self.served.limits, tick), self.served.id, 0, now_ns, now_ns, 0.0)

    def safe_action(self, after_s: float = 0.0) -> NDArray[np.float32] | None:
        """What somebody else has to send in this one's place, float32 (A,); None: nothing was ever served.

        Args:
            after_s: that one begins so much later [s].
        """
        if self.served is None:
            return None
        return self._last.safe_next(self.served.limits, self._passed(0), after_s)

    @property
    def safe_damping(self) -> float:
        """What whoever sends that again has to multiply it with, each time."""
        return 1.0 if self.served is None else damping_of(self.served.limits)

    def times(self) -> tuple[float, float]:
        """Median and 99th percentile of the time per action [s]; NaN before the first."""
        return self._times.median_and_tail()

    def _command(
        self, decision: Decision, policy_id: str, observation_sequence: int, stamp_ns: int, now_ns: int, elapsed: float
    ) -> Command:
        self.sequence += 1
        self._last.is_now(decision.action, decision.use_policy)
        if not decision.use_policy:
            self.fallbacks += 1
            self.last_fault = f"{decision.reason}: {decision.detail}"
            if decision.reason is Reason.STALE_OBSERVATION and now_ns - stamp_ns > DIFFERENT_CLOCK:
                self.last_fault += ". Two clocks: set use_sim_time for simulated observations, and only for those"
            self._note_stop(decision, policy_id)
        return self._as_command(decision, policy_id, observation_sequence, now_ns, elapsed)

    def _note_stop(self, decision: Decision, policy_id: str) -> None:
        if decision.reaction is Reaction.STOP and decision.reason is not Reason.SHUTDOWN and self.stop is None:
            self.stop = Stop(policy_id, decision.reason, decision.detail)

    def _as_command(
        self, decision: Decision, policy_id: str, observation_sequence: int, now_ns: int, elapsed: float
    ) -> Command:
        by_policy = decision.use_policy
        return Command(
            now_ns, self.sequence, observation_sequence, decision.action, self.generation,
            policy_id if by_policy else "", not by_policy, "" if by_policy else str(decision.reason),
            elapsed if by_policy else 0.0,
        )  # fmt: skip


def _cost_of_action(asked: Asked) -> float:
    """What the action before an observation cost; NaN: none led to it."""
    return asked.cost if asked.step > 0 else math.nan
