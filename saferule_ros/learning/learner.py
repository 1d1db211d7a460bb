"""What every learner is: networks and their optimisers, one seeded generator, one gradient step, a policy to serve.

An algorithm is one file that derives from `Learner`, from `CriticLearner` where it has critics, from
`ActorCriticLearner` where they lead its actor, or from `LagrangianLearner` where lambda holds its limit;
`algorithms.py` lists them.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.learning.adam import Adam
from saferule_ros.learning.multiplier import Multiplier
from saferule_ros.learning.networks import ConditionalVae, EnsembleCritic, soft_update
from saferule_ros.learning.replay import Batch, Replay, Units
from saferule_ros.learning.settings import BehaviourModelSettings, CommonSettings, TaskLimits

# Twin critics for reward (members 0, 1) and cost (members 2, 3).
CRITICS = 4

TARGET = "_target"  # end of a target network's name

# BCQ clips latents to this range when it samples, to stay with likely behaviour.
LATENT_CLIP = 0.5


class Values(NamedTuple):
    """What the critics say about state-action pairs, one number each, of any shape."""

    reward: Tensor
    cost: Tensor


def by_kind(predicted: Tensor) -> tuple[Tensor, Tensor]:
    """Critics' values (2N, ...) as those of the reward critics and of the cost critics, (N, ...) each.

    All of them share one batched product: a step is bound by the number of kernel calls, not by arithmetic.
    """
    reward, cost = predicted.chunk(2)
    return reward, cost


class Learner(ABC):
    """All that an algorithm learns, and one gradient step of it.

    Args:
        units: how raw robot units become learner units.
        limits: cost limit and horizon of the task.
        settings: of this algorithm.
        seed: of the networks' initial weights and every later draw.
        device: where everything is computed; the same seed draws other numbers on another kind of device.
    """

    NAME: ClassVar[str]

    def __init__(
        self, units: Units, limits: TaskLimits, settings: Any, seed: int, device: torch.device | str = "cpu"
    ) -> None:
        self.units, self.limits, self.settings = units.to(device), limits, settings
        self.seed, self.steps_done = seed, 0
        self.device = torch.device(device)
        self.generator = torch.Generator(self.device).manual_seed(seed)
        with torch.random.fork_rng(devices=[]):  # nn modules initialise from the global generator
            torch.manual_seed(seed)
            self.build(len(units.observation_mean), len(units.action_low))
        for network in self.networks().values():
            network.to(self.device)
        self.optimisers = {
            name: Adam(module.parameters(), self.learning_rate(name)) for name, module in self.trained().items()
        }

    settings: CommonSettings  # a narrower one in each algorithm

    @abstractmethod
    def build(self, observation_size: int, action_size: int) -> None:
        """Makes the networks."""

    @abstractmethod
    def trained(self) -> dict[str, nn.Module]:
        """The networks that optimisers move, by name."""

    @abstractmethod
    def targets(self) -> dict[str, nn.Module]:
        """The networks that follow trained ones slowly, by name."""

    @abstractmethod
    def update(self, batch: Batch, replay: Replay) -> Mapping[str, Tensor]:
        """One gradient step on everything. Returns the losses, each a scalar without gradient.

        Within a `phase` every call does the same to the same tensors, and waits for none of them: see captured.py.
        Whoever calls it counts `steps_done`.
        """

    @abstractmethod
    def policy(self) -> nn.Module:
        """The policy as it is now, deterministic: normalised observations (B, O) to actions (B, A) in [-1, 1].

        It shares the learner's networks, and holds nothing else that changes.
        """

    @property
    def phase(self) -> str:
        """Of learning, that the next step belongs to, where an algorithm has several: their steps cost differently."""
        return "learning"

    def learning_rate(self, name: str) -> float:
        """Of the optimiser of a trained network."""
        return self.settings.learning_rate

    def constants(self) -> dict[str, Tensor]:
        """Tensors drawn once and kept for good, by name: part of the checkpoint."""
        return {}

    def restore_constants(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes `constants()` of a checkpoint."""
        assert not tensors, f"{self.NAME} keeps no constants, the checkpoint has {list(tensors)}"

    def state(self) -> dict[str, Any]:
        """What else changes while learning, as JSON: part of the checkpoint."""
        return {}

    def restore_state(self, state: Mapping[str, Any]) -> None:
        """Takes `state()` of a checkpoint."""
        assert not state, f"{self.NAME} keeps no state, the checkpoint has {list(state)}"

    def networks(self) -> dict[str, nn.Module]:
        """All networks, by name."""
        return self.trained() | self.targets()

    @property
    def kappa(self) -> float:
        """The cost limit as a cost value [learner units]."""
        return self.limits.cost_value_limit(self.settings.discount) * self.units.cost_scale

    def replay(self, dataset: EpisodeDataset, return_steps: int | None = None) -> Replay:
        """A dataset as this learner samples it; with another n if that is given."""
        return Replay(dataset, self.units, self.settings.discount, return_steps or self.settings.return_steps)

    @torch.no_grad()
    def act(self, observations: Tensor) -> Tensor:
        """Actions (B, A) in [-1, 1] of the served policy, for normalised observations (B, O)."""
        return self.policy()(observations)

    def descend(self, name: str, loss: Tensor) -> None:
        """One optimiser step of one network."""
        optimiser = self.optimisers[name]
        optimiser.zero_grad()
        # Only this network's gradients: an actor's loss would otherwise compute those of the critics' weights as well.
        loss.backward(inputs=list(self.trained()[name].parameters()))
        optimiser.step()


class CriticLearner(Learner):
    """A learner with critics of reward and as many of cost: what the certificate judges."""

    critics: EnsembleCritic  # 2N members: N of reward, then N of cost
    critics_target: EnsembleCritic

    @abstractmethod
    def critic_targets(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """y_r and y_c, each (B,), without gradient."""

    def critic_losses(self, batch: Batch, predicted: Tensor, targets: tuple[Tensor, Tensor]) -> Tensor:
        """Losses (2,) of the reward and the cost critics.

        Args:
            predicted: (2N, B), the critics at the batch's pairs.
            targets: y_r and y_c, (B,) each.
        """
        reward, cost = by_kind(predicted)  # (N, B) each
        target_reward, target_cost = targets
        return torch.stack([
            F.mse_loss(reward, target_reward.expand_as(reward)), F.mse_loss(cost, target_cost.expand_as(cost)),
        ])  # fmt: skip

    @abstractmethod
    def response(self, observations: Tensor, actions: Tensor) -> Tensor:
        """What the actor does (B, A) at these observations, where the data has these actions; with gradient."""

    def update_targets(self) -> None:
        """Moves each target network, called NAME_target, a little towards the one called NAME."""
        trained = self.trained()
        for name, target in self.targets().items():
            soft_update(target, trained[name.removesuffix(TARGET)], self.settings.target_rate)

    def update_weights(self) -> None:
        """Moves the weights of constraints that are part of the last losses, if there are any."""

    def values(self, predicted: Tensor) -> Values:
        """Critics (2N, ...) reduced to one value each, pessimistic for both: a danger is not averaged away."""
        reward, cost = by_kind(predicted)
        return Values(reward.amin(0), cost.amax(0))

    def hold_multiplier(self, value: float) -> None:
        """Holds lambda at a value, if the algorithm has one."""

    def restart_multiplier(self, above: float) -> None:
        """Sets lambda, if the algorithm has one, to what it began with and so much more, within its bounds."""

    def noise(self, *shape: int) -> Tensor:
        """Standard normal numbers."""
        return torch.randn(shape, generator=self.generator, device=self.device)


class ActorCriticLearner(CriticLearner):
    """A learner whose critics lead its actor, with a model of the behaviour (network "vae"): see Safe-RULE."""

    actor: nn.Module
    vae: ConditionalVae
    settings: BehaviourModelSettings

    def trained(self) -> dict[str, nn.Module]:
        return {"critics": self.critics, "actor": self.actor, "vae": self.vae}

    def update(self, batch: Batch, replay: Replay) -> Mapping[str, Tensor]:
        model_loss = self.model_loss(batch)
        self.descend("vae", model_loss)
        predicted = self.critics(batch.observations, batch.actions)
        critic_losses = self.critic_losses(batch, predicted, self.critic_targets(batch))
        self.descend("critics", critic_losses.sum())
        actor_loss = self.actor_loss(batch.observations)
        self.descend("actor", actor_loss)
        self.update_targets()
        self.update_weights()
        self.adapt(replay)
        return {
            "loss_reward": critic_losses[0].detach(), "loss_cost": critic_losses[1].detach(),
            "loss_actor": actor_loss.detach(), "loss_vae": model_loss.detach(), **self.constraint_weights(),
        }  # fmt: skip

    def adapt(self, replay: Replay) -> None:
        """Moves, after a step of learning, what follows the data as a whole. A patch does not."""

    @abstractmethod
    def constraint_weights(self) -> dict[str, Tensor]:
        """The weights of its constraints as they are now, by name."""

    def model_loss(self, batch: Batch) -> Tensor:
        """Loss of the behaviour model, scalar."""
        noise = self.noise(len(batch.actions), self.vae.latent_size)
        return self.vae.loss(batch.observations, batch.actions, noise, self.settings.divergence_weight)

    @abstractmethod
    def actor_loss(self, observations: Tensor) -> Tensor:
        """Loss of the network "actor" at observations (B, O), scalar."""

    def latents(self, count: int) -> Tensor:
        """Latents (count, 2A) of likely behaviour."""
        return self.noise(count, self.vae.latent_size).clamp(-LATENT_CLIP, LATENT_CLIP)


class LagrangianLearner(ActorCriticLearner):
    """One that holds the cost limit with a multiplier lambda, which it makes in `build`."""

    multiplier: Multiplier
    deviation: float = math.inf  # how far from the behaviour model a patch lets the policy go (RMS per action)

    @abstractmethod
    def excess_cost(self, replay: Replay) -> Tensor:
        """Cost value of the policy above kappa, a scalar in double precision."""

    def constrain(self, deviation: float) -> None:
        """Lets the policy differ from the behaviour model by so much at most (RMS per action), and by no more than its
        settings say; infinity: by as much as these say. Its settings, with which another may learn, stay as they are.
        """
        self.deviation = deviation
        self.bind(deviation)

    @abstractmethod
    def bind(self, deviation: float) -> None:
        """Does that."""

    def state(self) -> dict[str, Any]:
        return {
            "multiplier": self.multiplier.state(),
            "deviation": self.deviation if math.isfinite(self.deviation) else None,
        }

    def restore_state(self, state: Mapping[str, Any]) -> None:
        self.multiplier.restore(state["multiplier"])
        deviation = state.get("deviation")  # checkpoints of before have a constraint in their settings
        self.constrain(math.inf if deviation is None else deviation)

    def adapt(self, replay: Replay) -> None:
        if self.multiplier.adapts:
            self.multiplier.update(self.excess_cost(replay))

    def hold_multiplier(self, value: float) -> None:
        self.multiplier.hold(value)

    def restart_multiplier(self, above: float) -> None:
        self.multiplier.restart(above)
