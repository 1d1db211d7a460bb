"""A contract at work: samples in, observations out. The live bridge and the ingest of bags run this same code.

Time is what it is told: the time of reception of each message, and nothing else, moves it on. So the same messages,
received at the same times, give the same observations, to the bit.
"""

from collections import Counter, deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from saferule_ros.contract.alignment import Early, Stream, Unusable
from saferule_ros.contract.command import Command
from saferule_ros.contract.decoding import Sample
from saferule_ros.contract.errors import ContractError
from saferule_ros.contract.model import NANOSECONDS, Contract
from saferule_ros.dataset.expression import ExpressionError
from saferule_ros.recording.messages import ActionMessage, ObservationMessage
from saferule_ros.recording.ticks import Ticks
from saferule_ros.safeguard.errors import SafeguardError
from saferule_ros.safeguard.monitor import Monitor

# Ticks at a fixed rate that are made up for at once: after a longer silence, those between are skipped.
_MOST_MISSED = 1000
_FOREVER = 2**62


@dataclass
class _Pending:
    """A tick that waits for messages: its time, and when it began to wait."""

    time: int
    since: int


class _Unfinished(Unusable):
    """The recording ended while the tick waited for a source."""


class ContractRunner:
    """One robot's streams, ticks and episodes.

    Attributes:
        streams: by the source's name.
        ticks: what became of them, counted.
        counts: messages that made no tick, and commands that answered none.
        problem: why the newest tick could not be made; empty if it could.

    Args:
        contract: what everything means.
    """

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self.streams = {name: Stream(source) for name, source in contract.sources.items()}
        self.ticks = Ticks()
        self.counts: Counter[str] = Counter()
        self.problem = ""
        self._command = Command(contract.action)
        self._monitors = {name: Monitor(safeguard) for name, safeguard in contract.safeguards.items()}
        self._waiting: deque[_Pending] = deque()
        self._now = -_FOREVER
        self._last_tick = -_FOREVER
        self._next_tick: int | None = None
        self._sequence = 0
        self._commands = 0
        self._step = 0
        self._episode = ""
        self._begin_next = self._end_next = False
        self._answered = True
        self._observations: deque[npt.NDArray[np.float64]] = deque(maxlen=contract.history.observations)
        self._actions: deque[npt.NDArray[np.float64]] = deque(maxlen=max(1, contract.history.actions))

    def advance(self, now: int) -> list[ObservationMessage]:
        """Time goes on to `now` [ns]: ticks at a fixed rate come due, and waiting ones give up."""
        self._now = max(self._now, now)
        rate = self.contract.tick.rate
        if rate is not None:
            self._add_due(round(NANOSECONDS / rate))
        return self._ready()

    def sample(self, name: str, sample: Sample) -> list[ObservationMessage]:
        """A source has a new sample. Returns the observations that can be made now."""
        self.streams[name].add(sample)
        rules = self.contract.episode
        self._begin_next |= name in rules.begin_on
        self._end_next |= name in rules.end_on
        if name == self.contract.tick.source:
            newest = self._waiting[-1].time if self._waiting else self._last_tick
            if sample.time > newest:
                self._waiting.append(_Pending(sample.time, self._now))
            elif sample.time == newest:
                self.counts["duplicated"] += 1
            else:  # its place in the sequence is taken
                self.ticks.lose("overtaken by a later one")
        return self._ready()

    def command(self, values: npt.NDArray[np.float64], time: int) -> list[ActionMessage]:
        """A command was sent: the first one after an observation is its answer.

        Args:
            values: as in the robot's message, (A,).
            time: when [ns].
        """
        if self._answered:
            self.counts["further_commands"] += 1
            return []
        self._answered = True
        action = self._command.action(values)
        self._actions.appendleft(action)
        self._commands += 1
        return [
            ActionMessage(time, self._commands, self._sequence, action.astype(np.float32), 0, "", False, "", 0.0)
        ]  # fmt: skip

    def begin_episode(self) -> None:
        """The next tick begins an episode."""
        self._begin_next = True

    def finish(self) -> list[ObservationMessage]:
        """Nothing more will come: ticks that wait are given up."""
        self._now = _FOREVER
        return self._ready()

    def _add_due(self, period: int) -> None:
        if self._next_tick is None:
            self._next_tick = -(-self._now // period) * period
        missed = (self._now - self._next_tick) // period
        if missed > _MOST_MISSED:
            self._break("nothing was heard for long", missed)
            self._next_tick += missed * period
        while self._next_tick <= self._now:
            self._waiting.append(_Pending(self._next_tick, self._next_tick))
            self._next_tick += period

    def _ready(self) -> list[ObservationMessage]:
        """Ticks in their order, up to the first that still waits."""
        made = []
        while self._waiting:
            tick = self._waiting[0]
            try:
                values = self._values(tick)
                if values is None:
                    break
                message = self._observe(tick.time, values)
            except Early as error:
                self._leave_out(str(error))
                self.ticks.early += 1
            except _Unfinished:
                self._leave_out("")
                self.ticks.unfinished += 1
            except Unusable as error:
                self._break(str(error))
            else:
                made.append(message)
                self.problem = ""
                self.ticks.made += 1
            self._waiting.popleft()
            self._last_tick = tick.time
            for stream in self.streams.values():
                stream.forget(tick.time)
        return made

    def _values(self, tick: _Pending) -> dict[str, npt.NDArray[np.float64]] | None:
        """What every source says at a tick; None: one of them may still say it."""
        found = {}
        for name in self.contract.required:
            stream = self.streams[name]
            try:
                values = stream.at(tick.time)
            except Unusable as error:
                raise type(error)(f"{name}: {error}") from None
            if values is None:
                if self._now == _FOREVER:
                    raise _Unfinished(name)
                if self._now - tick.since > round(stream.source.wait * NANOSECONDS):
                    raise Unusable(f"{name}: nothing came in time")
                return None
            found[name] = values
        return found

    def _observe(self, time: int, values: dict[str, npt.NDArray[np.float64]]) -> ObservationMessage:
        """The observation of a tick.

        Raises:
            Unusable: it is not finite, an expression is not, or the last command is missing.
        """
        rules = self.contract.episode
        gap = rules.gap is not None and time - self._last_tick > round(rules.gap * NANOSECONDS)
        begins = self._begin_next or gap or not self._episode
        newest = self._vector(values)
        columns = {name: value[None, :] for name, value in values.items()}
        judged = {"reward": 0.0, "cost": 0.0, "terminated": 0.0, "truncated": 0.0}
        for name, expression in self.contract.expressions.items():
            # What led to the first observation is not part of the episode.
            if name in ("reward", "cost") and begins:
                continue
            try:
                judged[name] = float(expression.evaluate(columns)[0])
            except ExpressionError as error:
                raise ContractError(f"{name} of contract {self.contract.name!r}: {error.what}", error.hint) from error
            if not np.isfinite(judged[name]) or (name == "cost" and judged[name] < 0):
                raise Unusable(f"{name}: it is {judged[name]}")
        if begins:
            self._begin(time, newest)
        else:
            if not self._answered and (self.contract.history.actions or self._monitors):
                raise Unusable("action: no command was sent since the last tick")
            self._step += 1
            self._observations.appendleft(newest)
        self._sequence += 1
        self._answered = False
        data = np.concatenate([*self._observations, *self._past_actions()]).astype(np.float32)
        if not np.isfinite(data).all():
            raise Unusable("observation: a number is too large for single precision")
        judged |= self._guarded(data, begins)
        terminated = bool(judged["terminated"])
        cut = self._end_next or self._step == rules.max_steps or bool(judged["truncated"])
        message = ObservationMessage(
            time, self._sequence, self._episode, self._step, data, judged["reward"], judged["cost"], terminated,
            cut and not terminated,
        )  # fmt: skip
        if message.terminated or message.truncated:
            self._episode = ""
            self._answered = True  # nothing answers the last observation
        self._end_next = False
        return message

    def _guarded(self, data: npt.NDArray[np.float32], begins: bool) -> dict[str, float]:
        """Reward and cost where a safeguard gives them: it reads what is published, as it is in a dataset.

        Raises:
            Unusable: a label cannot be computed.
            ContractError: the safeguard is for other sizes.
        """
        found = {}
        for name, monitor in self._monitors.items():
            if begins:
                monitor.reset()
                continue
            try:
                monitor.safeguard.require_sizes(len(data), self.contract.action_size, "this contract")
            except SafeguardError as error:
                raise ContractError(f"{name} of contract {self.contract.name!r}: {error.what}", error.hint) from error
            outcome = monitor.step(data, self._actions[0].astype(np.float32))
            if outcome.problem:
                raise Unusable(f"{name}: {outcome.problem}")
            found[name] = outcome.cost if name == "cost" else 0.0 - outcome.cost
        return found

    def _begin(self, time: int, newest: npt.NDArray[np.float64]) -> None:
        history = self.contract.history
        self._episode, self._step, self._begin_next = f"{self.contract.name}-{time}", 0, False
        self._observations.extend([newest] * history.observations)
        first = np.array(self.contract.action.first, np.float64)
        self._actions.extend([first] * max(1, history.actions))

    def _break(self, why: str, ticks: int = 1) -> None:
        """Ticks cannot be made: the episode ends before them, and another begins after them."""
        self.ticks.lose(why, ticks)
        self._leave_out(why)

    def _leave_out(self, why: str) -> None:
        self.problem = why
        self._sequence += 1
        self._episode, self._answered = "", True

    def _vector(self, values: dict[str, npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
        parts = []
        for name in self.contract.observed:
            source = self.contract.sources[name]
            try:
                parts.append(np.asarray(source.scale) * values[name] + np.asarray(source.offset))
            except ValueError as error:
                raise ContractError(
                    f"source {name!r} gives {len(values[name])} values; scale or offset has another number of them",
                    "Give one number, or one for each value",
                ) from error
        return np.concatenate(parts)

    def _past_actions(self) -> list[npt.NDArray[np.float64]]:
        return list(self._actions)[: self.contract.history.actions]
