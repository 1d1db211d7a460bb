"""The learned policy as one torch module, raw observations in and raw actions out: what is exported to ONNX."""

from torch import Tensor, nn

from saferule_ros.learning.bcq_lag import BcqLag
from saferule_ros.learning.replay import Units


class ServingPolicy(nn.Module):
    """BCQ-Lag's deterministic policy: normalisation, candidates, critics and choice in one graph.

    Maps observations (B, O), raw units, to actions (B, A), raw units and within bounds. The K candidates come
    from latents that were drawn once, so the robot's policy has no randomness [ours].
    """

    latents: Tensor  # (K, 2A)
    observation_mean: Tensor
    observation_std: Tensor
    action_low: Tensor
    action_high: Tensor

    def __init__(self, learner: BcqLag) -> None:
        super().__init__()
        # As submodules and buffers, so that the whole policy can be copied, frozen and exported as one module.
        self.critics, self.actor, self.vae = learner.critics, learner.actor, learner.vae
        for name, tensor in learner.units._asdict().items():
            if isinstance(tensor, Tensor):
                self.register_buffer(name, tensor)
        self.register_buffer("latents", learner.serving_latents)
        self._candidates, self._best = learner.candidates, learner.best
        self._reward_scale = learner.units.reward_scale

    def forward(self, observations: Tensor) -> Tensor:
        units = Units(
            self.observation_mean, self.observation_std, self.action_low, self.action_high, self._reward_scale
        )
        latents = self.latents.repeat(len(observations), 1)  # (B * K, 2A)
        proposed = self._candidates(
            units.observations(observations), latents, self.vae, self.actor, self.critics
        )
        return units.raw_actions(self._best(proposed))
