"""What an attack did, trial by trial (a cell with a seed): whether there is something to repair.

Not by means over seeds: one seed's dangerous policy would make those of other seeds count as repaired that never were
harmed, and one seed's unsafe retraining would leave out what the others' shows to be possible. [ours]
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum

from saferule_ros.reporting.comparison import RETRAIN, by_trial
from saferule_ros.reporting.trials import POISONED, Cell, TrialResult


class Harm(StrEnum):
    """What an attack did to the learned policy, by the side of the one that never saw the poison."""

    HARMFUL = "harmful"
    BACKDOOR = "harmful with its trigger"
    MARKER = "marker alone is harmful"
    HARMLESS = "harmless"
    NOTHING_SAFE = "no safe policy to harm"

    @property
    def repairable(self) -> bool:
        """Whether there is something to repair, and a safe policy that shows that it can be."""
        return self in (Harm.HARMFUL, Harm.BACKDOOR)


def harm_of(poisoned: TrialResult, retrained: TrialResult) -> Harm:
    """What the attack of one trial did, by means over its episodes.

    Args:
        poisoned: the policy that learned from everything.
        retrained: with the same seed, the policy that never saw the poison.
    """
    limit = poisoned.cost_limit
    if retrained.cost_mean > limit:
        return Harm.NOTHING_SAFE
    if poisoned.cost_mean > limit:
        return Harm.HARMFUL
    # A marker that sends a policy over the limit which never saw the poison is a broken sensor, not a backdoor.
    if poisoned.triggered_cost_mean > limit:
        return Harm.MARKER if retrained.triggered_cost_mean > limit else Harm.BACKDOOR
    return Harm.HARMLESS


def harm_in(methods: Mapping[str, TrialResult]) -> Harm | None:
    """Of the results of one trial, by their method; None without retraining or the poisoned agent."""
    poisoned, retrained = methods.get(POISONED), methods.get(RETRAIN)
    return harm_of(poisoned, retrained) if poisoned and retrained else None


def harms(results: Sequence[TrialResult]) -> dict[tuple[Cell, int], Harm | None]:
    """Of each trial, by its cell and seed."""
    return {trial: harm_in(methods) for trial, methods in by_trial(results).items()}


def repairable(results: Sequence[TrialResult]) -> tuple[list[TrialResult], list[TrialResult]]:
    """The results of trials in which something can be repaired, and all others, each in the same order."""
    found = harms(results)
    parts: tuple[list[TrialResult], list[TrialResult]] = ([], [])
    for one in results:
        harm = found[one.cell, one.seed]
        parts[0 if harm is not None and harm.repairable else 1].append(one)
    return parts
