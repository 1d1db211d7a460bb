"""One episode while its messages come in. Which message is whose, the assembler knows."""

from collections.abc import Iterator
from dataclasses import replace
from math import isfinite
from typing import Any

import numpy as np

from saferule_ros.dataset.episode import Episode
from saferule_ros.recording.assembly import AssembledEpisode, Faults, TopicCounts
from saferule_ros.recording.messages import ActionMessage, ObservationMessage


class OpenEpisode:
    """Collects messages by tick; `assemble` makes of them what is clean.

    A tick is one observation and the command that answers it. Reward, cost and end of a transition stand in
    the observation of the next tick. Nothing is ever filled in: a tick that lacks either message, or has a
    message that is refused or contradicted, is lost, and the episode is cut before it.

    Args:
        first: the message that opened it. Fixes sequence - step, which is the same for all its observations.
    """

    def __init__(self, first: ObservationMessage) -> None:
        self.id = first.episode_id
        self.ended = False
        self._base = first.sequence - first.step
        self._observations: dict[int, ObservationMessage] = {}
        self._actions: dict[int, ActionMessage] = {}
        self._bad_observations: set[int] = set()
        self._bad_actions: set[int] = set()
        self._latest_step = -1
        self._latest_command = -1
        self._received: list[Any] = []
        self._counts = dict.fromkeys(("refused", "conflicting", "duplicated", "out_of_order"), 0)
        self._observed, self._commanded = TopicCounts(), TopicCounts()
        self._first_problem = ""
        self._end = first.stamp

    @property
    def sequences(self) -> Iterator[int]:
        """Sequence numbers of its observations, which its commands answer."""
        return (self._base + step for step in self._observations)

    def add_observation(self, message: ObservationMessage, received: Any) -> None:
        """Takes an observation that carries this episode's id."""
        self._received.append(received)
        step = message.step
        self._observed.received += 1
        self._observed.late += step in self._actions
        if message.sequence - step != self._base:
            self._problem("conflicting", f"step {step} has sequence {message.sequence}, not {self._base + step}")
            self._bad_observations.add(step)
            return
        if step in self._observations:
            if _same(self._observations[step], message):
                self._counts["duplicated"] += 1
                self._observed.duplicated += 1
            else:
                self._problem("conflicting", f"step {step} was observed twice, differently")
                self._bad_observations.add(step)
            return
        self._observations[step] = message
        if step < self._latest_step:
            self._counts["out_of_order"] += 1
            self._observed.out_of_order += 1
        else:
            self._latest_step, self._end = step, message.stamp
        wrong = self._wrong_observation(message)
        if wrong:
            self._problem("refused", f"observation of step {step}: {wrong}")
            self._bad_observations.add(step)
        self.ended |= message.terminated or message.truncated

    def add_action(self, message: ActionMessage, received: Any) -> None:
        """Takes a command that answers one of this episode's observations."""
        self._received.append(received)
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

    def assemble(self, bag_id: str) -> AssembledEpisode:
        """The clean part from step 0 on, with everything that was wrong."""
        last = self._last_step()
        length = 0
        while length < last and self._is_transition(length):
            length += 1
        clean_ticks = sum(step < last and self._has_both(step) for step in self._observations)
        transitions = sum(step < last and self._is_transition(step) for step in self._observations)
        lost = last - clean_ticks + (not self._is_observed(last))
        after = [step for step in self._observations if step > last]
        if after:
            self._problem("conflicting", f"step {min(after)} came after the end at step {last}")
        faults = Faults(lost=lost, unused=transitions - length, **self._counts)
        return AssembledEpisode(
            episode_id=self.id,
            episode=self._episode(length, faults, bag_id) if length else None,
            faults=faults,
            message=self._message(length, last, faults),
            messages=tuple(self._received),
            end=self._end,
            topics={
                "observation": replace(
                    self._observed, dropped=last + 1 - sum(0 <= step <= last for step in self._observations)
                ),
                "action": replace(self._commanded, dropped=last - sum(0 <= step < last for step in self._actions)),
            },
        )

    def _episode(self, length: int, faults: Faults, bag_id: str) -> Episode:
        observations = [self._observations[step] for step in range(length + 1)]
        actions = [self._actions[step] for step in range(length)]
        end = observations[-1]
        named = (action.policy_id for action in actions if action.policy_id)
        return Episode(
            id=self.id,
            bag_id=bag_id,
            observations=np.stack([message.data for message in observations]),
            actions=np.stack([message.data for message in actions]),
            rewards=np.array([message.reward for message in observations[1:]], dtype=np.float32),
            costs=np.array([message.cost for message in observations[1:]], dtype=np.float32),
            terminated=end.terminated,
            truncated=end.truncated or not end.terminated,
            policy_ids=tuple(dict.fromkeys(named)),
            fallbacks=sum(action.fallback for action in actions),
            lost=faults.lost,
            stamps=np.array([message.stamp for message in observations[:-1]], dtype=np.int64),
        )

    def _message(self, length: int, last: int, faults: Faults) -> str:
        parts = []
        if 0 not in self._observations:
            parts.append(f"step 0 was never seen, the first one seen is {min(self._observations)}")
        elif last == 0:
            parts.append("nothing came after step 0")
        if faults.lost:
            missing = "observation" if not self._is_observed(length) else "command"
            if length < last and missing == "command" and self._has_both(length):
                length, missing = length + 1, "observation"
            parts.append(f"{faults.lost} ticks lost, the first at step {length} (no usable {missing})")
        if faults.unused:
            parts.append(f"{faults.unused} transitions after that are left out")
        if self._first_problem:
            parts.append(self._first_problem)
        return "; ".join(parts)

    def _last_step(self) -> int:
        """Step at which it ended; where no end was seen, the last step seen."""
        ends = [s for s, m in self._observations.items() if m.terminated or m.truncated]
        return min(ends) if ends else max(self._observations)

    def _is_observed(self, step: int) -> bool:
        return step in self._observations and step not in self._bad_observations

    def _has_both(self, step: int) -> bool:
        return self._is_observed(step) and step in self._actions and step not in self._bad_actions

    def _is_transition(self, step: int) -> bool:
        return self._has_both(step) and self._is_observed(step + 1)

    def _wrong_observation(self, message: ObservationMessage) -> str:
        expected = len(next(iter(self._observations.values())).data)
        if not isfinite(message.reward) or not isfinite(message.cost) or message.cost < 0:
            return f"its reward is {message.reward}, its cost {message.cost}"
        return _wrong_vector(message.data, expected)

    def _wrong_action(self, message: ActionMessage) -> str:
        return _wrong_vector(message.data, len(next(iter(self._actions.values())).data))

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
