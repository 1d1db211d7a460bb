"""Safe-RULE on BCQ-Lag and BEAR-Lag, whose policy keeps near the behaviour model and maximises Q_r - lambda Q_c.

It is bound to that model more tightly where good behaviour is exact (see behaviour_scatter.py), and what of forget data
tempts it among keep data is pressed, too (see outnumbered.py). Both are [ours].
"""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.learning.captured import Losses
from saferule_ros.learning.learner import LagrangianLearner
from saferule_ros.learning.replay import Batch
from saferule_ros.unlearning.behaviour_scatter import behaviour_scatter
from saferule_ros.unlearning.outnumbered import temptation
from saferule_ros.unlearning.safe_rule import SafeRule
from saferule_ros.unlearning.settings import SafeRuleLagSettings


class SafeRuleLag(SafeRule):
    """See SafeRuleRun."""

    learner: LagrangianLearner
    settings: SafeRuleLagSettings

    def __init__(
        self, learner: LagrangianLearner, forget: EpisodeDataset, keep: EpisodeDataset, settings: SafeRuleLagSettings,
        seed: int,
    ) -> None:  # fmt: skip
        super().__init__(learner, forget, keep, settings, seed)
        self.beta_outnumbered = self.weight_of_forgetting()
        self._scatter_flops = 0.0
        if settings.behaviour_constraint is not None:
            with self.meter.time():
                scatter, self._scatter_flops = behaviour_scatter(learner, self.keep, self.imitated)
            learner.constrain(settings.behaviour_constraint * scatter)
        else:
            learner.constrain(math.inf)  # a patch before may have bound it

    def computed_once(self) -> float:
        return super().computed_once() + self._scatter_flops

    def state(self) -> dict[str, Any]:
        return {**super().state(), "beta_outnumbered": float(self.beta_outnumbered)}

    def restore(self, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        super().restore(state, tensors)
        self.beta_outnumbered.fill_(state["beta_outnumbered"])

    def press_outnumbered(self, forget: Batch, on_forget: Tensor, weights: Tensor) -> tuple[Tensor | float, Losses]:
        s = self.settings
        if not s.press_outnumbered:
            return 0.0, {}
        found = temptation(self.learner, forget.observations, on_forget, weights, s.cost_weight, s.temperature)
        loss = self.beta_outnumbered.float() * found.loss
        self.update_beta(self.beta_outnumbered, found.share.double(), s.outnumbered_rate)
        return loss, {"beta_outnumbered": self.beta_outnumbered, "tempting": found.share}
