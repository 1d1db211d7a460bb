"""The rule that chooses one of a run's checkpoints, or none. [ours]

What does not pass its own offline check is not proposed.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from saferule_ros.evaluation.check import ModelCheck
from saferule_ros.evaluation.judge import Judged
from saferule_ros.evaluation.settings import SelectionSettings

# Share of episodes: fewer that are expected to terminate would be told as 0 %.
LEAST_TOLD = 0.005


@dataclass(frozen=True)
class Selection:
    """The choice, with all the numbers behind it.

    Attributes:
        step: of the candidate that was chosen; None: none is to be proposed.
        reason: in words, for the report.
        judged: every candidate, by its step.
        bounds: of each, what was compared with the limit (see cost_bound), raw units.
        allowed: what a bound may reach.
        trusted: whether the model passed its check.
        check: of the model.
    """

    step: int | None
    reason: str
    judged: Mapping[int, Judged]
    bounds: Mapping[int, float]
    allowed: float
    trusted: bool
    check: ModelCheck


def cost_bound(judged: Judged, check: ModelCheck, settings: SelectionSettings) -> float:
    """What a policy may be expected to cost: with the spread of the members, and what replays cost more than expected.

    Raw units.
    """
    shortfall = 0.0 if math.isnan(check.shortfall) else check.shortfall
    return judged.cost + settings.pessimism * judged.cost_spread + shortfall


def select(
    judged: Mapping[int, Judged], check: ModelCheck, cost_limit: float, settings: SelectionSettings
) -> Selection:
    """Of the candidates whose cost is bounded within the limit the one that is expected to earn most.

    Args:
        judged: one or more candidates by their step.
        check: of the model that judged them.
        cost_limit: L, that an episode may cost.
    """
    assert judged, "there are candidates, as a run ends with one"
    bounds = {step: cost_bound(one, check, settings) for step, one in judged.items()}
    allowed = settings.share_of_limit * cost_limit
    stay = [step for step in judged if judged[step].ended <= settings.may_end]
    within = [step for step in stay if bounds[step] <= allowed]
    chosen: int | None = None
    why = doubt(check, settings)
    if why:
        reason = f"the model is not trusted: {why}"
    elif not stay:
        least = min(one.ended for one in judged.values())
        reason = f"of each candidate {least:.0%} or more episodes are to terminate, allowed are {settings.may_end:.0%}"
    elif not within:
        least = min(bounds[step] for step in stay)
        reason = f"no candidate is within the limit: the least bound is {least:.1f}, allowed are {allowed:.1f}"
    else:
        chosen = max(within, key=lambda step: judged[step].episode_return)
        reason = f"{len(within)} of {len(judged)} candidates are within the limit; step {chosen} is to earn most"
        if judged[chosen].ended >= LEAST_TOLD:
            reason += f"; {judged[chosen].ended:.0%} of its episodes are to terminate before the horizon"
    return Selection(chosen, reason, judged, bounds, allowed, not why, check)


def doubt(check: ModelCheck, settings: SelectionSettings) -> str:
    """Why a model is not to be trusted, or nothing."""
    if not check.correlation >= settings.correlation:  # also if it is NaN
        return (
            f"replayed episodes correlate with logged ones by {check.correlation:.2f}, {settings.correlation:.2f} are "
            "required"
        )
    if check.within < settings.least_within:
        return (
            f"it expects {check.within} of {check.episodes} replayed episodes to keep the limit, "
            f"{settings.least_within} are required to tell what it is worth when it expects that of a policy"
        )
    if abs(check.expected_ended - check.ended) > settings.ends_missed:
        return f"it expects {check.expected_ended:.0%} of the replayed episodes to terminate, {check.ended:.0%} did"
    return ""
