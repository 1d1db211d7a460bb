"""The best of several proposed actions: how policies choose that take what a model of behaviour proposes.

Source: BCQ (Fujimoto et al., 2019). Constrained [OSRL], the best is the one with the largest Lagrangian.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor, nn

from saferule_ros.learning.learner import Values, by_kind
from saferule_ros.learning.networks import EnsembleCritic
from saferule_ros.learning.settings import ChoiceSettings

# Keeps the slope of the standard deviation finite where all critics agree; itself far below their residuals.
VARIANCE_FLOOR = 1e-12


class Candidates(NamedTuple):
    """K actions for each of B observations."""

    actions: Tensor  # (B, K, A) in [-1, 1]
    values: Values  # (B, K)


class ChoosingPolicy(nn.Module, ABC):
    """Of K proposed actions the one with the best Lagrangian score Q_r - lambda Q_c.

    Args:
        critics: 2N members, N of reward, then N of cost.
        draws: (K, D), one for each proposal, the same for every observation: no randomness on the robot [ours].
        multiplier: lambda; a scalar tensor where it changes while the policy is in use.
        settings: how pessimistic it is.
    """

    draws: Tensor

    def __init__(
        self, critics: EnsembleCritic, draws: Tensor, multiplier: Tensor | float, settings: ChoiceSettings
    ) -> None:
        super().__init__()
        self.critics = critics
        self.register_buffer("draws", draws)
        self.multiplier, self.settings = multiplier, settings

    @abstractmethod
    def propose(self, observations: Tensor, draws: Tensor) -> Tensor:
        """Actions (B, A) in [-1, 1] for normalised observations (B, O) and draws (B, D)."""

    def forward(self, observations: Tensor) -> Tensor:
        """Actions (B, A) in [-1, 1] for normalised observations (B, O)."""
        return self.best(self.candidates(observations, self.draws.repeat(len(observations), 1)))

    def candidates(self, observations: Tensor, draws: Tensor) -> Candidates:
        """K actions per observation, and what the critics say of them.

        Args:
            observations: (B, O).
            draws: (B * K, D), those of one observation next to each other.
        """
        count = len(observations)
        repeated = observations.repeat_interleave(len(draws) // count, dim=0)  # (B * K, O)
        actions = self.propose(repeated, draws)  # (B * K, A)
        values = pessimistic(self.critics(repeated, actions), self.settings)
        values = Values(values.reward.view(count, -1), values.cost.view(count, -1))
        return Candidates(actions.view(count, -1, actions.shape[-1]), values)

    def choice(self, candidates: Candidates) -> Tensor:
        """Which (B, 1) of each observation's candidates has the best score."""
        return self.score(candidates.values).argmax(dim=1, keepdim=True)

    def best(self, candidates: Candidates) -> Tensor:
        """The action (B, A) with the best score among each observation's candidates."""
        rows = self.choice(candidates).unsqueeze(-1).expand(-1, 1, candidates.actions.shape[-1])
        return candidates.actions.gather(1, rows).squeeze(1)

    def target(self, candidates: Candidates) -> Values:
        """What an observation is worth (B,): the reward of the best candidate, the cost of the costliest.

        [OSRL] The chosen action's cost looks exact and is optimistic: the choice favours actions whose cost is
        underestimated.
        """
        values = candidates.values
        return Values(values.reward.gather(1, self.choice(candidates)).squeeze(1), values.cost.amax(dim=1))

    def score(self, values: Values) -> Tensor:
        """The Lagrangian that the policy maximises, normalised so that a large lambda keeps its scale."""
        return (values.reward - self.multiplier * values.cost) / (1.0 + self.multiplier)


def pessimistic(predicted: Tensor, settings: ChoiceSettings) -> Values:
    """Critics (2N, B) reduced to one value each, pessimistic for both.

    With twins and the default pessimism, sqrt(2)/4 and sqrt(2)/2, this is BCQ's soft minimum of rewards (0.75 of the
    smaller, 0.25 of the larger) and the larger cost; in standard deviations it serves more critics [ours].
    """
    (reward, reward_spread), (cost, cost_spread) = map(mean_and_spread, by_kind(predicted))
    return Values(reward - settings.reward_pessimism * reward_spread, cost + settings.cost_pessimism * cost_spread)


def mean_and_spread(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and sample standard deviation over the first dimension."""
    mean = values.mean(0)
    variance = (values - mean).square().sum(0) / (len(values) - 1)
    return mean, (variance + VARIANCE_FLOOR).sqrt()
