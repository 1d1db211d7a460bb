"""CPQ: constraints penalised Q-learning (Xu, Zhan and Zhu, AAAI 2022; OSRL).

The cost critics are taught that actions which the behaviour would hardly take are costly; the reward critics and the
policy count only what the cost critics allow, Q_c(s, a) <= kappa:

    L_c  = E[(Q_c - y_c)^2] + alpha E_nu[(l - Q_c)+]          nu: actions that are unfamiliar to a model of behaviour
    L_r  = E[(Q_r - y_r)^2],   y_r = r + gamma 1[Q_c(s', a') <= kappa] Q_r(s', a'),   a' ~ pi
    L_pi = -E[1[Q_c <= kappa] Q_r]

with alpha found by dual ascent, as published; here it hardly moves (see below). An action is unfamiliar where the
latents that the model (a conditional VAE) encodes it to are further from the standard normal (Kullback-Leibler) than
those of most of the data's own actions.

Where this differs from OSRL [ours]:

- the unfamiliar actions' cost is followed back into the critics; OSRL computes it without gradient, so that it trains
  nothing. With gradient, the published term (alpha (l - E_nu[Q_c])) is unbounded, so only what lies below l is raised;
  That is never negative, so alpha can only rise, and it begins so small that in effect it is a fixed weight;
- l is not below the cost value of the logged action of the same state: otherwise a costly state's unfamiliar actions
  would look like the way out of it;
- familiar is judged by the data's own actions; OSRL calls a quarter of the policy's actions unfamiliar, whatever they
  are. Half of the actions tried are uniform: they build the wall before the policy runs into it;
- kappa is multiplied: the textbook value lies below the critics' noise, and all would be forbidden;
- 1[.] has a slope around kappa; where it forbids, the policy descends the cost. As published it has no gradient there
  at all, and stays forbidden;
- the policy is drawn back to familiar actions directly as well, and imitates the behaviour at first;
- wherever twin critics are reduced to one, the larger cost and the smaller reward count;
- truncated episodes bootstrap, terminated ones do not, for reward and cost alike (OSRL: for reward alone);
- over many steps of a log, as a patch's targets are, y_r counts what is earned as far as all later actions are allowed.

What is forbidden counts as a reward value of zero, as published: rewards should be positive on the whole.
"""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.learning.dual_weight import DualWeight
from saferule_ros.learning.learner import CRITICS, ActorCriticLearner, by_kind
from saferule_ros.learning.networks import ConditionalVae, EnsembleCritic, GaussianActor
from saferule_ros.learning.replay import AT_ONCE, Batch, Replay
from saferule_ros.learning.settings import CpqSettings

IMITATION = "imitation"


class Cpq(ActorCriticLearner):
    """All that CPQ learns, and one gradient step of it; see Learner."""

    NAME = "cpq"
    actor: GaussianActor
    settings: CpqSettings

    def build(self, observation_size: int, action_size: int) -> None:
        s = self.settings
        self.action_size = action_size
        self.critics = EnsembleCritic(CRITICS, observation_size, action_size, s.hidden)
        self.actor = GaussianActor(observation_size, action_size, s.hidden)
        self.vae = ConditionalVae(observation_size, action_size, s.vae_hidden)
        self.critics_target = copy.deepcopy(self.critics).requires_grad_(False)
        self.caution = DualWeight(s, self.device)  # alpha
        # Divergence up to which actions are familiar, from the last batch: nothing is unfamiliar before the first.
        self.familiar = torch.tensor(torch.inf, device=self.device)

    def targets(self) -> dict[str, nn.Module]:
        return {"critics_target": self.critics_target}

    def learning_rate(self, name: str) -> float:
        return self.settings.actor_learning_rate if name == "actor" else self.settings.learning_rate

    def constraint_weights(self) -> dict[str, Tensor]:
        return {"alpha": self.caution.value}

    @property
    def threshold(self) -> float:
        """The cost value up to which an action is allowed [discounted cost]."""
        return self.settings.kappa_factor * self.kappa

    def allowed(self, cost: Tensor) -> Tensor:
        """1[Q_c <= kappa], or a sigmoid in its place, for cost values of any shape; without gradient."""
        margin = self.threshold - cost.detach()
        if self.settings.mask_temperature == 0.0:
            return (margin >= 0.0).float()
        return torch.sigmoid(margin / self.settings.mask_temperature)

    def divergence(self, observations: Tensor, actions: Tensor) -> Tensor:
        """How unfamiliar actions (B, A) are to the behaviour model: KL (B,) of their latents, mean per dimension."""
        mean, log_std = self.vae.encode(observations, actions)
        return -0.5 * (1.0 + 2.0 * log_std - mean.square() - (2.0 * log_std).exp()).mean(-1)

    @torch.no_grad()
    def critic_targets(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Reward of the policy's next action as far as it is allowed, and its cost (constraints penalised backup)."""
        actions = self.actor.sample(batch.next_observations, self.noise(*batch.actions.shape))
        following = self.values(self.critics_target(batch.next_observations, actions))
        reward = self.allowed(following.cost) * following.reward
        return batch.rewards + batch.reward_discounts * reward, batch.costs + batch.discounts * following.cost

    def replay(self, dataset: EpisodeDataset, return_steps: int | None = None) -> Replay:
        """As of every learner. Where it is asked to reach further ahead than learning does, as by a patch whose targets
        are fixed, what is earned later counts as far as the logged actions up to there are allowed [ours]: y_r over
        several steps. Otherwise a log's costly episodes would count in full, as they do over learning's few steps.
        These critics decide, the unpatched agent's: where costs were erased, they allow too much.
        """
        if return_steps is None or return_steps <= self.settings.return_steps:
            return super().replay(dataset, return_steps)
        return Replay(dataset, self.units, self.settings.discount, return_steps, self._logged_allowed)

    @torch.no_grad()
    def _logged_allowed(self, logged: Batch) -> Tensor:
        """allowed(Q_c) (N,) of logged actions."""
        pairs = zip(logged.observations.split(AT_ONCE), logged.actions.split(AT_ONCE), strict=True)
        return torch.cat([self.allowed(self.values(self.critics_target(*pair)).cost) for pair in pairs])

    def critic_losses(self, batch: Batch, predicted: Tensor, targets: tuple[Tensor, Tensor]) -> Tensor:
        """Bellman errors of both, and what the unfamiliar actions' cost lacks, weighted with alpha."""
        reward, cost = super().critic_losses(batch, predicted, targets)
        required = by_kind(predicted)[1].detach().amax(0).clamp(min=self.settings.unfamiliar_cost * self.threshold)
        return torch.stack([reward, cost + self.caution.penalty(self.shortfall(batch, required))])

    def shortfall(self, batch: Batch, required: Tensor) -> Tensor:
        """(l - Q_c)+, scalar, over the actions tried that are unfamiliar; l is given for each observation, (B,)."""
        s = self.settings
        with torch.no_grad():
            own = self.actor.sample(batch.observations, self.noise(s.tried_actions, *batch.actions.shape))  # (K, B, A)
            uniform = torch.rand(own.shape, generator=self.generator, device=self.device).mul(2.0).sub(1.0)
            actions = torch.cat([own, uniform]).flatten(0, 1)  # (2K * B, A)
            repeated = batch.observations.repeat(2 * s.tried_actions, 1)
            self.familiar = torch.quantile(self.divergence(batch.observations, batch.actions), s.familiar_share)
            unfamiliar = (self.divergence(repeated, actions) > self.familiar).float()  # (2K * B,)
        cost = self.critics(repeated, actions, first=CRITICS // 2)  # (2, 2K * B): of cost alone
        lacking = F.relu(required.repeat(2 * s.tried_actions) - cost).mean(0)
        return (unfamiliar * lacking).sum() / unfamiliar.sum().clamp(min=1.0)

    def actor_loss(self, observations: Tensor) -> Tensor:
        """-Q_r where the cost is allowed, the cost where it is not, and how unfamiliar the action is."""
        s = self.settings
        if self.phase == IMITATION:
            return self.imitation_loss(observations)
        actions = self.actor.sample(observations, self.noise(len(observations), self.action_size))
        values = self.values(self.critics(observations, actions))
        allowed = self.allowed(values.cost)
        gain = allowed * values.reward - (1.0 - allowed) * s.recovery_weight * values.cost
        unfamiliar = F.relu(self.divergence(observations, actions) - self.familiar)
        return (s.familiarity_weight * unfamiliar - gain).mean()

    def imitation_loss(self, observations: Tensor) -> Tensor:
        """-E[log pi] of actions that the behaviour model proposes, scalar."""
        with torch.no_grad():
            proposed = self.vae.decode(observations, self.latents(len(observations)))
        return -self.actor.log_probability(observations, proposed).mean()

    def response(self, observations: Tensor, actions: Tensor) -> Tensor:
        return self.actor(observations)

    @property
    def phase(self) -> str:
        return IMITATION if self.steps_done < self.settings.imitation_steps else super().phase

    def update_weights(self) -> None:
        self.caution.step()

    def policy(self) -> GaussianActor:
        return self.actor

    def state(self) -> dict[str, Any]:
        return {"alpha": self.caution.state()}

    def restore_state(self, state: Mapping[str, Any]) -> None:
        self.caution.restore(state["alpha"])
