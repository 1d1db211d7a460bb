"""BEAR-Lag: bootstrapping error accumulation reduction (Kumar et al., 2019) with a Lagrangian cost constraint (OSRL).

The policy is a Gaussian that maximises the Lagrangian score of its actions, while the maximum mean discrepancy (MMD)
between them and those of a model of the behaviour stays at a threshold:

    min_pi  E[-(Q_r - lambda Q_c) / (1 + lambda)] + alpha (E[MMD(behaviour, pi)] - epsilon)

with alpha found by dual ascent. Where this differs from OSRL [ours]:

- the reward target is that of the next action with the best Lagrangian score; OSRL takes the largest reward value
  whatever it costs;
- the cost target is that of the costliest next action, as in OSRL, and wherever twin cost critics are reduced to one
  the larger counts (OSRL: the smaller in the actor, mostly the smaller in the target);
- the MMD compares actions in [-1, 1]; OSRL compares them before squashing, where full commands lie at infinity;
- truncated episodes bootstrap, terminated ones do not, for reward and cost alike (OSRL: for reward alone);
- lambda is capped, does not wind up, and is part of the checkpoint, as is alpha.
"""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from saferule_ros.learning.dual_weight import DualWeight
from saferule_ros.learning.learner import CRITICS, LagrangianLearner, Values, by_kind
from saferule_ros.learning.multiplier import Multiplier
from saferule_ros.learning.networks import ConditionalVae, EnsembleCritic, GaussianActor
from saferule_ros.learning.replay import Batch, Replay
from saferule_ros.learning.settings import BearLagSettings, Kernel

# Below the MMD's square root: keeps its slope finite where both sets are the same. Source: BEAR's code.
MMD_FLOOR = 1e-6


def mmd(ones: Tensor, others: Tensor, kernel: Kernel, width: float) -> Tensor:
    """Maximum mean discrepancy (B,) between two sets of actions for each of B observations (BEAR, equation 3).

    Args:
        ones, others: (N, B, A) and (M, B, A).
        kernel: exp(-d / (2 width)) with d the squared distance (gaussian) or the sum of differences (laplacian).
        width: sigma of that formula.
    """

    def similarity(left: Tensor, right: Tensor) -> Tensor:
        difference = left.unsqueeze(1) - right.unsqueeze(0)  # (N, M, B, A)
        distance = (difference.abs() if kernel == "laplacian" else difference.square()).sum(-1)
        # k - 1 in place of k: the ones cancel below, and beside them a wide kernel would lose its digits.
        return torch.expm1(-distance / (2.0 * width)).mean((0, 1))  # (B,)

    squared = similarity(ones, ones) - 2.0 * similarity(ones, others) + similarity(others, others)
    return (squared.clamp(min=0.0) + MMD_FLOOR).sqrt()


class BearLag(LagrangianLearner):
    """All that BEAR-Lag learns, and one gradient step of it; see Learner."""

    NAME = "bear_lag"
    actor: GaussianActor
    settings: BearLagSettings

    def build(self, observation_size: int, action_size: int) -> None:
        s = self.settings
        self.action_size = action_size
        self.critics = EnsembleCritic(CRITICS, observation_size, action_size, s.hidden)
        self.actor = GaussianActor(observation_size, action_size, s.hidden)
        self.vae = ConditionalVae(observation_size, action_size, s.vae_hidden)
        self.critics_target = copy.deepcopy(self.critics).requires_grad_(False)
        self.actor_target = copy.deepcopy(self.actor).requires_grad_(False)
        self.mmd_threshold = s.mmd_threshold
        self.closeness = DualWeight(s, self.device)  # alpha
        self.multiplier = Multiplier(s, self.device)  # lambda

    def targets(self) -> dict[str, nn.Module]:
        return {"critics_target": self.critics_target, "actor_target": self.actor_target}

    def constraint_weights(self) -> dict[str, Tensor]:
        return {"alpha": self.closeness.value, "multiplier": self.multiplier.value}

    @torch.no_grad()
    def critic_targets(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Of p next actions of the policy: the reward of the one with the best score, the cost of the costliest."""
        count = self.settings.target_candidates
        noise = self.noise(count, *batch.actions.shape)
        actions = self.actor_target.sample(batch.next_observations, noise)  # (p, B, A)
        repeated = batch.next_observations.repeat(count, 1)  # (p * B, O)
        predicted = self.critics_target(repeated, actions.flatten(0, 1)).unflatten(1, (count, -1))  # (4, p, B)
        following = self.soft_values(predicted)  # (p, B)
        best = self.score(following).argmax(dim=0, keepdim=True)  # (1, B)
        reward, cost = following.reward.gather(0, best).squeeze(0), following.cost.amax(0)  # (B,)
        return batch.rewards + batch.discounts * reward, batch.costs + batch.discounts * cost

    def soft_values(self, predicted: Tensor) -> Values:
        """Twin critics (4, ...) reduced to one value each: a soft minimum of reward (BEAR), the larger cost."""
        reward, cost = by_kind(predicted)
        weight = self.settings.minimum_weight
        return Values(weight * reward.amin(0) + (1.0 - weight) * reward.amax(0), cost.amax(0))

    def score(self, values: Values) -> Tensor:
        """The Lagrangian that the policy maximises, normalised so that a large lambda keeps its scale [ours]."""
        return (values.reward - self.multiplier.value * values.cost) / (1.0 + self.multiplier.value)

    def actor_loss(self, observations: Tensor) -> Tensor:
        """-(Q_r - lambda Q_c) / (1 + lambda) at one action of the policy, and the distance of several to behaviour."""
        s = self.settings
        count = len(observations)
        own = self.actor.sample(observations, self.noise(s.mmd_samples, count, self.action_size))  # (N, B, A)
        with torch.no_grad():
            repeated = observations.repeat(s.mmd_samples, 1)  # (N * B, O)
            behaviour = self.vae.decode(repeated, self.latents(len(repeated))).unflatten(0, (-1, count))  # (N, B, A)
        distance = mmd(behaviour, own, s.kernel, s.mmd_width).mean()
        score = self.score(self.values(self.critics(observations, own[0])))  # (B,)
        return -score.mean() + self.closeness.penalty(distance - self.mmd_threshold)

    def response(self, observations: Tensor, actions: Tensor) -> Tensor:
        return self.actor(observations)

    def bind(self, deviation: float) -> None:
        s = self.settings
        here = torch.zeros(1, 1, self.action_size)
        there = float(mmd(here, here + deviation, s.kernel, s.mmd_width))
        self.mmd_threshold = min(s.mmd_threshold, there)

    def update_weights(self) -> None:
        self.closeness.step()

    @torch.no_grad()
    def excess_cost(self, replay: Replay) -> Tensor:
        """Cost value of initial states under the policy, above kappa; why of these, see BCQ-Lag."""
        states = replay.sample_initial(self.settings.initial_states, self.generator)
        return self.values(self.critics(states, self.actor(states))).cost.mean().double() - self.kappa

    def policy(self) -> GaussianActor:
        return self.actor

    def state(self) -> dict[str, Any]:
        return {**super().state(), "alpha": self.closeness.state()}

    def restore_state(self, state: Mapping[str, Any]) -> None:
        super().restore_state(state)
        self.closeness.restore(state["alpha"])
