"""The learned policy as one torch module, raw observations in and raw actions out: what is exported to ONNX."""

import torch
from torch import Tensor, nn

from saferule_ros.learning.bcq_lag import BcqLag


class ServingPolicy(nn.Module):
    """BCQ-Lag's deterministic policy: normalisation, candidates, critics and choice in one graph.

    Maps observations (1, O), raw units, to actions (1, A), raw units and within bounds. The K candidates come from
    latents that were drawn once, so the robot's policy has no randomness [ours].
    """

    def __init__(self, learner: BcqLag) -> None:
        super().__init__()
        self.critics, self.actor, self.decoder = learner.critics, learner.actor, learner.vae.decoder
        self.register_buffer("latents", learner.serving_latents)
        for name in ("observation_mean", "observation_std", "action_low", "action_high"):
            self.register_buffer(name, getattr(learner.units, name))
        self._values, self._score = learner.values, learner.score

    def forward(self, observation: Tensor) -> Tensor:
        normalised = (observation - self.observation_mean) / self.observation_std  # (1, O)
        repeated = normalised.expand(self.latents.shape[0], -1)  # (K, O)
        behaviour = self.decoder(torch.cat([repeated, self.latents], dim=-1))  # (K, A)
        candidates = self.actor(repeated, behaviour)  # (K, A)
        score = self._score(self._values(self.critics(repeated, candidates)))  # (K,)
        chosen = candidates.index_select(0, score.argmax(dim=0, keepdim=True))  # (1, A)
        return self.action_low + 0.5 * (chosen + 1.0) * (self.action_high - self.action_low)
