"""Takes down every observation and command on the topics, as evidence for what happened around a swap."""

from __future__ import annotations

import contextlib
import time

from saferule_ros.msg import Action, Observation
from saferule_ros.nodes import qos
from saferule_ros.nodes.demo.evidence import SeenAction, SeenObservation
from saferule_ros.nodes.demo.operator import Operator, WaitedInVain
from saferule_ros.recording.cdr import decode_action, decode_observation

# A command travels for milliseconds. What is not there after this long [s] is missing, and will be reported so.
LAST_COMMAND_PATIENCE = 5.0


class Witness:
    """Listens from now on; its record begins with the first observation of an episode.

    A subscription that has just been made may be connected to one publisher before the other, and miss messages.
    So nothing counts until both topics were heard, and then the next beginning of an episode is awaited: from
    there on, whatever is missing is missing.

    Lists only grow, in the operator's thread; others read them.
    """

    def __init__(self, operator: Operator) -> None:
        self.observations: list[SeenObservation] = []
        self._actions: list[SeenAction] = []
        self._arrivals: dict[int, float] = {}  # of commands, by their number [s]
        self._heard_observation = False
        self._operator = operator
        self._subscriptions = [
            operator.subscribe(Observation, "observation", qos.DATA, self._on_observation, raw=True),
            operator.subscribe(Action, "action", qos.DATA, self._on_action, raw=True),
        ]

    @property
    def actions(self) -> list[SeenAction]:
        """The commands on record: from the answer to the first observation on record on."""
        if not self.observations:
            return []
        first = self.observations[0].sequence
        return [action for action in self._actions if action.observation_sequence >= first]

    @property
    def heard(self) -> int:
        """Commands that have arrived, those before the record begins among them."""
        return len(self._actions)

    @property
    def step(self) -> int:
        """Step of the newest observation on record; -1 before the first, and between episodes."""
        newest = self.observations[-1] if self.observations else None
        return -1 if newest is None or newest.last else newest.step

    def pause_before(self, command: int) -> float:
        """Time between the arrival of a command and of the one before it [s]; NaN if one was not seen."""
        arrivals = self._arrivals
        return arrivals.get(command, float("nan")) - arrivals.get(command - 1, float("nan"))

    def settle(self) -> None:
        """Waits for the commands that are still under way."""
        asked = sum(not seen.last for seen in self.observations)
        with contextlib.suppress(WaitedInVain):
            self._operator.wait(lambda: len(self.actions) >= asked, "commands arrive", LAST_COMMAND_PATIENCE)

    def close(self) -> None:
        for subscription in self._subscriptions:
            self._operator.unsubscribe(subscription)

    def _on_observation(self, payload: bytes) -> None:
        seen = decode_observation(payload)
        begins = seen.step == 0 and self._heard_observation and bool(self._actions)
        self._heard_observation = True
        if self.observations or begins:
            last = seen.terminated or seen.truncated
            self.observations.append(SeenObservation(seen.sequence, seen.episode_id, seen.step, last))

    def _on_action(self, payload: bytes) -> None:
        seen = decode_action(payload)
        self._arrivals.setdefault(seen.sequence, time.monotonic())
        # All are kept: the two topics come from different processes, and an answer may be here before its question.
        self._actions.append(SeenAction(
            seen.sequence, seen.observation_sequence, seen.policy_generation, seen.policy_id, seen.fallback
        ))  # fmt: skip
