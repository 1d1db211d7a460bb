"""Was a command lost, doubled or mixed while the policy was swapped? A pure function of what was seen on the topics.

Numbers decide, never times: every observation and every command has one, and so has the policy's generation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

# A finding is spelled out this many times; where more is wrong, the counts say so.
LONGEST_LIST = 5


class SeenObservation(NamedTuple):
    """One observation as it arrived. `last`: it ends its episode, so it asks for no command."""

    sequence: int
    episode_id: str
    step: int
    last: bool


class SeenAction(NamedTuple):
    """One command as it arrived."""

    sequence: int
    observation_sequence: int
    generation: int
    policy_id: str
    fallback: bool


class Announced(NamedTuple):
    """What the swap's reply said: the switch that the commands must show."""

    first_sequence: int
    generation_before: int
    generation_after: int
    policy_before: str
    policy_after: str


@dataclass(frozen=True)
class Findings:
    """What the numbers say. A swap was clean if `problems` is empty.

    Attributes:
        observations: observations that asked for a command.
        actions: commands seen.
        unanswered: observations without a command.
        doubled: commands beyond the first for one observation, or under one number.
        strays: commands that answer no observation that asked for one.
        gaps: numbers missing in the sequence of the commands, or of the observations.
        disordered: messages that arrived after one with a higher number.
        mixed: commands of the wrong generation or policy for their place, before or after the switch.
        changes: how often the generation changed from one command to the next.
        fallbacks: commands that were the safe action.
        episode_id, step, steps: the episode and its step that the new policy's first command answered, and how
            many commands that episode took; "" and -1 if that command was not seen.
        problems: each kind of fault in words, with the numbers.
    """

    observations: int = 0
    actions: int = 0
    unanswered: int = 0
    doubled: int = 0
    strays: int = 0
    gaps: int = 0
    disordered: int = 0
    mixed: int = 0
    changes: int = 0
    fallbacks: int = 0
    episode_id: str = ""
    step: int = -1
    steps: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not self.problems

    @property
    def within_episode(self) -> bool:
        """Commands of the same episode came before the switch and after it."""
        return 0 < self.step < self.steps - 1


def examine(observations: Sequence[SeenObservation], actions: Sequence[SeenAction], swap: Announced) -> Findings:
    """Holds the messages of both topics, in the order of their arrival, against what must be true of them.

    Args:
        observations: without a hole at the beginning: from the first observation of an episode on.
        actions: all commands from the answer to that observation on.
        swap: what the reply said.
    """
    problems: list[str] = []

    def note(kind: str, numbers: Sequence[int]) -> int:
        if numbers:
            more = f" and {len(numbers) - LONGEST_LIST} more" if len(numbers) > LONGEST_LIST else ""
            problems.append(f"{kind}: {', '.join(map(str, numbers[:LONGEST_LIST]))}{more}")
        return len(numbers)

    asking = [o.sequence for o in observations if not o.last]
    answers = Counter(a.observation_sequence for a in actions)
    used = Counter(a.sequence for a in actions)
    known = set(asking)

    unanswered = note("observations without a command", [s for s in asking if s not in answers])
    again = note("observations with more than one command", [s for s in asking if answers[s] > 1])
    doubled = sum(answers[s] - 1 for s in asking if answers[s] > 1)
    repeated = note("command numbers used more than once", [s for s, n in used.items() if n > 1])
    doubled = max(doubled, sum(n - 1 for n in used.values())) if again or repeated else 0
    strays = note("commands that answer nothing that was asked", [
        a.sequence for a in actions if a.observation_sequence not in known
    ])  # fmt: skip
    gaps = note("missing command numbers", _missing([a.sequence for a in actions]))
    gaps += note("missing observation numbers", _missing([o.sequence for o in observations]))
    disordered = note("commands out of order", _out_of_order([a.sequence for a in actions]))
    disordered += note("observations out of order", _out_of_order([o.sequence for o in observations]))
    disordered += note("commands that answer an earlier observation than the one before", _out_of_order(
        [a.observation_sequence for a in actions]
    ))  # fmt: skip
    mixed = note("commands of the wrong policy or generation", [a.sequence for a in actions if _is_wrong(a, swap)])
    changes = [b.sequence for a, b in pairwise(actions) if a.generation != b.generation]
    if changes != [swap.first_sequence]:
        problems.append(f"the generation changed at commands {changes}, announced was {swap.first_sequence}")
    episode_id, step, steps = _place(observations, actions, swap.first_sequence)
    if step < 0:
        problems.append(f"command {swap.first_sequence}, the new policy's first, was not seen")
    return Findings(
        observations=len(asking), actions=len(actions), unanswered=unanswered, doubled=doubled, strays=strays,
        gaps=gaps, disordered=disordered, mixed=mixed, changes=len(changes),
        fallbacks=sum(a.fallback for a in actions), episode_id=episode_id, step=step, steps=steps, problems=problems,
    )  # fmt: skip


def _is_wrong(action: SeenAction, swap: Announced) -> bool:
    after = action.sequence >= swap.first_sequence
    generation = swap.generation_after if after else swap.generation_before
    policy = swap.policy_after if after else swap.policy_before
    # No policy computed a fallback, so it carries no id; it belongs to a generation all the same.
    right_policy = action.policy_id == policy or (action.fallback and not action.policy_id)
    return action.generation != generation or not right_policy


def _missing(numbers: Sequence[int]) -> list[int]:
    """Numbers between the smallest and the largest that are not there."""
    present = set(numbers)
    return [n for n in range(min(present), max(present)) if n not in present] if present else []


def _out_of_order(numbers: Sequence[int]) -> list[int]:
    return [b for a, b in pairwise(numbers) if b < a]


def _place(
    observations: Sequence[SeenObservation], actions: Sequence[SeenAction], first_sequence: int
) -> tuple[str, int, int]:
    """Episode and step that a command answered, and the number of commands that the episode asked for."""
    answered = next((a.observation_sequence for a in actions if a.sequence == first_sequence), None)
    at = next((o for o in observations if o.sequence == answered), None)
    if at is None:
        return "", -1, 0
    return at.episode_id, at.step, sum(o.episode_id == at.episode_id and not o.last for o in observations)
