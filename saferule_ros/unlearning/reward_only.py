"""Reward-only unlearning: Safe-RULE without what it does to costs on forget data.

The cost critics see only the keep data, and the actor is not pushed away from forgotten actions. All else is the same
code as Safe-RULE's: which forget pairs count, beta_f (which here follows the reward condition alone), fixed targets
over many steps of the keep data, lambda, the learning rate, the behaviour model, keep data shown with a mark; with
COptiDICE the price of forget pairs, which is taken from their rewards.
So comparing the two tells what suppressing costs is worth, and nothing of the rest. The paper compares with it; how its
authors built it is not published, so this reading is [ours].
"""

from typing import Any, ClassVar

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.unlearning.safe_rule import SafeRule, SafeRuleRun
from saferule_ros.unlearning.safe_rule_dice import SafeRuleDice
from saferule_ros.unlearning.safe_rule_lag import SafeRuleLag
from saferule_ros.unlearning.settings import (
    CostSuppressionSettings,
    SafeRuleDiceSettings,
    SafeRuleLagSettings,
    SafeRuleSettings,
    SuppressionSettings,
)


class RewardAlone(SafeRuleRun):
    """Safe-RULE on whichever learner, with rewards alone; see UnlearningRun."""

    NAME = "reward_only"
    WHOLE: ClassVar[type[CostSuppressionSettings]]  # settings of Safe-RULE on the same learners

    def __init__(
        self, learner: Any, forget: EpisodeDataset, keep: EpisodeDataset, settings: SuppressionSettings, seed: int
    ) -> None:
        reward_alone = self.WHOLE(**settings.model_dump(), cost_weight=0.0, actor_weight=0.0)
        super().__init__(learner, forget, keep, reward_alone, seed)


class RewardOnly(RewardAlone, SafeRule):
    """On learners whose actor follows their critics."""

    WHOLE = SafeRuleSettings


class RewardOnlyLag(RewardAlone, SafeRuleLag):
    """On those of them whose limit lambda holds."""

    WHOLE = SafeRuleLagSettings


class RewardOnlyDice(RewardAlone, SafeRuleDice):
    """On COptiDICE."""

    WHOLE = SafeRuleDiceSettings
