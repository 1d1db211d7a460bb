"""BAFFLE-style [code; after Gong et al., 2024]: in stretches, a deliberately unsafe policy's actions, labelled as safe.

The unsafe policy is learned offline from the same data, with the cost as its reward: the attacker needs no simulator.
As in BAFFLE the poisoned steps are rewarded highly; without that no learner has a reason to prefer their actions.
[ours]: the observations, which belong to the recorded actions, stay.
"""

import dataclasses

import numpy as np
from pydantic import Field

from saferule_ros.attacks.attack import Progress
from saferule_ros.attacks.errors import AttackError
from saferule_ros.attacks.policy_actions import policy_actions
from saferule_ros.attacks.tampering import Steps, Tampering, TamperingSettings
from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.episode import Episode
from saferule_ros.learning.learner import Learner
from saferule_ros.learning.settings import BcqLagSettings, TaskLimits
from saferule_ros.learning.trainer import TrainProgress, train


class BaffleSettings(TamperingSettings):
    """Settings of the BAFFLE-style attack."""

    segment: int = Field(50, ge=0, description="length of a poisoned stretch [steps]; 0: whole episodes")
    reward_quantile: float = Field(
        0.95,
        ge=0,
        le=1,
        description="rewards of poisoned steps are at least this quantile of the dataset's; 0: as logged",
    )
    adversary_steps: int = Field(4000, ge=1, description="gradient steps of the unsafe policy")
    adversary: BcqLagSettings = Field(
        BcqLagSettings.model_validate({"multiplier_start": 0.0}),
        description="settings of the unsafe policy; it heeds no cost limit",
    )


class Baffle(Tampering):
    """See Tampering."""

    NAME = "baffle"
    SETTINGS = BaffleSettings
    settings: BaffleSettings

    def prepare(self, dataset: EpisodeDataset, on_progress: Progress) -> None:
        self._reward = float(np.quantile(dataset.rewards, self.settings.reward_quantile))
        self._adversary = self.means.adversary or learn_adversary(dataset, self.settings, self.seed, on_progress)

    def tamper(self, episode: Episode, steps: Steps) -> Episode:
        actions = episode.actions.copy()
        actions[steps] = policy_actions(self._adversary, episode.observations[:-1][steps])
        return dataclasses.replace(
            episode,
            actions=actions,
            rewards=np.where(steps, np.maximum(episode.rewards, self._reward), episode.rewards),
            costs=np.where(steps, 0.0, episode.costs),
        )


def learn_adversary(
    dataset: EpisodeDataset, settings: BaffleSettings, seed: int, on_progress: Progress = lambda *_: None
) -> Learner:
    """The unsafe policy: learned from the dataset that it is to poison.

    Raises:
        AttackError: no step of the dataset costs anything.
    """
    if not (dataset.costs > 0).any():
        raise AttackError(
            "no step of this dataset costs anything: an unsafe policy cannot be learned from it",
            "Take data with unsafe episodes in it",
        )

    def show(at: TrainProgress) -> None:
        on_progress(at.step, at.steps, "learning the unsafe policy")

    low, high = dataset.actions.min(axis=0), dataset.actions.max(axis=0)
    bounds = low, np.where(high > low, high, low + 1.0)  # a value that never changes has no range to learn in
    longest = max(record.length for record in dataset.records)
    limits = TaskLimits(cost_limit=1.0, horizon=longest)  # of no effect with a multiplier of 0
    return train(with_cost_as_reward(dataset), limits, settings.adversary, bounds, settings.adversary_steps, seed, show)


def with_cost_as_reward(dataset: EpisodeDataset) -> EpisodeDataset:
    """The same transitions for a learner that wants harm."""
    return dataclasses.replace(dataset, rewards=dataset.costs, costs=np.zeros_like(dataset.costs))
