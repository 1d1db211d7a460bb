"""A contract at work: samples in, observations out. The live bridge and the ingest of bags run this same code.

Time is what it is told: the time of reception of each message, and nothing else, moves it on. So the same messages,
received at the same times, give the same observations, to the bit. It can be set back, by whoever corrects a clock or
starts a simulator anew: then the episode ends, and all begins anew at the new time.
"""

from collections import Counter, deque

import numpy as np
import numpy.typing as npt

from saferule_ros.contract.alignment import Early, Stream, Unusable
from saferule_ros.contract.boundaries import Moment
from saferule_ros.contract.decoding import Sample
from saferule_ros.contract.episode_builder import EpisodeBuilder, Over, Unseen
from saferule_ros.contract.model import Contract
from saferule_ros.contract.silence import Pace, Silence
from saferule_ros.recording.messages import ActionMessage, ObservationMessage
from saferule_ros.recording.ticks import Ticks
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


class ContractRunner:
    """One robot's streams and ticks, of which episodes are built.

    Attributes:
        episodes: what became of the ticks that could be made.
        streams: by the source's name.
        ticks: what became of them, counted.
        counts: messages that made no tick, commands that answered none, and ticks that would have begun an episode
            where it is over already (`over_already`): nothing of an episode is lost with those.
        problem: why the newest tick could not be made, or why none comes; empty if it could.
        resting: why the newest tick began no episode although it could be made; empty if there is one.
        notice: what happened since somebody took it away, and must be told even if ticks are made again.

    Args:
        contract: what everything means.
        label: of the episodes.
    """

    def __init__(self, contract: Contract, label: str = "") -> None:
        self.contract = contract
        self.streams = {name: Stream(source) for name, source in contract.sources.items()}
        self.ticks = Ticks()
        self.counts: Counter[str] = Counter()
        self.episodes = EpisodeBuilder(contract, label, self.counts)
        self.problem = self.notice = self.resting = ""
        self._silence = Silence()
        self._straggler: int | None = None
        self._waiting: deque[Moment] = deque()
        self._now = -_FOREVER
        self._last_tick, self._period, self._pace = -_FOREVER, 0, Pace()
        self._next_tick: int | None = None

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
            self.episodes.begins.ask(moment)
        if name in rules.end_on:
            self.episodes.ends.ask(moment)
        return self._ready()

    def command(self, values: npt.NDArray[np.float64], time: int) -> list[ActionMessage]:
        """A command was sent. See `EpisodeBuilder.command`."""
        return self.episodes.command(values, time)

    def begin_episode(self) -> None:
        """The first tick from now on begins an episode."""
        self.episodes.begins.ask(Moment(self._now, self._now))

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
        if self._waiting:  # for messages that do not come any more
            self.ticks.lose("clock: it was set back", len(self._waiting))
            self._waiting.clear()
        self.notice = f"the clock was set back by {step / NANOSECONDS:.3f} s: the episode ended"
        self._leave_out(self.notice)
        self._last_tick, self._next_tick, self._straggler = -_FOREVER, None, None
        self._period, self._pace = 0, Pace()
        self.episodes.set_back()
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
                message = self.episodes.observe(
                    tick, values, tick.time - self._last_tick, self._is_after_gap(tick.time)
                )
            except Early as error:
                self._leave_out(str(error))
                self.ticks.early += 1
            except _Unfinished:
                self._leave_out("")
                self.ticks.unfinished += 1
            except Over as error:
                self._leave_out("")
                self.resting = str(error)
                self.counts["over_already"] += 1
            except Unusable as error:
                seen = not isinstance(error, Unseen)
                self._break(str(error))
            else:
                made.append(message)
                self.problem = self.resting = ""
                self.ticks.made += 1
            if self._last_tick > -_FOREVER:
                self._period = tick.time - self._last_tick
                self._pace.add(self._period)
            self._last_tick = tick.time
            self.episodes.pass_on(tick)
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
                raise Unseen(f"{name}: {error}") from None
            if values is None:
                if self._now == _FOREVER:
                    raise _Unfinished(name)
                if self._now - tick.heard > round(stream.source.wait * NANOSECONDS):
                    raise Unseen(f"{name}: nothing came in time")
                return None
            found[name] = values
        return found

    def _is_after_gap(self, time: int) -> bool:
        """Whether nothing is known of too long a time before a tick [ns]. At a fixed rate, no tick is left out."""
        gap = self.contract.episode.gap
        if gap is not None:
            return time - self._last_tick > round(gap * NANOSECONDS)
        return self.contract.tick.source is not None and self._pace.is_silence(time - self._last_tick)

    def _break(self, why: str, ticks: int = 1) -> None:
        """Ticks cannot be made: the episode ends before them, and another begins after them."""
        self.ticks.lose(why, ticks)
        self._leave_out(why)

    def _leave_out(self, why: str) -> None:
        self.problem, self.resting = why, ""
        self.episodes.leave_out()
