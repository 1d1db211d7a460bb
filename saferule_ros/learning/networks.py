"""The networks that the learners share: a batched ensemble of critics, a conditional VAE, two kinds of actor."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Rows that go through a network together on a CPU, where there are as many or more: what lies between two layers 256
# wide is half a megabyte then, and stays in a core's cache. Eight such critics take half the time for 5,120 pairs, and
# 0.8 of it for 1,024 with their gradients; 64 wide nothing is gained, nor lost.
PIECE = 512

# Each tensor that is not made is a pass over memory less: a tenth of a step. Nothing else needs what goes in.
Relu = partial(nn.ReLU, inplace=True)


def is_large(x: Tensor) -> bool:
    """Whether rows (B, ...) go through a network in pieces. On a GPU they never do: it is faster with many."""
    return x.device.type == "cpu" and len(x) >= PIECE


def piecewise(network: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """network(x) of rows x (B, ...), in pieces where they are many."""
    return torch.cat([network(piece) for piece in x.split(PIECE)]) if is_large(x) else network(x)


class EnsembleLinear(nn.Module):
    """E independent linear layers evaluated in one batched product.

    Maps (E, B, inputs) to (E, B, outputs); with `first`, those from that one on alone, E - first of them.
    """

    def __init__(self, members: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = 1.0 / math.sqrt(inputs)  # the same initialisation as torch.nn.Linear
        self.weight = nn.Parameter(torch.empty(members, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(members, 1, outputs).uniform_(-bound, bound))

    def forward(self, x: Tensor, first: int = 0) -> Tensor:
        if not first:  # an exported graph has no slices
            return torch.baddbmm(self.bias, x, self.weight)
        return torch.baddbmm(self.bias[first:], x, self.weight[first:])

    def members(self, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Bias (1, outputs) and weight (inputs, outputs) of each, as addmm takes them."""
        return zip(self.bias.unbind()[first:], self.weight.unbind()[first:], strict=True)


class EnsembleCritic(nn.Module):
    """E critics Q_e(s, a) with two hidden layers.

    Maps observations (B, O) and actions (B, A) to values (E, B); with `first`, the critics from that one on alone.
    """

    def __init__(self, members: int, observation_size: int, action_size: int, hidden: int) -> None:
        super().__init__()
        self.members = members
        self.hidden_1 = EnsembleLinear(members, observation_size + action_size, hidden)
        self.hidden_2 = EnsembleLinear(members, hidden, hidden)
        self.value = EnsembleLinear(members, hidden, 1)

    def forward(self, observations: Tensor, actions: Tensor, first: int = 0) -> Tensor:
        x = torch.cat([observations, actions], dim=-1)
        if is_large(x):
            members = zip(*(layer.members(first) for layer in (self.hidden_1, self.hidden_2, self.value)), strict=True)
            return torch.stack([piecewise(partial(_member, layers), x).squeeze(-1) for layers in members])
        x = x.unsqueeze(0).expand(self.members - first, -1, -1)  # (E, B, O + A)
        x = F.relu(self.hidden_1(x, first), inplace=True)
        x = F.relu(self.hidden_2(x, first), inplace=True)
        return self.value(x, first).squeeze(-1)  # (E, B)


def _member(layers: Sequence[tuple[Tensor, Tensor]], x: Tensor) -> Tensor:
    """What one member of an ensemble makes of x (B, inputs); bias and weight of each layer."""
    *hidden, (bias, weight) = layers
    for hidden_bias, hidden_weight in hidden:
        x = F.relu(torch.addmm(hidden_bias, x, hidden_weight), inplace=True)
    return torch.addmm(bias, x, weight)


class StateFunction(nn.Module):
    """A number for each state, with two hidden layers: observations (B, O) to (B,)."""

    def __init__(self, observation_size: int, hidden: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(observation_size, hidden), Relu(),
            nn.Linear(hidden, hidden), Relu(),
            nn.Linear(hidden, 1),
        )  # fmt: skip

    def forward(self, observations: Tensor) -> Tensor:
        return piecewise(self.body, observations).squeeze(-1)

    def along(self, *observations: Tensor) -> tuple[Tensor, ...]:
        """Its values at several sets of observations, evaluated together."""
        return self(torch.cat(observations)).split([len(part) for part in observations])


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
            nn.Linear(observation_size + action_size, hidden), Relu(), nn.Linear(hidden, hidden), Relu()
        )
        self.mean = nn.Linear(hidden, self.latent_size)
        self.log_std = nn.Linear(hidden, self.latent_size)
        self.decoder = nn.Sequential(
            nn.Linear(observation_size + self.latent_size, hidden), Relu(),
            nn.Linear(hidden, hidden), Relu(),
            nn.Linear(hidden, action_size), nn.Tanh(),
        )  # fmt: skip

    def decode(self, observations: Tensor, latents: Tensor) -> Tensor:
        """Actions (B, A) for observations (B, O) and latents (B, 2A)."""
        return piecewise(self.decoder, torch.cat([observations, latents], dim=-1))

    def encode(self, observations: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation of the latents, each (B, 2A)."""
        x = piecewise(self.encoder, torch.cat([observations, actions], dim=-1))
        return self.mean(x), self.log_std(x).clamp(*self.LOG_STD_RANGE)

    def loss(self, observations: Tensor, actions: Tensor, noise: Tensor, divergence_weight: float) -> Tensor:
        """Weighted negative evidence lower bound, scalar; `noise` is standard normal, (B, 2A)."""
        mean, log_std = self.encode(observations, actions)
        std = log_std.exp()
        reconstruction = F.mse_loss(self.decode(observations, mean + std * noise), actions)
        divergence = -0.5 * (1.0 + 2.0 * log_std - mean.square() - std.square()).mean()
        return reconstruction + divergence_weight * divergence


class PerturbationActor(nn.Module):
    """BCQ's actor: moves an action of the behaviour model by at most `reach` [action range/2]."""

    def __init__(self, observation_size: int, action_size: int, hidden: int, reach: float) -> None:
        super().__init__()
        self.reach = reach
        self.body = nn.Sequential(
            nn.Linear(observation_size + action_size, hidden), Relu(),
            nn.Linear(hidden, hidden), Relu(),
            nn.Linear(hidden, action_size), nn.Tanh(),
        )  # fmt: skip

    def forward(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Perturbed actions (B, A) in [-1, 1]."""
        shift = self.reach * piecewise(self.body, torch.cat([observations, actions], dim=-1))
        return (actions + shift).clamp(-1.0, 1.0)


class GaussianActor(nn.Module):
    """A Gaussian squashed by tanh: stochastic while learning, its mode when it serves. Source: SAC, as in OSRL."""

    # The usual range of SAC: wider, and a step with a large advantage makes log-probabilities overflow.
    LOG_STD_RANGE = (-5.0, 2.0)
    # Actions at the very edge of the range have no finite pre-image under tanh.
    EDGE = 1.0 - 1e-4

    def __init__(self, observation_size: int, action_size: int, hidden: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(observation_size, hidden), Relu(), nn.Linear(hidden, hidden), Relu())
        self.mean = nn.Linear(hidden, action_size)
        self.log_std = nn.Linear(hidden, action_size)

    def forward(self, observations: Tensor) -> Tensor:
        """The mode: actions (B, A) in [-1, 1] for observations (B, O)."""
        return torch.tanh(self.mean(piecewise(self.body, observations)))

    def parameters_at(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation before squashing, each (B, A)."""
        x = piecewise(self.body, observations)
        return self.mean(x), self.log_std(x).clamp(*self.LOG_STD_RANGE)

    def sample(self, observations: Tensor, noise: Tensor) -> Tensor:
        """Actions (..., B, A) with gradient; `noise` is standard normal, (..., B, A)."""
        mean, log_std = self.parameters_at(observations)
        return torch.tanh(mean + log_std.exp() * noise)

    def log_probability(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Log density (B,) of actions in [-1, 1]."""
        mean, log_std = self.parameters_at(observations)
        actions = actions.clamp(-self.EDGE, self.EDGE)
        before = torch.atanh(actions)
        gaussian = -0.5 * ((before - mean) / log_std.exp()).square() - log_std - 0.5 * math.log(2.0 * math.pi)
        return (gaussian - torch.log1p(-actions.square())).sum(-1)


@torch.no_grad()
def soft_update(target: nn.Module, online: nn.Module, tau: float) -> None:
    """target <- (1 - tau) * target + tau * online, parameter by parameter."""
    torch._foreach_lerp_(list(target.parameters()), list(online.parameters()), tau)
