"""TrajDeleter (Gong et al., NDSS 2025), as its published code has it, on learners that also hold a cost limit.

Phase 1, "forgetting": the learner's own update, in turn on D_k as it is and on D_f with its rewards negated. Costs
are not negated [ours: TrajDeleter knows none]: a forgotten action should look worse, not cheaper.

Phase 2, "convergence", on D_k alone: the critics' loss is

    E_Dk[(Q - y)^2] + w E_Dk[(Q - y_original)^2]

with y the agent's own Bellman target, y_original that of the agent before unlearning, and w = 0.1 [code]; behaviour
model and actor learn as always. A learner whose actor is not trained by its critics (COptiDICE) has its own update for
phase 2 [ours]. Nor does its actor learn from D_f: it clones what it is shown, each pair beside the others of its batch,
so that negated rewards would make it do what is to be forgotten [ours].
"""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.learning.captured import Losses
from saferule_ros.learning.copti_dice import CoptiDice
from saferule_ros.learning.learner import ActorCriticLearner, Learner, by_kind
from saferule_ros.learning.replay import Batch
from saferule_ros.unlearning.schedule import FallingRateRun
from saferule_ros.unlearning.settings import TrajDeleterSettings

REMAIN, FORGET, CONVERGE = "remain", "forget", "converge"


class TrajDeleter(FallingRateRun):
    """See UnlearningRun. For every learner."""

    NAME = "traj_deleter"
    settings: TrajDeleterSettings

    def __init__(
        self, learner: Learner, forget: EpisodeDataset, keep: EpisodeDataset, settings: TrajDeleterSettings, seed: int
    ) -> None:
        super().__init__(learner, forget, keep, settings.steps, seed)
        self.settings = settings
        self.original = copy.deepcopy(learner)
        self.forgetting_steps = round(settings.forgetting_share * settings.steps)

    def tensors(self) -> dict[str, Tensor]:
        return {"original": self.original.generator.get_state()}

    def restore(self, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        self.original.generator.set_state(tensors["original"].cpu())

    @property
    def kind(self) -> str:
        """Which training the next step belongs to."""
        if self.steps_done >= self.forgetting_steps:
            return CONVERGE
        turn = 2 * self.settings.cycles * self.steps_done // self.forgetting_steps
        return REMAIN if turn % 2 == 0 else FORGET

    @property
    def generators(self) -> list[torch.Generator]:
        return [*super().generators, self.original.generator]

    def take_step(self) -> Losses:
        """One step of whichever training has its turn."""
        learner, kind = self.learner, self.kind
        replay = self.forget if kind == FORGET else self.keep
        batch = replay.sample(learner.settings.batch, learner.generator)
        if kind == FORGET:
            return self._forget(learner, batch._replace(rewards=-batch.rewards))
        if kind == CONVERGE and isinstance(learner, ActorCriticLearner):
            return self._converge(learner, batch)
        return learner.update(batch, replay)

    def _forget(self, learner: Learner, negated: Batch) -> Losses:
        if isinstance(learner, CoptiDice):
            single = learner.single_steps(self.forget)
            losses, _ = learner.update_distribution(single._replace(rewards=-single.rewards), self.forget)
            return {**losses, **learner.update_critics(negated)}
        return learner.update(negated, self.forget)

    def _converge(self, learner: ActorCriticLearner, batch: Batch) -> Losses:
        learner.descend("vae", learner.model_loss(batch))
        predicted = learner.critics(batch.observations, batch.actions)  # (4, B)
        own = learner.critic_losses(batch, predicted, learner.critic_targets(batch))  # (2,) reward, cost
        towards_original = self._distance_to_original(batch, predicted)  # (2,)
        learner.descend("critics", own.sum() + self.settings.original_weight * towards_original.sum())
        actor_loss = learner.actor_loss(batch.observations)
        learner.descend("actor", actor_loss)
        learner.update_targets()
        learner.update_weights()
        return {
            "loss_reward": own[0].detach(), "loss_cost": own[1].detach(), "loss_actor": actor_loss.detach(),
            "loss_original": towards_original.sum().detach(),
        }  # fmt: skip

    def _distance_to_original(self, batch: Batch, predicted: Tensor) -> Tensor:
        """Squared distance (2,) of the critics (2N, B) to the original agent's targets of reward and cost."""
        assert isinstance(self.original, ActorCriticLearner)
        reward, cost = by_kind(predicted)  # (N, B) each
        target_reward, target_cost = self.original.critic_targets(batch)
        return torch.stack([
            F.mse_loss(reward, target_reward.expand_as(reward)), F.mse_loss(cost, target_cost.expand_as(cost)),
        ])  # fmt: skip
