"""The unlearning methods by name, and which learners each works on."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.errors import SaferuleError
from saferule_ros.learning.copti_dice import CoptiDice
from saferule_ros.learning.learner import ActorCriticLearner, LagrangianLearner, Learner
from saferule_ros.unlearning.fine_tune import FineTune
from saferule_ros.unlearning.retrain import Retrain
from saferule_ros.unlearning.reward_only import RewardOnly, RewardOnlyDice, RewardOnlyLag
from saferule_ros.unlearning.run import UnlearningRun
from saferule_ros.unlearning.safe_rule import SafeRule
from saferule_ros.unlearning.safe_rule_dice import SafeRuleDice
from saferule_ros.unlearning.safe_rule_lag import SafeRuleLag
from saferule_ros.unlearning.settings import (
    FineTuneSettings,
    RetrainSettings,
    RewardOnlyDiceSettings,
    RewardOnlyLagSettings,
    RewardOnlySettings,
    RunSettings,
    SafeRuleDiceSettings,
    SafeRuleLagSettings,
    SafeRuleSettings,
    TrajDeleterSettings,
)
from saferule_ros.unlearning.traj_deleter import TrajDeleter


class MethodError(SaferuleError):
    """An unlearning method that nobody knows, or one that does not work on this learner."""


@dataclass(frozen=True)
class Method:
    """One method on one kind of learner. A method may stand in several rows, for kinds that need different code.

    Attributes:
        name: what users type.
        needs: the kind of learner.
        settings: what it can be told.
        make: (learner, forget, keep, settings, seed) to a run.
    """

    name: str
    needs: type[Any]  # abstract ones too, which type[Learner] excludes
    settings: type[RunSettings]
    make: Callable[[Any, EpisodeDataset, EpisodeDataset, Any, int], UnlearningRun]


# Of rows with one name the first that fits a learner counts.
METHODS = (
    Method(SafeRule.NAME, LagrangianLearner, SafeRuleLagSettings, SafeRuleLag),
    Method(SafeRule.NAME, ActorCriticLearner, SafeRuleSettings, SafeRule),
    Method(SafeRule.NAME, CoptiDice, SafeRuleDiceSettings, SafeRuleDice),
    Method(RewardOnly.NAME, LagrangianLearner, RewardOnlyLagSettings, RewardOnlyLag),
    Method(RewardOnly.NAME, ActorCriticLearner, RewardOnlySettings, RewardOnly),
    Method(RewardOnly.NAME, CoptiDice, RewardOnlyDiceSettings, RewardOnlyDice),
    Method(TrajDeleter.NAME, Learner, TrajDeleterSettings, TrajDeleter),
    Method(FineTune.NAME, Learner, FineTuneSettings, FineTune),
    Method(Retrain.NAME, Learner, RetrainSettings, Retrain),
)
NAMES = tuple(dict.fromkeys(method.name for method in METHODS))


def method_for(name: str, learner: type[Learner]) -> Method:
    """The method of that name for a kind of learner.

    Raises:
        MethodError: no such method, or none of that name for this learner.
    """
    named = [method for method in METHODS if method.name == name]
    if not named:
        raise MethodError(f"unknown unlearning method {name!r}", f"Known: {', '.join(NAMES)}")
    for method in named:
        if issubclass(learner, method.needs):
            return method
    working = [other for other in NAMES if any(m.name == other and issubclass(learner, m.needs) for m in METHODS)]
    raise MethodError(f"{name} does not work on {learner.NAME}", f"These do: {', '.join(working)}")


def make_run(
    name: str, learner: Learner, forget: EpisodeDataset, keep: EpisodeDataset, settings: RunSettings, seed: int
) -> UnlearningRun:
    """A run of the method of that name, before its first step.

    Args:
        settings: of `method_for(name, type(learner)).settings`.

    Raises:
        MethodError: see `method_for`.
    """
    method = method_for(name, type(learner))
    assert isinstance(settings, method.settings), f"{name} takes {method.settings}, not {type(settings)}"
    return method.make(learner, forget, keep, settings, seed)
