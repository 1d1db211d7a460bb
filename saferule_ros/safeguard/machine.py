"""The machine of a safeguard as tables, and what is wrong with it: all ways are known before it runs.

A transition's `when` is a truth table over all combinations of labels: combination b has label i where bit i of b is
set. So a step looks up one byte for each transition, and two questions have exact answers: whether a transition can
ever hold, and whether those before it leave anything to it. Labels are taken to be independent of each other.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from saferule_ros.dataset.expression import Expression, ExpressionError
from saferule_ros.dataset.naming import closest
from saferule_ros.safeguard.errors import SafeguardError
from saferule_ros.safeguard.parts import State, Transition

# 4096 combinations: a transition's table has 4 kB, and all of a machine's are made in milliseconds.
MAX_LABELS = 12


class Move(NamedTuple):
    """A transition as the monitor reads it."""

    holds: bytes  # (2^L,): 1 for the combinations of labels for which it holds
    after: int  # ticks
    to: int  # index of a state


Moves = tuple[tuple[Move, ...], ...]


def compile_moves(
    labels: Sequence[str], states: Mapping[str, State], initial: str, transitions: Sequence[Transition]
) -> Moves:
    """The moves out of each state, in the file's order.

    Raises:
        SafeguardError: a state or label that is not there, a transition that can never be taken, a state that cannot
            be reached, no unsafe state, or a machine that is unsafe from the beginning.
    """
    names = list(states)
    _require_state(initial, names, "the initial state")
    if not any(state.unsafe for state in states.values()):
        raise SafeguardError("no state is unsafe", "Say unsafe: true of what must not happen")
    if states[initial].unsafe:
        raise SafeguardError(f"the initial state {initial!r} is unsafe", "Begin in a state that is not")
    combinations = _combinations(labels)
    moves: list[list[Move]] = [[] for _ in names]
    for transition in transitions:
        _require_state(transition.from_, names, f"transition {transition}: `from`")
        _require_state(transition.to, names, f"transition {transition}: `to`")
        before = moves[names.index(transition.from_)]
        table = _table(transition, labels, combinations)
        _require_use(transition, table, before)
        before.append(Move(table.tobytes(), transition.after, names.index(transition.to)))
    _require_reachable(names, names.index(initial), moves)
    return tuple(map(tuple, moves))


def _combinations(labels: Sequence[str]) -> dict[str, np.ndarray]:
    numbers = np.arange(2 ** len(labels))
    return {label: (numbers >> bit & 1).astype(bool) for bit, label in enumerate(labels)}


def _table(transition: Transition, labels: Sequence[str], combinations: Mapping[str, np.ndarray]) -> np.ndarray:
    try:
        when = Expression(transition.when)
        when.require(labels, "label")
        table = when.evaluate_truth(combinations, "Join labels with and, or, not")
    except ExpressionError as error:
        raise SafeguardError(f"transition {transition}: {error.what}", error.hint) from error
    return np.ascontiguousarray(table)


def _require_state(name: str, names: Sequence[str], where: str) -> None:
    if name not in names:
        raise SafeguardError(f"{where} is the unknown state {name!r}", closest(name, names, "state"))


def _require_use(transition: Transition, table: np.ndarray, before: Sequence[Move]) -> None:
    """That it can be taken: it holds for some labels for which no earlier one from the same state holds as soon."""
    if not table.any():
        raise SafeguardError(f"transition {transition} can never be taken: no labels make it hold", "Correct `when`")
    sooner = [np.frombuffer(move.holds, np.bool_) for move in before if move.after <= transition.after]
    if sooner and not (table & ~np.any(sooner, axis=0)).any():
        raise SafeguardError(
            f"transition {transition} can never be taken: whenever it holds, one before it from the same state does",
            "The first that holds is taken: make their labels differ, or put the narrower one first",
        )


def _require_reachable(names: Sequence[str], initial: int, moves: Sequence[Sequence[Move]]) -> None:
    reached, waiting = {initial}, [initial]
    while waiting:
        for move in moves[waiting.pop()]:
            if move.to not in reached:
                reached.add(move.to)
                waiting.append(move.to)
    for index, name in enumerate(names):
        if index not in reached:
            raise SafeguardError(
                f"state {name!r} cannot be reached from {names[initial]!r}", "Give a transition to it, or leave it out"
            )
