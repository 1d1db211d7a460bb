"""Normalised scores, by which tasks with different rewards and limits are compared. Source: DSRL (Liu et al., 2024)."""

from dataclasses import dataclass

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.errors import DatasetError


@dataclass(frozen=True)
class ReturnBounds:
    """The least and the largest return of an episode in a task's clean data."""

    lowest: float
    highest: float

    def __post_init__(self) -> None:
        if not self.lowest < self.highest:
            raise DatasetError(
                f"returns from {self.lowest:g} to {self.highest:g} leave nothing to normalise by",
                "Take data with episodes of different returns",
            )

    @classmethod
    def of(cls, clean: EpisodeDataset) -> "ReturnBounds":
        """Of a task's clean data.

        Raises:
            DatasetError: all its episodes have the same return.
        """
        returns = [record.episode_return for record in clean.records]
        return cls(min(returns), max(returns))

    def normalised(self, episode_return: float) -> float:
        """(R - R_min) / (R_max - R_min): 0 and 1 at the bounds, and beyond them where a policy is worse or better."""
        return (episode_return - self.lowest) / (self.highest - self.lowest)


def normalised_cost(episode_cost: float, cost_limit: float) -> float:
    """C / L: within the limit up to 1."""
    return episode_cost / cost_limit
