"""A contract at work: samples in, observations out. The live bridge and the ingest of bags run this same code.

Time is what it is told: the time of reception of each message, and nothing else, moves it on. So the same messages,
received at the same times, give the same observations, to the bit. It can be set back, by whoever corrects a clock or
starts a simulator anew: then the episode ends, and all begins anew at the new time.
"""

from collections import Counter, deque

import numpy as np
import numpy.typing as npt

from saferule_ros.contract.alignment import Early, Stream, Unusable
from saferule_ros.contract.boundaries import Boundaries, Moment
from saferule_ros.contract.command import Command
from saferule_ros.contract.decoding import Sample
from saferule_ros.contract.episode_ids import episode_id
from saferule_ros.contract.errors import ContractError
from saferule_ros.contract.model import Contract
from saferule_ros.contract.silence import Pace, Silence
from saferule_ros.dataset.expression import ExpressionError
from saferule_ros.recording.messages import COMMAND_JITTER, ActionMessage, ObservationMessage
from saferule_ros.recording.ticks import Ticks
from saferule_ros.safeguard.errors import SafeguardError
from saferule_ros.safeguard.monitor import Monitor
from saferule_ros.units import NANOSECONDS

# Ticks at a fixed rate that are made up for at once: after a longer silence, those between are skipped.
_MOST_MISSED = 1000
_FOREVER = 2**62
# A step back by more than this [ns] is a clock that was set back, as for nodes/passing_time.py. By less, a message of
# /clock came after a later stamp, or a recorder's threads wrote in another order than they received: ticks wait.
_SET_BACK = NANOSECONDS
# Time that is behind by so many periods of a fixed rate is told, even if it need not be set back.
_PERIODS_TOLD = 5


class _Unfinished(Unusable):
    """The recording ended while the tick waited for a source."""


class _Unseen(Unusable):
    """The tick is lost, and not for what the sources say that were heard: the next one is to see that."""


class _Over(Unusable):
    """The tick would begin an episode that is over with it."""


class ContractRunner:
    """One robot's streams, ticks and episodes.

    Attributes:
        streams: by the source's name.
        ticks: what became of them, counted.
        counts: messages that made no tick, commands that answered none, and ticks that would have begun an episode
            where it is over already (`over_already`): nothing of an episode is lost with those.
        problem: why the newest tick could not be made, or why none comes; empty if it could.
        resting: why the newest tick began no episode although it could be made; empty if there is one.
        notice: what happened since somebody took it away, and must be told even if ticks are made again.
        label: part of the names of episodes, by which they differ from those of other recordings and processes.

    Args:
        contract: what everything means.
        label: see above.
    """

    def __init__(self, contract: Contract, label: str = "") -> None:
        self.contract = contract
        self.label = label
        self.streams = {name: Stream(source) for name, source in contract.sources.items()}
        self.ticks = Ticks()
        self.counts: Counter[str] = Counter()
        self.problem = self.notice = self.resting = ""
        self._silence = Silence()
        self._straggler: int | None = None
        self._command = Command(contract.action)
        self._monitors = {name: Monitor(safeguard) for name, safeguard in contract.safeguards.items()}
        self._waiting: deque[Moment] = deque()
        self._now = -_FOREVER
        self._last_tick, self._period, self._pace = -_FOREVER, 0, Pace()
        self._next_tick: int | None = None
        self._sequence = 0
        self._commands = 0
        self._step = 0
        self._episode = ""
        self._begins, self._ends = Boundaries(), Boundaries()
        self._answered = True
        self._answer = Moment(-_FOREVER, -_FOREVER)
        self._observations: deque[npt.NDArray[np.float64]] = deque(maxlen=contract.history.observations)
        self._actions: deque[npt.NDArray[np.float64]] = deque(maxlen=max(1, contract.history.actions))

    @property
    def now(self) -> int:
        """The newest time that it was told [ns]."""
        return self._now

    @property
    def period(self) -> int:
        """Distance of the two newest ticks, made or lost [ns]; 0: there were no two."""
        return self._period

    def advance(self, now: int) -> list[ObservationMessage]:
        """Time goes on to `now` [ns]: ticks at a fixed rate come due, and waiting ones give up. Or it was set back."""
        rate = self.contract.tick.rate
        period = round(NANOSECONDS / rate) if rate is not None else None
        behind = self._now - now
        if behind > _SET_BACK and abs(self._now) < _FOREVER:
            self._set_back(behind)
            self._now = now
        self._now = max(self._now, now)
        if period is not None:
            self._add_due(period)
        made = self._ready()
        if period is not None and behind > _PERIODS_TOLD * period and abs(self._now) < _FOREVER:
            self.problem = f"the clock is {behind / NANOSECONDS:.3f} s behind: no tick until it has caught up"
        silent = self._silence.seconds(self._now) if period is None else 0.0
        if silent:
            self.problem = f"{self.contract.tick.source}: no message for {silent:.1f} s, so no tick"
        return made

    def sample(self, name: str, sample: Sample) -> list[ObservationMessage]:
        """A source has a new sample. Returns the observations that can be made now."""
        ticking = name == self.contract.tick.source
        if self._is_ahead(name, sample, ticking):
            return self._ready()
        if ticking:
            self._tick(name, sample.time)
        self.streams[name].add(sample)
        rules, moment = self.contract.episode, Moment(sample.time, self._now)
        if name in rules.begin_on:
            self._begins.ask(moment)
        if name in rules.end_on:
            self._ends.ask(moment)
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
        self._answered, self._answer = True, Moment(time, time)
        action = self._command.action(values)
        self._actions.appendleft(action)
        self._commands += 1
        return [
            ActionMessage(time, self._commands, self._sequence, action.astype(np.float32), 0, "", False, "", 0.0)
        ]  # fmt: skip

    def begin_episode(self) -> None:
        """The first tick from now on begins an episode."""
        self._begins.ask(Moment(self._now, self._now))

    def finish(self) -> list[ObservationMessage]:
        """Nothing more will come: ticks that wait are given up."""
        self._now = _FOREVER
        return self._ready()

    def _add_due(self, period: int) -> None:
        if self._next_tick is None:
            if not self._now:  # the clock of a simulator that does not run yet: what it jumps to is not late
                return
            self._next_tick = -(-self._now // period) * period
        missed = (self._now - self._next_tick) // period
        if missed > _MOST_MISSED:
            self._break("nothing was heard for long", missed)
            self._next_tick += missed * period
        while self._next_tick <= self._now:
            self._waiting.append(Moment(self._next_tick, self._next_tick))
            self._next_tick += period

    def _is_ahead(self, name: str, sample: Sample, ticking: bool) -> bool:
        """Whether a sample claims to be of the future: taken, it would be newest until that comes, and nothing after it
        would count. It is refused; a tick that it would have made is lost.
        """
        limit = self.contract.sources[name].max_ahead
        ahead = sample.time - self._now
        if limit is None or ahead <= round(limit * NANOSECONDS):
            return False
        self.streams[name].refuse("ahead of the clock")
        why = f"{name}: its stamp is ahead of the clock: {ahead / NANOSECONDS:.3f} s, allowed {limit:g} s"
        if ticking:
            self._silence.heard(self._now)
            self._break(why)
        else:
            self.problem = why
        return True

    def _tick(self, name: str, time: int) -> None:
        """A message of the source that makes the ticks."""
        self._silence.heard(self._now)
        newest = self._waiting[-1].time if self._waiting else self._last_tick
        behind = newest - time
        if behind > _SET_BACK and self._straggler is not None and time > self._straggler:
            # One message so late may have been held up. Where a second goes on from it, their clock was set back: that
            # of a simulator that began anew, while ours went on.
            self._set_back(behind)
            behind = self._last_tick - time
        self._straggler = time if behind > _SET_BACK else None
        if behind < 0:
            self._waiting.append(Moment(time, self._now))
        elif behind == 0:
            self.counts["duplicated"] += 1
        else:  # its place in the sequence is taken
            self.ticks.lose("overtaken by a later one")
            self.problem = f"{name}: a message was overtaken by one that is {behind / NANOSECONDS:.3f} s later"

    def _set_back(self, step: int) -> None:
        """The clock went back by `step` [ns]: the episode ends, and nothing of before counts any more."""
        self.counts["clock_set_back"] += 1
        if self._waiting:  # for messages that do not come any more
            self.ticks.lose("clock: it was set back", len(self._waiting))
            self._waiting.clear()
        self.notice = f"the clock was set back by {step / NANOSECONDS:.3f} s: the episode ended"
        self._leave_out(self.notice)
        self._last_tick, self._next_tick, self._straggler = -_FOREVER, None, None
        self._period, self._pace = 0, Pace()
        self._begins.clear()
        self._ends.clear()
        self._silence = Silence()
        for stream in self.streams.values():
            stream.set_back(step)

    def _ready(self) -> list[ObservationMessage]:
        """Ticks in their order, up to the first that still waits."""
        made = []
        while self._waiting:
            # Taken out before it is judged: one at which an error is raised must not be in the way of those after it.
            tick = self._waiting.popleft()
            seen = True
            try:
                values = self._values(tick)
                if values is None:
                    self._waiting.appendleft(tick)
                    break
                message = self._observe(tick, values)
            except Early as error:
                self._leave_out(str(error))
                self.ticks.early += 1
            except _Unfinished:
                self._leave_out("")
                self.ticks.unfinished += 1
            except _Over as error:
                self._leave_out("")
                self.resting = str(error)
                self.counts["over_already"] += 1
            except Unusable as error:
                seen = not isinstance(error, _Unseen)
                self._break(str(error))
            else:
                made.append(message)
                self.problem = self.resting = ""
                self.ticks.made += 1
            if self._last_tick > -_FOREVER:
                self._period = tick.time - self._last_tick
                self._pace.add(self._period)
            self._last_tick = tick.time
            self._begins.forget(tick)
            self._ends.forget(tick)
            for stream in self.streams.values():
                stream.forget(tick.time, seen)
        return made

    def _values(self, tick: Moment) -> dict[str, npt.NDArray[np.float64]] | None:
        """What every source says at a tick; None: one of them may still say it."""
        found = {}
        for name in self.contract.required:
            stream = self.streams[name]
            try:
                values = stream.at(tick.time)
            except Early as error:
                raise Early(f"{name}: {error}") from None
            except Unusable as error:
                raise _Unseen(f"{name}: {error}") from None
            if values is None:
                if self._now == _FOREVER:
                    raise _Unfinished(name)
                if self._now - tick.heard > round(stream.source.wait * NANOSECONDS):
                    raise _Unseen(f"{name}: nothing came in time")
                return None
            found[name] = values
        return found

    def _observe(self, tick: Moment, values: dict[str, npt.NDArray[np.float64]]) -> ObservationMessage:
        """The observation of a tick.

        Raises:
            Unusable: it is not finite, an expression is not, or the last command is missing or came after it.
            _Over: an episode would begin with it that is terminated or truncated already.
        """
        rules = self.contract.episode
        begins = self._begins.reached(tick) or self._is_after_gap(tick.time) or not self._episode
        end_on = self._ends.reached(tick)
        newest = self._vector(values)
        judged = self._judged(values, begins)
        if begins:
            ends = {"terminated": judged["terminated"], "truncated": judged["truncated"], "end_on": end_on}
            over = next((name for name, holds in ends.items() if holds), "")
            if over:
                raise _Over(f"no episode begins: it would be over already ({over})")
            self._begin(tick.time, newest)
        else:
            self._require_answer(tick)
            self._step += 1
            self._observations.appendleft(newest)
        self._sequence += 1
        self._answered = False
        data = np.concatenate([*self._observations, *self._past_actions()]).astype(np.float32)
        if not np.isfinite(data).all():
            raise Unusable("observation: a number is too large for single precision")
        judged |= self._guarded(data, begins)
        terminated = bool(judged["terminated"])
        cut = end_on or self._step == rules.max_steps or bool(judged["truncated"])
        message = ObservationMessage(
            tick.time, self._sequence, self._episode, self._step, data, judged["reward"], judged["cost"], terminated,
            cut and not terminated,
        )  # fmt: skip
        if message.terminated or message.truncated:
            self._episode = ""
            self._answered = True  # nothing answers the last observation
        return message

    def _judged(self, values: dict[str, npt.NDArray[np.float64]], begins: bool) -> dict[str, float]:
        """What the contract's expressions say: reward and cost, which stay 0 where an episode begins, as nothing led to
        it; terminated and truncated, 0 or not.

        Raises:
            Unusable: one cannot be computed, is not finite, or is a negative cost.
        """
        columns = {name: value[None, :] for name, value in values.items()}
        judged = {"reward": 0.0, "cost": 0.0, "terminated": 0.0, "truncated": 0.0}
        for name, expression in self.contract.expressions.items():
            # What led to the first observation is not part of the episode.
            if name in ("reward", "cost") and begins:
                continue
            try:
                judged[name] = expression.number(columns)
            except ExpressionError as error:
                raise Unusable(f"{name}: it cannot be computed: {error.what}. {error.hint}") from None
            if not np.isfinite(judged[name]) or (name == "cost" and judged[name] < 0):
                raise Unusable(f"{name}: it is {judged[name]}")
        return judged

    def _require_answer(self, tick: Moment) -> None:
        """Raises _Unseen where no command was sent since the last tick and something rests on one, or where the command
        came after this tick.
        """
        if not self._answered and (self.contract.history.actions or self._monitors):
            raise _Unseen("action: no command was sent since the last tick")
        answer = Moment(*(at - (tick.time - self._last_tick) // COMMAND_JITTER for at in self._answer))
        if self._answered and tick.is_before(answer):
            # What it was to lead to had been measured: paired with it, the effect would come before the cause.
            late = (self._answer.time - tick.time) / NANOSECONDS
            raise _Unseen(f"action: it came after the next tick: {late:.3f} s")

    def _is_after_gap(self, time: int) -> bool:
        """Whether nothing is known of too long a time before a tick [ns]. At a fixed rate, no tick is left out."""
        gap = self.contract.episode.gap
        if gap is not None:
            return time - self._last_tick > round(gap * NANOSECONDS)
        return self.contract.tick.source is not None and self._pace.is_silence(time - self._last_tick)

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
        self._episode = episode_id(self.contract.name, self.label, time, self.counts["clock_set_back"])
        self._step = 0
        self._observations.extend([newest] * history.observations)
        first = np.array(self.contract.action.first, np.float64)
        self._actions.extend([first] * max(1, history.actions))

    def _break(self, why: str, ticks: int = 1) -> None:
        """Ticks cannot be made: the episode ends before them, and another begins after them."""
        self.ticks.lose(why, ticks)
        self._leave_out(why)

    def _leave_out(self, why: str) -> None:
        self.problem, self.resting = why, ""
        self._sequence += 1
        self._episode, self._answered = "", True

    def _vector(self, values: dict[str, npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
        """What the observed sources say, scaled.

        Raises:
            Unusable: one says another number of them than the contract: NumPy would repeat a single one.
        """
        parts = []
        for name in self.contract.observed:
            source, given = self.contract.sources[name], values[name]
            for factors in (source.scale, source.offset):
                if isinstance(factors, list) and len(factors) != len(given):
                    raise Unusable(f"{name}: wrong size: {len(given)} numbers, expected {len(factors)}")
            parts.append(np.asarray(source.scale) * given + np.asarray(source.offset))
        return np.concatenate(parts)

    def _past_actions(self) -> list[npt.NDArray[np.float64]]:
        return list(self._actions)[: self.contract.history.actions]
