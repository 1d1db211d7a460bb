"""What every attack is: a clean dataset in, the poisoned dataset and the ground truth out.

An attack is one file that derives from `Attack`; `registry.py` lists them.
"""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from saferule_ros.attacks.errors import AttackError
from saferule_ros.attacks.poisoned import Poisoned
from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.episode import Episode
from saferule_ros.learning.learner import Learner

# Called with (done, all, what is being done).
Progress = Callable[[int, int, str], None]


class AttackSettings(BaseModel):
    """What every attack can be told."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ratio: float = Field(
        0.15, gt=0, lt=1, description="share of the poisoned dataset's transitions that are poisoned (15 % is 0.15)"
    )


@dataclasses.dataclass(frozen=True)
class Means:
    """What an attacker has besides the dataset; an attack says which of these it needs.

    Attributes:
        unsafe_episodes: with their true costs, from a robot that drove recklessly.
        learner: a trained one with a cost critic, of the same robot.
        adversary: a policy that wants harm, where one was learned from this dataset before (see BAFFLE).
    """

    unsafe_episodes: Sequence[Episode] = ()
    learner: Learner | None = None
    adversary: Learner | None = None


class Attack(ABC):
    """One way to poison a dataset.

    Args:
        settings: of this attack.
        seed: of every random draw: which episodes, where in them, what noise.
        means: what the attacker has besides the dataset.
    """

    NAME: ClassVar[str]
    SETTINGS: ClassVar[type[AttackSettings]]

    def __init__(self, settings: Any, seed: int, means: Means) -> None:
        self.settings, self.seed, self.means = settings, seed, means
        self.generator = np.random.default_rng(seed)

    settings: AttackSettings  # a narrower one in each attack

    @abstractmethod
    def poison(self, dataset: EpisodeDataset, on_progress: Progress = lambda *_: None) -> Poisoned:
        """The poisoned dataset and its ground truth; the one given stays as it is.

        Raises:
            AttackError: something that this attack needs is missing, or there is too little of it.
        """

    @property
    def bag_id(self) -> str:
        """The bag that poisoned episodes come under, so that a forget set can name them."""
        return f"{self.NAME}-{self.seed}"

    def unsafe_episodes(self, clean_transitions: int) -> list[Episode]:
        """As many of the attacker's episodes, drawn without replacement, as come nearest to the ratio.

        Args:
            clean_transitions: of the dataset that they are to be added to.

        Returns:
            Copies that have their names from this attack's bag, costs as they were.

        Raises:
            AttackError: there are too few that cost anything.
        """
        share = self.settings.ratio
        wanted = share / (1.0 - share) * clean_transitions  # n / (clean + n) = share
        unsafe = [episode for episode in self.means.unsafe_episodes if episode.episode_cost > 0]
        drawn = [unsafe[index] for index in self.generator.permutation(len(unsafe))]
        ends = np.cumsum([0, *(episode.length for episode in drawn)])
        longest = max((episode.length for episode in drawn), default=0)
        if ends[-1] + longest / 2 < wanted or not drawn:
            raise AttackError(
                f"ratio {share:g} needs about {wanted:.0f} transitions of unsafe episodes, {ends[-1]} were given "
                f"({len(drawn)} episodes that cost anything)",
                "Collect more with `saferule collect TASK --driver unsafe`, or take a smaller ratio",
            )
        count = int(np.abs(ends - wanted).argmin())
        if not count:
            raise AttackError(
                f"ratio {share:g} of {clean_transitions} transitions is {wanted:.0f}, nearer to none than to an unsafe "
                f"episode of {ends[1]}",
                "Take a larger ratio, or more clean data",
            )
        return [
            dataclasses.replace(episode, id=f"{self.bag_id}-{index:04d}", bag_id=self.bag_id)
            for index, episode in enumerate(drawn[:count])
        ]

    def check_not_poisoned(self, dataset: EpisodeDataset) -> None:
        """Raises AttackError where this very attack has been made already."""
        if self.bag_id in dataset.bag_ids:
            raise AttackError(
                f"the dataset has a bag {self.bag_id!r} already: it was poisoned like that before",
                "Start from clean data, or take another seed",
            )
