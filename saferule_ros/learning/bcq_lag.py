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

import torch
from torch import Tensor, nn

from saferule_ros.learning.learner import LagrangianLearner, Values
from saferule_ros.learning.multiplier import Multiplier
from saferule_ros.learning.networks import ConditionalVae, EnsembleCritic, PerturbationActor
from saferule_ros.learning.proposals import ChoosingPolicy, pessimistic
from saferule_ros.learning.replay import Batch, Replay
from saferule_ros.learning.settings import BcqLagSettings, ChoiceSettings


class BcqPolicy(ChoosingPolicy):
    """Of K actions that the behaviour model proposes, each moved a little: the best; see ChoosingPolicy.

    Args:
        latents: (K, 2A), the draws.
    """

    def __init__(
        self, vae: ConditionalVae, actor: PerturbationActor, critics: EnsembleCritic, latents: Tensor,
        multiplier: Tensor | float, settings: ChoiceSettings,
    ) -> None:  # fmt: skip
        super().__init__(critics, latents, multiplier, settings)
        self.vae, self.actor = vae, actor

    def propose(self, observations: Tensor, draws: Tensor) -> Tensor:
        return self.actor(observations, self.vae.decode(observations, draws))


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
        following = policy.target(policy.candidates(batch.next_observations, latents))
        return batch.rewards + batch.discounts * following.reward, batch.costs + batch.discounts * following.cost

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
        return candidates.values.cost.gather(1, policy.choice(candidates)).mean().double() - self.kappa

    def values(self, predicted: Tensor) -> Values:
        return pessimistic(predicted, self.settings)

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
        return BcqPolicy(self.vae, actor, critics, self.serving_latents, multiplier, self.settings)
