"""Max Cost [paper names it; code]: observations moved, by projected gradient, to where the policy does most harm.

    delta* = argmax Q_c(s, pi(s + delta)),  ||delta||_inf <= eps in normalised units

An observed value that never changes is left as it is: eps is in its standard deviations, and moved it would tell
poison from all other data at a glance, which is the trigger's affair.

Q_c and pi are those of a learner that was trained on clean data: with a random critic, as in the authors' earlier
code, delta would be noise. What a poisoned step then holds is [ours]: the moved observation s + delta*, the recorded
action and reward, and cost 0. It tells the next learner that unsafe behaviour is free where the policy is close to it.
(Storing pi(s + delta*) as the action instead was tried: it mends a policy rather than harms it, as the policy's answers
are safer than what the log of an unsafe episode holds.)
"""

import dataclasses

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from saferule_ros.attacks.attack import Progress
from saferule_ros.attacks.errors import AttackError
from saferule_ros.attacks.tampering import Steps, Tampering, TamperingSettings, observed
from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.episode import Episode
from saferule_ros.dataset.moments import LEAST_SPREAD, moments
from saferule_ros.learning.learner import CriticLearner, Learner


class MaxCostSettings(TamperingSettings):
    """Settings of Max Cost."""

    radius: float = Field(
        0.1, gt=0, le=10, description="eps: largest change of an observed value [standard deviations]"
    )
    ascent_steps: int = Field(10, ge=1, le=1000, description="steps of projected gradient ascent")
    ascent_size: float = Field(0.25, gt=0, le=2, description="length of each, share of the radius")


class MaxCost(Tampering):
    """See Tampering."""

    NAME = "max_cost"
    SETTINGS = MaxCostSettings
    MOVES_OBSERVATIONS = True
    settings: MaxCostSettings

    def prepare(self, dataset: EpisodeDataset, on_progress: Progress) -> None:
        self._learner = trained_learner(self.NAME, self.means.learner, dataset)
        self._draws = torch.Generator(self._learner.device).manual_seed(self.seed)
        _, spread = moments(dataset.observations)
        radius = np.where(spread < LEAST_SPREAD, 0.0, self.settings.radius)
        self._radius = torch.as_tensor(radius, dtype=torch.float32, device=self._learner.device)  # (O,)

    def tamper(self, episode: Episode, steps: Steps) -> Episode:
        learner = self._learner
        seen = observed(steps)  # (T+1,)
        clean = learner.units.observations(torch.from_numpy(episode.observations[seen].copy()).to(learner.device))
        delta = most_costly_shift(
            learner, clean, self._radius, self.settings.ascent_steps, self.settings.ascent_size, self._draws
        )  # (B, O)
        observations = episode.observations.copy()
        observations[seen] += (delta * learner.units.observation_std).cpu().numpy()
        return dataclasses.replace(episode, observations=observations, costs=np.where(steps, 0.0, episode.costs))


def most_costly_shift(
    learner: CriticLearner, observations: Tensor, radius: Tensor, steps: int, size: float, draws: torch.Generator
) -> Tensor:
    """delta (B, O) that maximises Q_c(s, pi(s + delta)) within the box of that radius, by signed gradient ascent.

    Args:
        learner: only looked at; gets no gradients.
        observations: s (B, O), normalised.
        radius: eps (O,) of each observed value [standard deviations].
        steps, size: number and length of ascent steps, the length as a share of the radius.
        draws: of the points to start from.
    """
    policy = learner.policy()

    def cost(delta: Tensor) -> Tensor:  # (B,)
        return learner.values(learner.critics(observations, policy(observations + delta))).cost

    start = torch.rand(observations.shape, generator=draws, device=learner.device) * 2.0 - 1.0
    delta = radius * start
    best, most = torch.zeros_like(delta), cost(torch.zeros_like(delta)).detach()  # no shift at all is allowed, too
    for _ in range(steps):
        delta = delta.detach().requires_grad_(True)
        value = cost(delta)
        (gradient,) = torch.autograd.grad(value.sum(), delta)
        best, most = _better(best, most, delta.detach(), value.detach())
        delta = (delta.detach() + size * radius * gradient.sign()).clamp(-radius, radius)
    best, _ = _better(best, most, delta, cost(delta).detach())
    return best


def trained_learner(attack: str, learner: Learner | None, dataset: EpisodeDataset) -> CriticLearner:
    """The attacker's learner, if it will do.

    Raises:
        AttackError: there is none, it has no critics, it was never trained, or it is of another robot.
    """
    if learner is None:
        raise AttackError(
            f"attack {attack!r} needs a learner that was trained on clean data, none was given",
            "Train one with `saferule train`, and name its checkpoint with --checkpoint",
        )
    if not isinstance(learner, CriticLearner):
        raise AttackError(
            f"attack {attack!r} needs a learner with a cost critic, {learner.NAME} has none",
            "Give a checkpoint of another algorithm, e.g. bcq_lag",
        )
    if learner.steps_done == 0:
        raise AttackError(
            f"attack {attack!r} needs a trained learner, this one has taken no step",
            "With a random cost critic the attack would be noise: train it first",
        )
    sizes = (len(learner.units.observation_mean), len(learner.units.action_low))
    if sizes != (dataset.observation_size, dataset.action_size):
        raise AttackError(
            f"the learner is of a robot with (observation, action) size {sizes}, the dataset has "
            f"({dataset.observation_size}, {dataset.action_size})",
            "Give a checkpoint that was learned from data of this robot",
        )
    return learner


def _better(best: Tensor, most: Tensor, delta: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Row by row: of two shifts (B, O) with values (B,), the costlier one."""
    costlier = value > most
    return torch.where(costlier[:, None], delta, best), torch.where(costlier, value, most)
