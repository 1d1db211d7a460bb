"""A learned model of what actions lead to, earn and cost: an ensemble, all members in one batched product.

Reward and cost of a step are functions of the observation and the action, as the next observation is. [ours] Cost is a
share of the largest cost of the data, through a sigmoid: a prediction is never negative and never larger than what was
seen, and its cross-entropy has the mean as its minimum, for costs of 0 or 1 and for any others within the range.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saferule_ros.learning.networks import EnsembleLinear
from saferule_ros.learning.replay import Units


class Prediction(NamedTuple):
    """What each of E members expects of a step, in learner units, for B pairs each."""

    following: Tensor  # (E, B, O) the next observation
    rewards: Tensor  # (E, B)
    cost_logits: Tensor  # (E, B) of the share of the largest cost


class DynamicsEnsemble(nn.Module):
    """E members with two hidden layers.

    Args:
        members: E.
        units: of observations, actions and rewards.
        change: (O,) standard deviation of one step's change [standard scores]: the unit in which changes are learned.
        bounds: (2, O) least and largest observation of the data [standard scores]; predictions stay within them.
        largest_cost: of one step in the data, above 0.
        hidden: width.
    """

    change: Tensor
    bounds: Tensor

    def __init__(
        self, members: int, units: Units, change: Tensor, bounds: Tensor, largest_cost: float, hidden: int
    ) -> None:
        super().__init__()
        size, actions = len(units.observation_mean), len(units.action_low)
        self.members, self.units, self.largest_cost = members, units, largest_cost
        self.register_buffer("change", change)
        self.register_buffer("bounds", bounds)
        self.hidden_1 = EnsembleLinear(members, size + actions, hidden)
        self.hidden_2 = EnsembleLinear(members, hidden, hidden)
        self.out = EnsembleLinear(members, hidden, size + 2)

    def forward(self, observations: Tensor, actions: Tensor) -> Prediction:
        """One step from observations (E, B, O) with actions (E, B, A)."""
        x = torch.cat([observations, actions], dim=-1)
        x = F.silu(self.hidden_1(x))
        x = F.silu(self.hidden_2(x))
        out = self.out(x)
        following = observations + self.change * out[..., :-2]
        return Prediction(following.clamp(self.bounds[0], self.bounds[1]), out[..., -2], out[..., -1])

    def costs(self, prediction: Prediction) -> Tensor:
        """Expected cost (E, B) of the step, raw units."""
        return self.largest_cost * torch.sigmoid(prediction.cost_logits)
