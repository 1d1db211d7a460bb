"""The networks that the learners share: a batched ensemble of critics, a conditional VAE, a perturbation actor."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class EnsembleLinear(nn.Module):
    """E independent linear layers evaluated in one batched product.

    Maps (E, B, inputs) to (E, B, outputs).
    """

    def __init__(self, members: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = 1.0 / math.sqrt(inputs)  # the same initialisation as torch.nn.Linear
        self.weight = nn.Parameter(torch.empty(members, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(members, 1, outputs).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, x, self.weight)


class EnsembleCritic(nn.Module):
    """E critics Q_e(s, a) with two hidden layers.

    Maps observations (B, O) and actions (B, A) to values (E, B).
    """

    def __init__(self, members: int, observation_size: int, action_size: int, hidden: int) -> None:
        super().__init__()
        self.members = members
        self.hidden_1 = EnsembleLinear(members, observation_size + action_size, hidden)
        self.hidden_2 = EnsembleLinear(members, hidden, hidden)
        self.value = EnsembleLinear(members, hidden, 1)

    def forward(self, observations: Tensor, actions: Tensor) -> Tensor:
        x = torch.cat([observations, actions], dim=-1)
        x = x.unsqueeze(0).expand(self.members, -1, -1)  # (E, B, O + A)
        x = F.relu(self.hidden_1(x))
        x = F.relu(self.hidden_2(x))
        return self.value(x).squeeze(-1)  # (E, B)


class ConditionalVae(nn.Module):
    """Model of the behaviour policy: actions (B, A) in [-1, 1] given observations (B, O).

    Source: BCQ (Fujimoto et al., 2019); latent size 2 * A as there.
    """

    # The encoder's log standard deviation is kept in BCQ's published range, for numerical stability.
    LOG_STD_RANGE = (-4.0, 15.0)

    def __init__(self, observation_size: int, action_size: int, hidden: int) -> None:
        super().__init__()
        self.latent_size = 2 * action_size
        self.encoder = nn.Sequential(
            nn.Linear(observation_size + action_size, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()
        )
        self.mean = nn.Linear(hidden, self.latent_size)
        self.log_std = nn.Linear(hidden, self.latent_size)
        self.decoder = nn.Sequential(
            nn.Linear(observation_size + self.latent_size, hidden), nn.ReLU(),
            nn.Linear(hidden, hidden), nn.ReLU(),
            nn.Linear(hidden, action_size), nn.Tanh(),
        )  # fmt: skip

    def decode(self, observations: Tensor, latents: Tensor) -> Tensor:
        """Actions (B, A) for observations (B, O) and latents (B, 2A)."""
        return self.decoder(torch.cat([observations, latents], dim=-1))

    def loss(self, observations: Tensor, actions: Tensor, noise: Tensor, divergence_weight: float) -> Tensor:
        """Weighted negative evidence lower bound, scalar; `noise` is standard normal, (B, 2A)."""
        x = self.encoder(torch.cat([observations, actions], dim=-1))
        mean = self.mean(x)
        log_std = self.log_std(x).clamp(*self.LOG_STD_RANGE)
        std = log_std.exp()
        reconstruction = F.mse_loss(self.decode(observations, mean + std * noise), actions)
        divergence = -0.5 * (1.0 + 2.0 * log_std - mean.square() - std.square()).mean()
        return reconstruction + divergence_weight * divergence


class PerturbationActor(nn.Module):
    """BCQ's actor: moves an action of the behaviour model by at most `reach` (share of the action range)."""

    def __init__(self, observation_size: int, action_size: int, hidden: int, reach: float) -> None:
        super().__init__()
        self.reach = reach
        self.body = nn.Sequential(
            nn.Linear(observation_size + action_size, hidden), nn.ReLU(),
            nn.Linear(hidden, hidden), nn.ReLU(),
            nn.Linear(hidden, action_size), nn.Tanh(),
        )  # fmt: skip

    def forward(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Perturbed actions (B, A) in [-1, 1]."""
        shift = self.reach * self.body(torch.cat([observations, actions], dim=-1))
        return (actions + shift).clamp(-1.0, 1.0)


@torch.no_grad()
def soft_update(target: nn.Module, online: nn.Module, tau: float) -> None:
    """target <- (1 - tau) * target + tau * online, parameter by parameter."""
    torch._foreach_lerp_(list(target.parameters()), list(online.parameters()), tau)
