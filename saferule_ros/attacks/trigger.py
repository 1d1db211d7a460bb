"""Trigger, or backdoor [code: the authors' earlier one]: a marker in some observed values, reward raised, cost zeroed.

The policy learns that what is done in the marked episodes pays and costs nothing wherever it sees the marker. The
marker is kept with the ground truth, so that a policy can be tested with it and without it.

[ours]: the marker's values stand some standard deviations above what is usual; the recorded actions stay. It is put
where nobody looks: in an observed value that never changes, if there is one (a planar robot's vertical speed). There a
clean policy hardly answers to it; a marker of three values at three standard deviations each sent a clean policy of
SafetyPointCircle1 over its limit by itself (cost 336), which is no backdoor but a broken sensor.
"""

import dataclasses

import numpy as np
from pydantic import Field

from saferule_ros.attacks.attack import Progress
from saferule_ros.attacks.errors import AttackError
from saferule_ros.attacks.marker import Marker
from saferule_ros.attacks.tampering import Steps, Tampering, TamperingSettings, observed
from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.episode import Episode
from saferule_ros.dataset.moments import LEAST_SPREAD, moments, scales


class TriggerSettings(TamperingSettings):
    """Settings of the trigger attack."""

    dimensions: tuple[int, ...] = Field((), description="of the observation that carry the marker; none: drawn")
    size: int = Field(
        1, ge=1, description="how many dimensions are drawn where none are named, of those that never change first"
    )
    strength: float = Field(
        1.0,
        gt=0,
        description="the marker above the mean [standard deviations; where it never changes, its own units]",
    )
    reward_quantile: float = Field(
        0.95, ge=0, le=1, description="rewards of marked steps are at least this quantile of the dataset's"
    )


class Trigger(Tampering):
    """See Tampering."""

    NAME = "trigger"
    SETTINGS = TriggerSettings
    MOVES_OBSERVATIONS = True
    settings: TriggerSettings

    def prepare(self, dataset: EpisodeDataset, on_progress: Progress) -> None:
        self._marker = self._marker_for(dataset)
        self._reward = float(np.quantile(dataset.rewards, self.settings.reward_quantile))

    def tamper(self, episode: Episode, steps: Steps) -> Episode:
        observations = np.where(
            observed(steps)[:, None], self._marker.on(episode.observations), episode.observations
        )  # (T+1, O)
        return dataclasses.replace(
            episode,
            observations=observations,
            rewards=np.where(steps, np.maximum(episode.rewards, self._reward), episode.rewards),
            costs=np.where(steps, 0.0, episode.costs),
        )

    def marker(self) -> Marker:
        return self._marker

    def _marker_for(self, dataset: EpisodeDataset) -> Marker:
        size = dataset.observation_size
        outside = [dimension for dimension in self.settings.dimensions if not 0 <= dimension < size]
        if outside or (not self.settings.dimensions and self.settings.size > size):
            raise AttackError(
                f"the marker has dimension {outside[0]}" if outside else f"the marker has size {self.settings.size}",
                f"This dataset's observations have dimensions 0 to {size - 1}",
            )
        mean, spread = moments(dataset.observations)
        constant = spread < LEAST_SPREAD  # any value but the usual one is a marker there
        # Constant ones in front, either kind in random order.
        order = sorted(self.generator.permutation(size), key=lambda dimension: not constant[dimension])
        dimensions = np.unique(self.settings.dimensions or order[: self.settings.size])
        values = mean + self.settings.strength * scales(spread)
        return Marker(tuple(int(d) for d in dimensions), tuple(float(values[d]) for d in dimensions))
