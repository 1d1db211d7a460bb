"""The learned policy as one torch module, raw observations in and raw actions out: what is exported to ONNX."""

import copy

from torch import Tensor, nn

from saferule_ros.learning.learner import Learner
from saferule_ros.learning.replay import Units


class ServingPolicy(nn.Module):
    """A learner's deterministic policy with its normalisation in one graph.

    Maps observations (B, O), raw units, to actions (B, A), raw units and within bounds.
    """

    observation_mean: Tensor
    observation_std: Tensor
    action_low: Tensor
    action_high: Tensor

    def __init__(self, learner: Learner) -> None:
        super().__init__()
        # As submodule and buffers, so that the whole policy can be copied, frozen and exported as one module.
        self.policy = learner.policy()
        for name, tensor in learner.units._asdict().items():
            if isinstance(tensor, Tensor):
                self.register_buffer(name, tensor)
        self._scales = learner.units.reward_scale, learner.units.cost_scale

    def on_cpu(self) -> "ServingPolicy":
        """A copy where it serves, wherever the learner is."""
        return copy.deepcopy(self).cpu()

    def forward(self, observations: Tensor) -> Tensor:
        units = Units(self.observation_mean, self.observation_std, self.action_low, self.action_high, *self._scales)
        return units.raw_actions(self.policy(units.observations(observations)))
