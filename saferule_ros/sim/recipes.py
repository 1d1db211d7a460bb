"""How the behaviour for the velocity tasks is learned: by random search, in stages, once. [ours]

A stage with a speed limit leads to policies that are safe and good; one without, to policies that are fast and cost
much. What lies on the way there is kept as well: it is the spread that offline learning needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from saferule_ros.sim.controllers import AntGait, Controller, Linear
from saferule_ros.sim.random_search import SearchSettings

CONTROLLERS: Mapping[str, type[Controller]] = {"linear": Linear, "ant_gait": AntGait}


@dataclass(frozen=True)
class Objective:
    """What a stage makes the most of, summed over an episode's steps: min(r, cap) - 2 max(r - cap, 0) - p c.

    In the velocity tasks the reward r of a step is the speed less what the action took: a cap on it limits the speed,
    and unlike the cost c it tells by how much the speed was too high.

    Attributes:
        cap: reward per step above which more is worse; None: there is no such limit.
        cost_weight: p.
    """

    cap: float | None = None
    cost_weight: float = 0.0

    def worth(self, reward: float, cost: float) -> float:
        """Of one step."""
        excess = 0.0 if self.cap is None else max(reward - self.cap, 0.0)
        return reward - 3.0 * excess - self.cost_weight * cost


@dataclass(frozen=True)
class Stage:
    """One search.

    Attributes:
        objective: what is searched for.
        iterations: how many.
        goes_on: whether it starts where the stage before it ended, or from the beginning.
        first_kept, keep_every: which iterations' parameters are kept as policies to drive with.
        steps: length of the episodes that are scored.
        search: see SearchSettings.
    """

    objective: Objective
    iterations: int
    goes_on: bool = False
    first_kept: int = 1
    keep_every: int = 1
    steps: int = 500
    search: SearchSettings = field(default_factory=SearchSettings)


@dataclass(frozen=True)
class Style:
    """How the learned policies are used to make data: how far an episode's driver may stray from its policy.

    Attributes:
        weakest: least factor on actions; the largest is 1.
        noise: most Ornstein-Uhlenbeck noise on actions (1 is full scale).
        random_share: most steps with a uniformly random action, share.
        unsafe_share: of the episodes, how many are driven by a policy that costs more than the limit. Strayed from, it
            often costs less: a share above one half can be needed for as many unsafe episodes as safe ones.
    """

    weakest: float = 0.8
    noise: float = 0.3
    random_share: float = 0.1
    unsafe_share: float = 0.5


@dataclass(frozen=True)
class Recipe:
    """All that the learned drivers of a task follow from.

    Attributes:
        controller: name of the controller's kind.
        stages: one after the other.
        seed: of every random draw while learning.
        style: how "behaviour" uses what was learned.
    """

    controller: str
    stages: tuple[Stage, ...]
    seed: int = 1
    style: Style = field(default_factory=Style)

    def learned_from(self) -> dict[str, Any]:
        """Plain data, all that decides what is learned: what the cache is named by."""
        return {"controller": self.controller, "stages": [asdict(stage) for stage in self.stages], "seed": self.seed}


RECIPES: dict[str, Recipe] = {
    "SafetyHalfCheetahVelocity-v1": Recipe(
        "linear",
        (
            Stage(Objective(cap=3.0, cost_weight=3.0), 60, first_kept=3, keep_every=4, steps=400,
                  search=SearchSettings(16, 8)),
            Stage(Objective(), 25, goes_on=True, keep_every=2, steps=400, search=SearchSettings(16, 8)),
        ),
        style=Style(unsafe_share=0.75),
    ),
    "SafetySwimmerVelocity-v1": Recipe(
        "linear",
        (
            Stage(Objective(), 20, first_kept=6, keep_every=2, search=SearchSettings(8, 4, 0.05, 0.05)),
            Stage(Objective(cap=0.23, cost_weight=0.3), 60, goes_on=True, first_kept=10, keep_every=5,
                  search=SearchSettings(8, 4, 0.03, 0.03)),
        ),
        style=Style(0.6, 0.05, 0.01),  # what shakes the Swimmer drives it forward: with more, every episode is unsafe
    ),
    "SafetyAntVelocity-v1": Recipe(
        "ant_gait",
        (
            Stage(Objective(), 60, first_kept=5, keep_every=5, steps=200, search=SearchSettings(12, 6, 0.03, 0.04)),
        ),
        style=Style(0.9, 0.05, 0.01, 0.7),  # disturbed, its gait is slow, and nothing costs
    ),
}  # fmt: skip
