"""BCQ-Lag: batch-constrained Q-learning (Fujimoto et al., 2019) with a Lagrangian cost constraint (OSRL).

The policy draws actions from a model of the behaviour, moves each a little, and takes the one with the best
Lagrangian score Q_r - lambda * Q_c. Where this differs from OSRL [ours]:

- the reward target is that of the next action the policy would take, the one with the best Lagrangian score; OSRL
  takes the largest reward value whatever it costs;
- the cost target is that of the costliest next action that the behaviour model proposes, as in OSRL, but with the
  larger of the twin critics (OSRL: the smaller). Taking the chosen action's cost instead looks exact and is
  optimistic: the choice favours actions whose cost is underestimated. It left clean policies far over the limit;
- truncated episodes bootstrap, terminated ones do not, for reward and cost alike;
- lambda is capped, does not wind up, and is part of the checkpoint; the actor's loss is divided by 1 + lambda.
"""

import copy
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saferule_ros.learning.networks import ConditionalVae, EnsembleCritic, PerturbationActor, soft_update
from saferule_ros.learning.replay import Batch, Replay, Units
from saferule_ros.learning.settings import BcqLagSettings, TaskLimits

# Twin critics for reward (members 0, 1) and cost (members 2, 3) share one batched product: a step is bound by
# the number of kernel calls, not by arithmetic.
REWARD_CRITICS = slice(0, 2)
COST_CRITICS = slice(2, 4)

# BCQ clips latents to this range when it samples, to stay with likely behaviour.
LATENT_CLIP = 0.5


class Values(NamedTuple):
    """What the critics say about state-action pairs, one number each, of any shape."""

    reward: Tensor  # soft minimum of the reward critics
    cost: Tensor  # maximum of the cost critics


class Candidates(NamedTuple):
    """K actions for each of B observations."""

    actions: Tensor  # (B, K, A) in [-1, 1]
    values: Values  # (B, K)


class BcqLag:
    """All that BCQ-Lag learns, and one gradient step of it.

    Args:
        units: how raw robot units become learner units.
        limits: cost limit and horizon of the task.
        settings: see BcqLagSettings.
        seed: of the networks' initial weights and every later draw.
    """

    NAME = "bcq_lag"

    def __init__(self, units: Units, limits: TaskLimits, settings: BcqLagSettings, seed: int) -> None:
        self.units, self.limits, self.settings = units, limits, settings
        self.seed, self.steps_done = seed, 0
        self.generator = torch.Generator().manual_seed(seed)
        observation_size, action_size = len(units.observation_mean), len(units.action_low)
        with torch.random.fork_rng(devices=[]):  # nn modules initialise from the global generator
            torch.manual_seed(seed)
            self.critics = EnsembleCritic(4, observation_size, action_size, settings.hidden)
            self.actor = PerturbationActor(observation_size, action_size, settings.hidden, settings.reach)
            self.vae = ConditionalVae(observation_size, action_size, settings.vae_hidden)
        self.critics_target = copy.deepcopy(self.critics).requires_grad_(False)
        self.actor_target = copy.deepcopy(self.actor).requires_grad_(False)
        self.serving_latents = self._latents(settings.serving_candidates)  # (K, 2A), fixed for good
        self.multiplier = settings.multiplier_start
        self.optimisers = {
            name: torch.optim.Adam(module.parameters(), lr=settings.learning_rate, fused=True)
            for name, module in self.trained().items()
        }

    @property
    def kappa(self) -> float:
        """The cost limit as a cost value."""
        return self.limits.cost_value_limit(self.settings.discount)

    def trained(self) -> dict[str, nn.Module]:
        """The networks that optimisers move, by name."""
        return {"critics": self.critics, "actor": self.actor, "vae": self.vae}

    def networks(self) -> dict[str, nn.Module]:
        """All networks, by name."""
        return self.trained() | {"critics_target": self.critics_target, "actor_target": self.actor_target}

    def update(self, batch: Batch, replay: Replay) -> Mapping[str, float]:
        """One gradient step on everything. Returns the losses."""
        vae_loss = self.vae_loss(batch)
        self.descend("vae", vae_loss)
        critic_loss = self.critic_losses(batch, self.critics(batch.observations, batch.actions))
        self.descend("critics", critic_loss.sum())
        actor_loss = self.actor_loss(batch.observations)
        self.descend("actor", actor_loss)
        self.update_targets()
        if self.settings.multiplier_rate > 0.0:
            self.update_multiplier(replay)
        self.steps_done += 1
        return {
            "loss_reward": critic_loss[0].item(), "loss_cost": critic_loss[1].item(),
            "loss_actor": actor_loss.item(), "loss_vae": vae_loss.item(), "multiplier": self.multiplier,
        }  # fmt: skip

    def vae_loss(self, batch: Batch) -> Tensor:
        """Behaviour model's loss, scalar."""
        noise = torch.randn(len(batch.actions), self.vae.latent_size, generator=self.generator)
        return self.vae.loss(batch.observations, batch.actions, noise, self.settings.divergence_weight)

    def critic_losses(self, batch: Batch, predicted: Tensor) -> Tensor:
        """Bellman errors (2,) of reward and cost; `predicted` is (4, B), the critics at the batch's pairs."""
        target_reward, target_cost = self.critic_targets(batch)
        return torch.stack([
            F.mse_loss(predicted[REWARD_CRITICS], target_reward.expand(2, -1)),
            F.mse_loss(predicted[COST_CRITICS], target_cost.expand(2, -1)),
        ])  # fmt: skip

    @torch.no_grad()
    def critic_targets(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """y_r and y_c, each (B,): reward of the best next action, cost of the worst that behaviour might take."""
        latents = self._latents(len(batch.rewards) * self.settings.target_candidates)
        following = self.candidates(
            batch.next_observations, latents, self.vae, self.actor_target, self.critics_target
        )
        best = self.score(following.values).argmax(dim=1, keepdim=True)  # (B, 1)
        reward = following.values.reward.gather(1, best).squeeze(1)
        cost = following.values.cost.amax(dim=1)
        return batch.rewards + batch.discounts * reward, batch.costs + batch.discounts * cost

    def actor_loss(self, observations: Tensor) -> Tensor:
        """-(Q_r - lambda Q_c) / (1 + lambda) at the perturbed action, scalar."""
        with torch.no_grad():
            sampled = self.vae.decode(observations, self._latents(len(observations)))
        values = self.values(self.critics(observations, self.actor(observations, sampled)))
        return -self.score(values).mean()

    def candidates(
        self,
        observations: Tensor,
        latents: Tensor,
        vae: ConditionalVae,
        actor: PerturbationActor,
        critics: EnsembleCritic,
    ) -> Candidates:
        """K actions per observation, and what the critics say of them.

        Args:
            observations: (B, O).
            latents: (B * K, 2A), those of one observation next to each other.
        """
        count = len(observations)
        repeated = observations.repeat_interleave(len(latents) // count, dim=0)  # (B * K, O)
        actions = actor(repeated, vae.decode(repeated, latents))  # (B * K, A)
        values = self.values(critics(repeated, actions))
        values = Values(values.reward.view(count, -1), values.cost.view(count, -1))
        return Candidates(actions.view(count, -1, actions.shape[-1]), values)

    def best(self, candidates: Candidates) -> Tensor:
        """The action (B, A) with the best score among each observation's candidates."""
        choice = self.score(candidates.values).argmax(dim=1)  # (B,)
        rows = choice.view(-1, 1, 1).expand(-1, 1, candidates.actions.shape[-1])
        return candidates.actions.gather(1, rows).squeeze(1)

    def values(self, predicted: Tensor) -> Values:
        """Twin critics (4, B) reduced to one value each, pessimistic for both."""
        reward, cost = predicted[REWARD_CRITICS], predicted[COST_CRITICS]
        weight = self.settings.minimum_weight
        return Values(weight * reward.amin(0) + (1.0 - weight) * reward.amax(0), cost.amax(0))

    def score(self, values: Values) -> Tensor:
        """The Lagrangian that the policy maximises, normalised so that a large lambda keeps its scale."""
        return (values.reward - self.multiplier * values.cost) / (1.0 + self.multiplier)

    def act(self, observations: Tensor) -> Tensor:
        """Actions (B, A) in [-1, 1] of the served policy, for normalised observations (B, O)."""
        latents = self.serving_latents.repeat(len(observations), 1)
        return self.best(self.candidates(observations, latents, self.vae, self.actor, self.critics))

    def descend(self, name: str, loss: Tensor) -> None:
        """One optimiser step of one network."""
        optimiser = self.optimisers[name]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    def update_targets(self) -> None:
        """Moves the target networks towards the online ones."""
        soft_update(self.critics_target, self.critics, self.settings.target_rate)
        soft_update(self.actor_target, self.actor, self.settings.target_rate)

    @torch.no_grad()
    def update_multiplier(self, replay: Replay) -> None:
        """Integral control of lambda on the cost value of initial states, clipped to [0, cap]: no wind-up.

        Initial states, because the limit is one on episodes; averaged over dataset states it can be
        unreachable (states from which no policy is safe), and lambda would climb for ever [ours].
        """
        rows = torch.randint(
            len(replay.initial_observations), (self.settings.initial_states,), generator=self.generator
        )
        latents = self._latents(len(rows) * self.settings.target_candidates)
        observations = replay.initial_observations[rows]
        candidates = self.candidates(observations, latents, self.vae, self.actor, self.critics)
        choice = self.score(candidates.values).argmax(dim=1, keepdim=True)
        cost = candidates.values.cost.gather(1, choice).mean()
        moved = self.multiplier + self.settings.multiplier_rate * (float(cost) - self.kappa)
        self.multiplier = min(max(moved, 0.0), self.settings.multiplier_cap)

    def _latents(self, count: int) -> Tensor:
        latents = torch.randn(count, self.vae.latent_size, generator=self.generator)
        return latents.clamp(-LATENT_CLIP, LATENT_CLIP)
