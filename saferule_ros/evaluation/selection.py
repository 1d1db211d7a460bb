"""The rule that chooses one of a run's checkpoints, or none. [ours]

A patch that does not pass its own offline check is not proposed.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from saferule_ros.evaluation.check import ModelCheck
from saferule_ros.evaluation.judge import Judged
from saferule_ros.evaluation.settings import SelectionSettings


@dataclass(frozen=True)
class Selection:
    """The choice, with all the numbers behind it.

    Attributes:
        step: of the candidate that was chosen; None: none is to be proposed.
        reason: in words, for the report.
        judged: every candidate, by its step.
        bounds: of each, what was compared with the limit: expected cost and its uncertainty, raw units.
        allowed: what a bound may reach.
        check: of the model.
    """

    step: int | None
    reason: str
    judged: Mapping[int, Judged]
    bounds: Mapping[int, float]
    allowed: float
    check: ModelCheck


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
    bounds = {step: one.cost + settings.pessimism * one.cost_spread for step, one in judged.items()}
    allowed = settings.share_of_limit * cost_limit
    within = [step for step in judged if bounds[step] <= allowed]
    chosen: int | None = None
    if not check.correlation >= settings.correlation:  # also if it is NaN
        reason = (
            f"the model is not trusted: replayed episodes correlate with logged ones by {check.correlation:.2f}, "
            f"{settings.correlation:.2f} are required"
        )
    elif not within:
        least = min(bounds, key=lambda step: bounds[step])
        reason = f"no candidate is within the limit: the least bound is {bounds[least]:.1f}, allowed are {allowed:.1f}"
    else:
        chosen = max(within, key=lambda step: judged[step].episode_return)
        reason = f"{len(within)} of {len(judged)} candidates are within the limit; step {chosen} is to earn most"
    return Selection(chosen, reason, judged, bounds, allowed, check)
