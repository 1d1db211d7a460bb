"""One episode while its messages come in. Which message is whose, the assembler knows.

However long it is, no more than some thousand ticks are in memory: those further back are settled, and lie on disk.
"""

from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from saferule_ros.dataset.episode import Episode
from saferule_ros.recording.assembly import AssembledEpisode, Faults, TopicCounts
from saferule_ros.recording.kept_ticks import KeptTicks
from saferule_ros.recording.messages import COMMAND_JITTER, ActionMessage, ObservationMessage
from saferule_ros.recording.overflow import Received

# Ticks that are not settled: nothing comes later than this many others. A reliable subscription keeps the order of its
# topic and holds 2048 messages, so one topic cannot be further ahead of the other.
UNSETTLED = 2048
# How many are settled at a time.
_BATCH = 1024
# Where a message is missing, it is waited for so much longer: files may be ordered by topic, piece by piece.
MOST_UNSETTLED = 16_384


class OpenEpisode:
    """Collects messages by tick; `assemble` makes of them what is clean.

    A tick is one observation and the command that answers it. Reward, cost and end of a transition stand in
    the observation of the next tick. Nothing is ever filled in: a tick that lacks either message, or has a
    message that is refused or contradicted, or a command that came too late to lead to the next observation, is lost,
    and the episode is cut before it.

    Args:
        first: the message that opened it. Fixes sequence - step, which is the same for all its observations.
        bag_id: of the bag that it is recorded into.
        folder: on whose disk a long one goes; None: the system's folder for temporary files.

    Attributes:
        settled: sequences of observations that were settled since the last look; commands for them come too late.
    """

    def __init__(self, first: ObservationMessage, bag_id: str, folder: Path | None = None) -> None:
        self.id = first.episode_id
        self._bag_id = bag_id
        self.ended = False
        self.settled: list[int] = []
        self._base = first.sequence - first.step
        self._observations: dict[int, ObservationMessage] = {}
        self._actions: dict[int, ActionMessage] = {}
        self._bad_observations: set[int] = set()
        self._bad_actions: set[int] = set()
        self._overtaken: set[int] = set()  # steps whose command was received after a later observation
        self._latest_step = -1
        self._latest_command = -1
        self._received = Received(folder)
        self._kept = KeptTicks(folder)
        self._sizes = [0, 0]  # of the first observation and the first action
        self._first_seen = self._newest = first.step
        self._end_step: int | None = None
        self._after_end: int | None = None  # the first that came when its end was known
        # Of the settled ticks: how far they go, what follows those that are kept, where and why there are no more of
        # these, and counts.
        self._begin = 0
        self._after_kept: ObservationMessage | None = None
        self._cut: tuple[int, str] | None = None
        self._settled_counts = dict.fromkeys(("observed", "commanded", "ticks", "transitions"), 0)
        self._counts = dict.fromkeys(("refused", "conflicting", "duplicated", "out_of_order"), 0)
        self._observed, self._commanded = TopicCounts(), TopicCounts()
        self._first_problem = ""
        self._end = first.stamp

    @property
    def held(self) -> int:
        """Messages in memory."""
        return len(self._observations) + len(self._actions) + self._received.held

    def add_observation(self, message: ObservationMessage, received: Any) -> bool:
        """Takes an observation that carries this episode's id. False: its command does not belong here."""
        self._note(received)
        step = message.step
        self._observed.received += 1
        self._observed.late += step in self._actions
        if message.sequence - step != self._base:
            self._problem("conflicting", f"step {step} has sequence {message.sequence}, not {self._base + step}")
            if len(self._bad_observations) < MOST_UNSETTLED:
                self._bad_observations.add(step)
            return False
        if self._begin and step <= self._begin:  # the next one, too: it is what the last settled one led to
            self._problem("refused", f"observation of step {step} came after {self._newest - step} later ones")
            return False
        if self._end_step is not None and step > self._end_step:
            self._after_end = step if self._after_end is None else min(self._after_end, step)
            return False
        if step in self._observations:
            if _same(self._observations[step], message):
                self._counts["duplicated"] += 1
                self._observed.duplicated += 1
            else:
                self._problem("conflicting", f"step {step} was observed twice, differently")
                self._bad_observations.add(step)
            return True
        self._observations[step] = message
        self._sizes[0] = self._sizes[0] or len(message.data)
        self._first_seen, self._newest = min(self._first_seen, step), max(self._newest, step)
        if step < self._latest_step:
            self._counts["out_of_order"] += 1
            self._observed.out_of_order += 1
        else:
            self._latest_step, self._end = step, message.stamp
        wrong = self._wrong_observation(message)
        if wrong:
            self._problem("refused", f"observation of step {step}: {wrong}")
            self._bad_observations.add(step)
        if message.terminated or message.truncated:
            self.ended = True
            self._end_step = step if self._end_step is None else min(self._end_step, step)
        waiting = len(self._observations) - UNSETTLED
        if waiting > 0 and waiting % _BATCH == 0:
            self._settle()
        return True

    def add_action(self, message: ActionMessage, received: Any) -> None:
        """Takes a command that answers one of this episode's observations."""
        self._note(received)
        step = message.observation_sequence - self._base
        self._commanded.received += 1
        self._commanded.late += step < self._latest_step
        self._commanded.out_of_order += step < self._latest_command
        self.saw_command(message.observation_sequence)
        if step in self._actions:
            if _same(self._actions[step], message):
                self._counts["duplicated"] += 1
                self._commanded.duplicated += 1
            else:
                self._problem("conflicting", f"step {step} was answered by two different commands")
                self._bad_actions.add(step)
            return
        self._actions[step] = message
        if step < self._latest_step:
            self._overtaken.add(step)
        self._sizes[1] = self._sizes[1] or len(message.data)
        wrong = self._wrong_action(message)
        if wrong:
            self._problem("refused", f"action of step {step}: {wrong}")
            self._bad_actions.add(step)

    def saw_command(self, observation_sequence: int) -> None:
        """Commands come in order: after this one, a missing earlier command will not come any more."""
        self._latest_command = max(self._latest_command, observation_sequence - self._base)

    def is_complete(self) -> bool:
        """True if it has ended and no command of it can still be on its way (commands come in order)."""
        return self.ended and self._latest_command >= self._last_step() - 1

    def assemble(self) -> AssembledEpisode:
        """The clean part from step 0 on, with everything that was wrong."""
        last = self._last_step()
        length = self._kept.length
        while self._cut is None and length < last and self._is_transition(length):
            length += 1
        counts = self._settled_counts
        clean_ticks = counts["ticks"] + sum(step < last and self._has_both(step) for step in self._observations)
        transitions = counts["transitions"] + sum(
            step < last and self._is_transition(step) for step in self._observations
        )
        lost = last - clean_ticks + (not self._is_observed(last))
        after = [step for step in (*self._observations, self._after_end) if step is not None and step > last]
        if after:
            self._problem("conflicting", f"step {min(after)} came after the end at step {last}")
        faults = Faults(lost=lost, unused=transitions - length, **self._counts)
        # Where it did not end there, its command would have led somewhere, and what it led to is missing.
        led_nowhere = last == 0 and (self._end_step == 0 or not self._commanded.received)
        return AssembledEpisode(
            episode_id=self.id,
            episode=self._episode(length, faults) if length else None,
            faults=faults,
            message=self._message(length, last, faults),
            messages=self._received,
            end=self._end,
            topics={
                "observation": replace(
                    self._observed,
                    dropped=last + 1 - counts["observed"] - sum(0 <= step <= last for step in self._observations),
                ),
                "action": replace(
                    self._commanded,
                    dropped=last - counts["commanded"] - sum(0 <= step < last for step in self._actions),
                ),
            },
            empty=led_nowhere and not (faults.lost or faults.refused or faults.conflicting),
        )

    def _episode(self, length: int, faults: Faults) -> Episode:
        for step in range(self._kept.length, length):
            self._keep(step)
        end = self._after_kept
        assert end is not None, "there is a transition, and what it led to"
        columns = self._kept.columns(end)
        return Episode(
            id=self.id,
            bag_id=self._bag_id,
            observations=columns["observations"],
            actions=columns["actions"],
            rewards=columns["rewards"],
            costs=columns["costs"],
            stamps=columns["stamps"],
            terminated=end.terminated,
            truncated=end.truncated or not end.terminated,
            policy_ids=tuple(self._kept.policy_ids),
            fallbacks=self._kept.fallbacks,
            lost=faults.lost,
        )

    def _keep(self, step: int) -> None:
        """A transition, and all before it, is part of the episode."""
        self._after_kept = self._observations[step + 1]
        self._kept.add(self._observations[step], self._actions[step], self._after_kept)

    def _settle(self) -> None:
        """The oldest ticks get their place for good, as long as nothing can be missing."""
        for step in sorted(self._observations)[: len(self._observations) - UNSETTLED]:
            if step == self._end_step:
                return
            follows = step == self._begin and step + 1 in self._observations and step in self._actions
            if not follows and self._cut is None and len(self._observations) < MOST_UNSETTLED:
                return
            if self._cut is None and not (follows and self._is_transition(step)):
                self._cut = self._lacking(self._begin)
            if self._cut is None:
                self._keep(step)
            self._settled_counts["transitions"] += self._is_transition(step)
            self._settled_counts["ticks"] += self._has_both(step)
            self._settled_counts["observed"] += 1
            self._settled_counts["commanded"] += step in self._actions
            self._begin = step + 1
            self.settled.append(self._base + step)
            self._actions.pop(step, None)
            self._bad_actions.discard(step)
            self._overtaken.discard(step)
            self._bad_observations.discard(step)
            del self._observations[step]

    def _message(self, length: int, last: int, faults: Faults) -> str:
        parts = []
        if self._first_seen:
            parts.append(f"step 0 was never seen, the first one seen is {self._first_seen}")
        elif last == 0:
            parts.append("nothing came after step 0")
        if faults.lost:
            step, missing = self._cut or self._lacking(length)
            parts.append(f"{faults.lost} ticks lost, the first at step {step} (no usable {missing})")
        if faults.unused:
            parts.append(f"{faults.unused} transitions after that are left out")
        if self._first_problem:
            parts.append(self._first_problem)
        return "; ".join(parts)

    def _lacking(self, length: int) -> tuple[int, str]:
        """What the transition that would come after so many lacks: the step, and which message."""
        if not self._is_observed(length):
            return length, "observation"
        if self._has_both(length):
            return length + 1, "observation"
        return length, "command in time" if self._is_late(length) else "command"

    def _last_step(self) -> int:
        """Step at which it ended; where no end was seen, the last step seen."""
        return self._newest if self._end_step is None else self._end_step

    def _is_observed(self, step: int) -> bool:
        return step in self._observations and step not in self._bad_observations

    def _has_both(self, step: int) -> bool:
        usable = step in self._actions and step not in self._bad_actions and not self._is_late(step)
        return usable and self._is_observed(step)

    def _is_late(self, step: int) -> bool:
        """Whether a tick's command did not lead to the next observation, by order of reception and by stamps.

        Not by one alone: topics overtake each other, and clocks of two machines differ.
        """
        if step not in self._overtaken or step not in self._observations or step + 1 not in self._observations:
            return False
        before, after = self._observations[step].stamp, self._observations[step + 1].stamp
        return self._actions[step].stamp > after + (after - before) // COMMAND_JITTER

    def _is_transition(self, step: int) -> bool:
        return self._has_both(step) and self._is_observed(step + 1)

    def _wrong_observation(self, message: ObservationMessage) -> str:
        if not isfinite(message.reward) or not isfinite(message.cost) or message.cost < 0:
            return f"its reward is {message.reward}, its cost {message.cost}"
        return _wrong_vector(message.data, self._sizes[0])

    def _wrong_action(self, message: ActionMessage) -> str:
        return _wrong_vector(message.data, self._sizes[1])

    def _note(self, received: Any) -> None:
        if received is not None:
            self._received.append(received)

    def _problem(self, kind: str, text: str) -> None:
        self._counts[kind] += 1
        self._first_problem = self._first_problem or text


def _wrong_vector(data: np.ndarray, expected: int) -> str:
    if len(data) != expected or not expected:
        return f"{len(data)} values, expected {expected or 'at least one'}"
    if not np.isfinite(data).all():
        index = int(np.argmin(np.isfinite(data)))
        return f"data[{index}] is {data[index]}"
    return ""


def _same(one: tuple, other: tuple) -> bool:
    """Equal in every field, bit for bit in the vector."""
    return all(
        a.tobytes() == b.tobytes() if isinstance(a, np.ndarray) else a == b for a, b in zip(one, other, strict=True)
    )
