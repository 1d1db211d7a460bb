"""A learned model of what actions lead to, earn, cost and end: an ensemble, all members in one batched product.

Reward and cost of a step are functions of the observation and the action, as the next observation is. [ours] Cost is a
share of the largest cost of the data, through a sigmoid: a prediction is never negative and never larger than what was
seen, and its cross-entropy has the mean as its minimum, for costs of 0 or 1 and for any others within the range.

Where episodes of the data terminate, a step also has a chance to be the last. [ours] Nothing is drawn: what follows
counts as far as it is expected to be lived to see, which is the mean over all ends along the way.
"""

import math
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
    end_logits: Tensor | None  # (E, B) of the chance that the episode terminates with it; None: none ever does


class DynamicsEnsemble(nn.Module):
    """E members with two hidden layers.

    Args:
        members: E.
        units: of observations, actions and rewards.
        change: (O,) standard deviation of one step's change [standard scores]: the unit in which changes are learned.
        bounds: (2, O) least and largest observation of the data [standard scores]; predictions stay within them.
        largest_cost: of one step in the data, above 0.
        hidden: width.
        end_rate: share of the data's steps with which an episode terminated; 0: the model knows of no end.
    """

    change: Tensor
    bounds: Tensor

    def __init__(
        self, members: int, units: Units, change: Tensor, bounds: Tensor, largest_cost: float, hidden: int,
        end_rate: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__()
        size, actions = len(units.observation_mean), len(units.action_low)
        self.members, self.units, self.largest_cost = members, units, largest_cost
        self.register_buffer("change", change)
        self.register_buffer("bounds", bounds)
        self.hidden_1 = EnsembleLinear(members, size + actions, hidden)
        self.hidden_2 = EnsembleLinear(members, hidden, hidden)
        self.out = EnsembleLinear(members, hidden, size + 2)
        self.end = EnsembleLinear(members, hidden, 1) if end_rate > 0 else None
        if self.end is not None:
            # Ends are rare. Begun at even odds, what is left of them after learning would end every long episode.
            with torch.no_grad():
                self.end.bias.fill_(math.log(end_rate / (1.0 - end_rate)) if end_rate < 1 else 0.0)

    def forward(self, observations: Tensor, actions: Tensor) -> Prediction:
        """One step from observations (E, B, O) with actions (E, B, A)."""
        x = torch.cat([observations, actions], dim=-1)
        x = F.silu(self.hidden_1(x))
        x = F.silu(self.hidden_2(x))
        out = self.out(x)
        following = observations + self.change * out[..., :-2]
        ends = None if self.end is None else self.end(x)[..., 0]
        return Prediction(following.clamp(self.bounds[0], self.bounds[1]), out[..., -2], out[..., -1], ends)

    def costs(self, prediction: Prediction) -> Tensor:
        """Expected cost (E, B) of the step, raw units."""
        return self.largest_cost * torch.sigmoid(prediction.cost_logits)

    def going_on(self, prediction: Prediction) -> Tensor:
        """Chance (E, B) that the episode does not terminate with the step."""
        if prediction.end_logits is None:
            return torch.ones_like(prediction.rewards)
        return torch.sigmoid(-prediction.end_logits)
