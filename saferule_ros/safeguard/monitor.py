"""A safeguard at work: one tick at a time, in plain numpy, without I/O. Robot, ingest and audit run this same code."""

from typing import NamedTuple

import numpy as np

from saferule_ros.dataset.expression import ExpressionError
from saferule_ros.safeguard.model import Safeguard
from saferule_ros.safeguard.parts import ACTION, OBSERVATION


class Outcome(NamedTuple):
    """What a tick came to.

    Attributes:
        state: in which it ended.
        cost: of it.
        unsafe: whether it broke the specification.
        problem: why it could not be judged; "" if it could. Such a tick is unsafe, and costs what the costliest state
            does; the machine stays where it was [ours].
        read: whether the inputs could be read at all; a label that cannot be computed from them is another problem.
    """

    state: str
    cost: float
    unsafe: bool
    problem: str = ""
    read: bool = True

    @property
    def told(self) -> str:
        """Where the machine is, or why nobody knows; for people."""
        return f"{self.problem} (state {self.state})" if self.problem else f"state {self.state}"


class Monitor:
    """One run of the machine. Not for two threads at a time.

    Attributes:
        state: name of the state that the machine is in.

    Args:
        safeguard: what is watched.
    """

    def __init__(self, safeguard: Safeguard) -> None:
        self.safeguard = safeguard
        sizes = safeguard.observation_size, safeguard.action_size
        self._shapes = (sizes[0],), (sizes[1],)
        # Double precision, and views made once: a step only copies its two vectors in.
        self._row = np.zeros((1, sum(sizes)))
        vectors = {OBSERVATION: self._row[:, : sizes[0]], ACTION: self._row[:, sizes[0] :]}
        self._observation, self._action = vectors[OBSERVATION][0], vectors[ACTION][0]
        self._columns = safeguard.columns(vectors)
        self._labels = tuple(enumerate(safeguard.expressions))
        self._names = tuple(safeguard.states)
        self._states = tuple(safeguard.states.values())
        self._dearest = max(state.tick_cost for state in self._states)
        self.reset()

    @property
    def state(self) -> str:
        """See the class."""
        return self._names[self._at]

    def reset(self) -> None:
        """An episode begins."""
        self._at = self._names.index(self.safeguard.initial)
        self._ticks = 0  # since the state was entered

    def step(self, observation: np.ndarray, action: np.ndarray) -> Outcome:
        """One tick. What is not finite, of another size, or makes a label incalculable is unsafe; it is no exception.

        Args:
            observation: (O,), in the policy's units.
            action: (A,), what led to it.
        """
        self._ticks += 1
        problem = self._read(observation, action)
        read, labels = not problem, 0
        if not problem:
            try:
                for bit, label in self._labels:
                    labels |= label.holds(self._columns) << bit
            except ExpressionError as error:
                problem = error.what
        if problem:
            return Outcome(self.state, self._dearest, True, problem, read)
        for move in self.safeguard.moves[self._at]:
            if self._ticks >= move.after and move.holds[labels]:
                entered = move.to != self._at
                self._at, self._ticks = move.to, 0
                return self._outcome(entered)
        return self._outcome(False)

    def _outcome(self, entered: bool) -> Outcome:
        state = self._states[self._at]
        cost = state.tick_cost + state.entry_cost if entered else state.tick_cost
        return Outcome(self._names[self._at], cost, state.unsafe)

    def _read(self, observation: np.ndarray, action: np.ndarray) -> str:
        """Takes the vectors in; what is wrong with them, or ""."""
        if observation.shape != self._shapes[0] or action.shape != self._shapes[1]:
            wanted = " and ".join(map(str, self._shapes))
            return f"observation {observation.shape} and action {action.shape}, expected {wanted}"
        self._observation[:] = observation
        self._action[:] = action
        if not np.isfinite(self._row).all():
            return "an observation or an action that is not finite"
        return ""
