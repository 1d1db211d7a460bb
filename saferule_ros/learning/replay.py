"""The dataset as tensors on the device that learns, and batches drawn from it without Python per transition."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.moments import moments, scales

# Transitions that go through networks together where all of a dataset's do: up to a dozen actions each, in memory.
AT_ONCE = 4096


class Batch(NamedTuple):
    """Transitions in learner units: observations normalised, actions in [-1, 1], rewards and costs scaled.

    With n return steps a transition reaches up to n steps ahead, and never beyond its episode's end: m <= n of them.
    """

    observations: Tensor  # (B, O)
    actions: Tensor  # (B, A)
    rewards: Tensor  # (B,) of the m steps, discounted
    costs: Tensor  # (B,) of the m steps, discounted
    next_observations: Tensor  # (B, O) after the m steps
    discounts: Tensor  # (B,) gamma^m, or 0 where the task terminated; a truncation bootstraps
    reward_discounts: Tensor  # (B,) the same, but less where what is earned after a step counts less, see Replay


class Units(NamedTuple):
    """How raw robot units become learner units. Fixed when learning starts; part of the checkpoint."""

    observation_mean: Tensor  # (O,)
    observation_std: Tensor  # (O,)
    action_low: Tensor  # (A,)
    action_high: Tensor  # (A,)
    reward_scale: float
    cost_scale: float = 1.0  # of the limit, too

    @staticmethod
    def of(dataset: EpisodeDataset, action_low: np.ndarray, action_high: np.ndarray) -> "Units":
        """Units that fit a dataset: standard scores for observations, rewards with mean magnitude one, and costs with
        mean one where there is a cost, as those of Safety-Gymnasium's tasks have.

        With these scales lambda is a number without units: how many average rewards one average cost is worth. So are
        all settings that are compared with cost values (sigma, temperatures, gates): the same robot with its costs in
        another unit learns and forgets the same [ours].
        """
        mean, spread = moments(dataset.observations)
        magnitude = float(np.abs(dataset.rewards).mean(dtype=np.float64))
        costs = dataset.costs[dataset.costs > 0]
        return Units(
            torch.as_tensor(mean, dtype=torch.float32),
            torch.as_tensor(scales(spread), dtype=torch.float32),
            torch.as_tensor(action_low, dtype=torch.float32),
            torch.as_tensor(action_high, dtype=torch.float32),
            1.0 / magnitude if magnitude > 0 else 1.0,
            1.0 / float(costs.mean(dtype=np.float64)) if len(costs) else 1.0,
        )

    def to(self, device: torch.device | str) -> "Units":
        """The same on a device."""
        tensors = (value.to(device) if isinstance(value, Tensor) else value for value in self)
        return Units(*tensors)  # type: ignore[arg-type]

    def observations(self, raw: Tensor) -> Tensor:
        """Raw (…, O) to standard scores."""
        return (raw - self.observation_mean) / self.observation_std

    def actions(self, raw: Tensor) -> Tensor:
        """Raw (…, A) to [-1, 1]."""
        return 2.0 * (raw - self.action_low) / (self.action_high - self.action_low) - 1.0

    def raw_actions(self, scaled: Tensor) -> Tensor:
        """[-1, 1] (…, A) to raw."""
        return self.action_low + 0.5 * (scaled + 1.0) * (self.action_high - self.action_low)


class Replay:
    """A dataset in learner units on the device of those units, sampled uniformly with replacement.

    Args:
        dataset: raw units.
        units: of the learner.
        discount: gamma, of reward and cost alike.
        return_steps: n, how many steps of reward and cost a transition holds.
        counted: of single steps (N of them), how far what is earned from each on counts, (N,) from 0 to 1, in the
            returns of the steps before it; None: in full. Not asked where n is 1.
        with_single: whether single steps can be drawn as well.
    """

    def __init__(
        self, dataset: EpisodeDataset, units: Units, discount: float, return_steps: int = 1,
        counted: Callable[[Batch], Tensor] | None = None, with_single: bool = False,
    ) -> None:  # fmt: skip
        device = units.observation_mean.device

        def tensor(column: np.ndarray) -> Tensor:
            # A copy: columns may be read-only maps.
            return torch.from_numpy(np.array(column, dtype=np.float32)).to(device)

        discounts = discount * (1.0 - tensor(dataset.terminated))
        single = Batch(
            units.observations(tensor(dataset.observations)),
            units.actions(tensor(dataset.actions)),
            tensor(dataset.rewards) * units.reward_scale,
            tensor(dataset.costs) * units.cost_scale,
            units.observations(tensor(dataset.next_observations)),
            discounts,
            discounts,
        )
        episodes = torch.from_numpy(np.array(dataset.episode_index)).to(device)  # (N,)
        counts = counted(single) if counted and return_steps > 1 else None
        self.all = reaching_ahead(single, episodes, return_steps, counts)
        self._single = single if with_single else None
        self.initial_observations = units.observations(tensor(dataset.initial_observations))  # (E, O)
        self.size = len(dataset.rewards)
        self.return_steps = return_steps

    def sample(self, count: int, generator: torch.Generator) -> Batch:
        """`count` transitions drawn uniformly with replacement."""
        return self.at(self.draw(count, generator))

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Which transitions these are: rows (count,)."""
        return torch.randint(self.size, (count,), generator=generator, device=generator.device)

    def at(self, rows: Tensor) -> Batch:
        """The transitions in these rows."""
        return Batch(*(column[rows] for column in self.all))

    def single_at(self, rows: Tensor) -> Batch:
        """The same with one step of reward and cost, and the observation that follows it."""
        assert self._single is not None, "a replay is told beforehand that single steps will be drawn"
        return Batch(*(column[rows] for column in self._single))

    def sample_initial(self, count: int, generator: torch.Generator) -> Tensor:
        """`count` initial observations (count, O) drawn uniformly with replacement."""
        return drawn(self.initial_observations, count, generator)


def drawn(points: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` of them (N, ...), which are where the generator is, uniformly with replacement."""
    return points[torch.randint(len(points), (count,), generator=generator, device=generator.device)]


def reaching_ahead(single: Batch, episodes: Tensor, steps: int, counts: Tensor | None = None) -> Batch:
    """The transitions of all episodes, each with the rewards and costs of up to `steps` steps.

    Args:
        single: one step each, in the order of time, N of them.
        episodes: (N,) which episode each is of; those of one episode stand together.
        steps: n.
        counts: (N,) how far what is earned from each on counts for those before it; None: in full.
    """
    rewards, costs, discounts = single.rewards.clone(), single.costs.clone(), single.discounts.clone()
    reward_discounts = single.reward_discounts.clone()
    last = torch.arange(len(rewards), device=rewards.device)  # (N,) the row of each transition's last step
    for _ in range(1, steps):
        following = (last + 1).clamp(max=len(last) - 1)
        within = (following > last) & (episodes[following] == episodes)  # (N,) the episode goes on
        last = torch.where(within, following, last)
        if counts is not None:
            reward_discounts *= torch.where(within, counts[last], 1.0)
        rewards += torch.where(within, reward_discounts * single.rewards[last], 0.0)
        costs += torch.where(within, discounts * single.costs[last], 0.0)
        discounts *= torch.where(within, single.discounts[last], 1.0)
        reward_discounts *= torch.where(within, single.reward_discounts[last], 1.0)
    following = single.next_observations[last]
    return Batch(single.observations, single.actions, rewards, costs, following, discounts, reward_discounts)
