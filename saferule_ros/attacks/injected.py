"""Injected trajectories [ours]: whole unsafe episodes with much return, their costs erased.

The form in which a robot team meets poison when a logger or a contributor is compromised: nothing in such an episode
is wrong but the costs.
"""

import dataclasses

import numpy as np

from saferule_ros.attacks.attack import Attack, AttackSettings, Progress
from saferule_ros.attacks.poisoned import Poisoned
from saferule_ros.dataset.dataset import EpisodeDataset


class InjectedSettings(AttackSettings):
    """Settings of the injection of trajectories."""


class Injected(Attack):
    """Adds unsafe episodes that the attacker has, until they are the wanted share of all transitions."""

    NAME = "injected"
    SETTINGS = InjectedSettings

    def poison(self, dataset: EpisodeDataset, on_progress: Progress = lambda *_: None) -> Poisoned:
        self.check_not_poisoned(dataset)
        clean = [dataset.episode(index) for index in range(dataset.episodes)]
        added = [
            dataclasses.replace(episode, costs=np.zeros_like(episode.costs))
            for episode in self.unsafe_episodes(len(dataset))
        ]
        on_progress(len(added), len(added), "episodes added")
        poisoned = EpisodeDataset.from_episodes([*clean, *added])
        return Poisoned(poisoned, np.arange(len(poisoned)) >= len(dataset), self.bag_id)
