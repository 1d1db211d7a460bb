"""BCQ-Lag: batch-constrained Q-learning (Fujimoto et al., 2019) with a Lagrangian cost constraint (OSRL).

The policy draws actions from a model of the behaviour, moves each a little, and takes the one with the best
Lagrangian score Q_r - lambda * Q_c. Where this differs from OSRL [ours]:

- the reward target is that of the next action the policy would take, the one with the best Lagrangian score; OSRL
  takes the largest reward value whatever it costs;
- the cost target is that of the costliest next action that the behaviour model proposes, as in OSRL, but with the
  larger of the twin critics (OSRL: the smaller). Taking the chosen action's cost instead looks exact and is
  optimistic: the choice favours actions whose cost is underestimated. It left clean policies far over the limit;
- four critics of each kind in place of two. With twins, which of some states is called safe hung on the seed: on
  SafetyPointCircle1, 15 % poison, patched policies had cost 141 and 30 (seeds 3, 2); with four, 34 and 19;
- truncated episodes bootstrap, terminated ones do not, for reward and cost alike;
- lambda is capped, does not wind up, and is part of the checkpoint; the actor's loss is divided by 1 + lambda.
"""

import copy
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from saferule_ros.learning.learner import LagrangianLearner, Values, by_kind
from saferule_ros.learning.multiplier import Multiplier
from saferule_ros.learning.networks import ConditionalVae, EnsembleCritic, PerturbationActor
from saferule_ros.learning.replay import Batch, Replay
from saferule_ros.learning.settings import BcqLagSettings

# Keeps the slope of the standard deviation finite where all critics agree; itself far below their residuals.
VARIANCE_FLOOR = 1e-12


class Candidates(NamedTuple):
    """K actions for each of B observations."""

    actions: Tensor  # (B, K, A) in [-1, 1]
    values: Values  # (B, K)


class Pessimism(NamedTuple):
    """By how many standard deviations of the critics a reward is put below their mean, and a cost above it."""

    reward: float
    cost: float


class BcqPolicy(nn.Module):
    """Of K actions that the behaviour model proposes, each moved a little: the one with the best Lagrangian score.

    Args:
        latents: (K, 2A), one for each proposal, the same for every observation: no randomness on the robot [ours].
        multiplier: lambda; a scalar tensor where it changes while the policy is in use.
        pessimism: see there.
    """

    latents: Tensor

    def __init__(
        self, vae: ConditionalVae, actor: PerturbationActor, critics: EnsembleCritic, latents: Tensor,
        multiplier: Tensor | float, pessimism: Pessimism,
    ) -> None:  # fmt: skip
        super().__init__()
        self.vae, self.actor, self.critics = vae, actor, critics
        self.register_buffer("latents", latents)
        self.multiplier, self.pessimism = multiplier, pessimism

    def forward(self, observations: Tensor) -> Tensor:
        """Actions (B, A) in [-1, 1] for normalised observations (B, O)."""
        return self.best(self.candidates(observations, self.latents.repeat(len(observations), 1)))

    def candidates(self, observations: Tensor, latents: Tensor) -> Candidates:
        """K actions per observation, and what the critics say of them.

        Args:
            observations: (B, O).
            latents: (B * K, 2A), those of one observation next to each other.
        """
        count = len(observations)
        repeated = observations.repeat_interleave(len(latents) // count, dim=0)  # (B * K, O)
        actions = self.actor(repeated, self.vae.decode(repeated, latents))  # (B * K, A)
        values = self.values(self.critics(repeated, actions))
        values = Values(values.reward.view(count, -1), values.cost.view(count, -1))
        return Candidates(actions.view(count, -1, actions.shape[-1]), values)

    def best(self, candidates: Candidates) -> Tensor:
        """The action (B, A) with the best score among each observation's candidates."""
        choice = self.score(candidates.values).argmax(dim=1)  # (B,)
        rows = choice.view(-1, 1, 1).expand(-1, 1, candidates.actions.shape[-1])
        return candidates.actions.gather(1, rows).squeeze(1)

    def values(self, predicted: Tensor) -> Values:
        """Critics (2N, B) reduced to one value each, pessimistic for both.

        With twins and the default pessimism, sqrt(2)/4 and sqrt(2)/2, this is BCQ's soft minimum of rewards (0.75 of
        the smaller, 0.25 of the larger) and the larger cost; in standard deviations it serves more critics [ours].
        """
        (reward, reward_spread), (cost, cost_spread) = map(mean_and_spread, by_kind(predicted))
        return Values(reward - self.pessimism.reward * reward_spread, cost + self.pessimism.cost * cost_spread)

    def score(self, values: Values) -> Tensor:
        """The Lagrangian that the policy maximises, normalised so that a large lambda keeps its scale."""
        return (values.reward - self.multiplier * values.cost) / (1.0 + self.multiplier)


class BcqLag(LagrangianLearner):
    """All that BCQ-Lag learns, and one gradient step of it; see Learner."""

    NAME = "bcq_lag"
    actor: PerturbationActor
    settings: BcqLagSettings

    def build(self, observation_size: int, action_size: int) -> None:
        s = self.settings
        self.critics = EnsembleCritic(2 * s.critics, observation_size, action_size, s.hidden)
        self.actor = PerturbationActor(observation_size, action_size, s.hidden, s.reach)
        self.vae = ConditionalVae(observation_size, action_size, s.vae_hidden)
        self.critics_target = copy.deepcopy(self.critics).requires_grad_(False)
        self.actor_target = copy.deepcopy(self.actor).requires_grad_(False)
        self.serving_latents = self.latents(s.serving_candidates)  # (K, 2A), fixed for good
        self.multiplier = Multiplier(s, self.device)

    def targets(self) -> dict[str, nn.Module]:
        return {"critics_target": self.critics_target, "actor_target": self.actor_target}

    def constraint_weights(self) -> dict[str, Tensor]:
        return {"multiplier": self.multiplier.value}

    @torch.no_grad()
    def critic_targets(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Reward of the best next action, cost of the worst that behaviour might take."""
        policy = self._policy(self.actor_target, self.critics_target, self.multiplier.value)
        latents = self.latents(len(batch.rewards) * self.settings.target_candidates)
        following = policy.candidates(batch.next_observations, latents)
        best = policy.score(following.values).argmax(dim=1, keepdim=True)  # (B, 1)
        reward = following.values.reward.gather(1, best).squeeze(1)
        cost = following.values.cost.amax(dim=1)
        return batch.rewards + batch.discounts * reward, batch.costs + batch.discounts * cost

    def actor_loss(self, observations: Tensor) -> Tensor:
        """-(Q_r - lambda Q_c) / (1 + lambda) at the perturbed action."""
        with torch.no_grad():
            sampled = self.vae.decode(observations, self.latents(len(observations)))
        values = self.values(self.critics(observations, self.actor(observations, sampled)))
        return -self._current().score(values).mean()

    def response(self, observations: Tensor, actions: Tensor) -> Tensor:
        return self.actor(observations, actions)

    def bind(self, deviation: float) -> None:
        reach = min(self.settings.reach, deviation / 2.0)  # the choice among the model's proposals is the other half
        self.actor.reach = self.actor_target.reach = reach

    @torch.no_grad()
    def excess_cost(self, replay: Replay) -> Tensor:
        """Cost value of initial states under the policy, above kappa.

        Initial states, because the limit is one on episodes; averaged over dataset states it can be
        unreachable (states from which no policy is safe), and lambda would climb for ever [ours].
        """
        states = replay.sample_initial(self.settings.initial_states, self.generator)
        policy = self._current()
        latents = self.latents(len(states) * self.settings.target_candidates)
        candidates = policy.candidates(states, latents)
        choice = policy.score(candidates.values).argmax(dim=1, keepdim=True)
        return candidates.values.cost.gather(1, choice).mean().double() - self.kappa

    def values(self, predicted: Tensor) -> Values:
        return self._current().values(predicted)

    def policy(self) -> BcqPolicy:
        return self._policy(self.actor, self.critics, float(self.multiplier.value))

    def constants(self) -> dict[str, Tensor]:
        return {"serving_latents": self.serving_latents}

    def restore_constants(self, tensors: Mapping[str, Tensor]) -> None:
        self.serving_latents = tensors["serving_latents"].to(self.device)

    def _current(self) -> BcqPolicy:
        """The policy, whose lambda goes on changing with the learner's."""
        return self._policy(self.actor, self.critics, self.multiplier.value)

    def _policy(self, actor: PerturbationActor, critics: EnsembleCritic, multiplier: Tensor | float) -> BcqPolicy:
        pessimism = Pessimism(self.settings.reward_pessimism, self.settings.cost_pessimism)
        return BcqPolicy(self.vae, actor, critics, self.serving_latents, multiplier, pessimism)


def mean_and_spread(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and sample standard deviation over the first dimension."""
    mean = values.mean(0)
    variance = (values - mean).square().sum(0) / (len(values) - 1)
    return mean, (variance + VARIANCE_FLOOR).sqrt()
