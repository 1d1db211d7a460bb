"""Transitions that reach several steps ahead, against sums by hand."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from learning_cases import BOUNDS

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.episode import Episode
from saferule_ros.learning.replay import Batch, Replay, Units

GAMMA = 0.5
REWARDS = (1.0, 2.0, 4.0, 8.0)
COSTS = (0.0, 1.0, 0.0, 3.0)


def episode(name: str, terminated: bool, first: float = 0.0) -> Episode:
    """Four steps; its observations count up."""
    return Episode(
        id=name, bag_id=name, observations=np.arange(first, first + 5, dtype=np.float32)[:, None],
        actions=np.zeros((4, 1), np.float32), rewards=np.array(REWARDS, np.float32),
        costs=np.array(COSTS, np.float32), terminated=terminated, truncated=not terminated,
    )  # fmt: skip


def transitions(return_steps: int, counted: Callable[[Batch], torch.Tensor] | None = None) -> Batch:
    """Of an episode that terminates and one that is cut off; raw units."""
    dataset = EpisodeDataset.from_episodes([episode("ends", True), episode("is-cut", False, first=10.0)])
    zero, one = torch.zeros(1), torch.ones(1)
    units = Units(zero, one, *(torch.from_numpy(bound) for bound in BOUNDS), reward_scale=1.0)
    return Replay(dataset, units, GAMMA, return_steps, counted).all


def test_one_return_step_is_the_data_as_it_is() -> None:
    batch = transitions(1)
    assert batch.rewards.tolist() == [*REWARDS, *REWARDS]
    assert batch.costs.tolist() == [*COSTS, *COSTS]
    assert batch.next_observations.squeeze(1).tolist() == [1, 2, 3, 4, 11, 12, 13, 14]
    assert batch.discounts.tolist() == [GAMMA, GAMMA, GAMMA, 0.0, GAMMA, GAMMA, GAMMA, GAMMA]


def test_several_return_steps_are_discounted_sums_that_stop_at_the_episode_s_end() -> None:
    batch = transitions(3)
    rewards = [1 + 2 * 0.5 + 4 * 0.25, 2 + 4 * 0.5 + 8 * 0.25, 4 + 8 * 0.5, 8]
    costs = [0 + 1 * 0.5 + 0, 1 + 0 + 3 * 0.25, 0 + 3 * 0.5, 3]
    assert batch.rewards.tolist() == pytest.approx([*rewards, *rewards])
    assert batch.costs.tolist() == pytest.approx([*costs, *costs])
    assert batch.next_observations.squeeze(1).tolist() == [3, 4, 4, 4, 13, 14, 14, 14]


def test_a_target_bootstraps_where_the_episode_was_cut_and_not_where_it_ended() -> None:
    discounts = transitions(3).discounts.tolist()
    assert discounts[:4] == [GAMMA**3, 0.0, 0.0, 0.0]
    assert discounts[4:] == [GAMMA**3, GAMMA**3, GAMMA**2, GAMMA]


def test_more_return_steps_than_an_episode_has_give_its_own_discounted_return() -> None:
    batch = transitions(100)
    assert batch.rewards[0].item() == pytest.approx(sum(r * GAMMA**t for t, r in enumerate(REWARDS)))
    assert batch.discounts[4].item() == pytest.approx(GAMMA**4)
    assert batch.next_observations[4].item() == 14.0


def test_what_is_earned_counts_as_far_as_every_step_up_to_there_does_and_costs_count_in_full() -> None:
    """The third step of each episode counts half, the fourth not at all; the first counts where it is the first."""
    counts = torch.tensor([0.0, 1.0, 0.5, 0.0] * 2)
    batch, plain = transitions(3, lambda single: counts), transitions(3)
    rewards = [1 + 0.5 * 2 + 0.25 * 0.5 * 4, 2 + 0.5 * 0.5 * 4 + 0, 4 + 0, 8]
    assert batch.rewards.tolist() == pytest.approx([*rewards, *rewards])
    assert batch.costs.tolist() == plain.costs.tolist() and batch.discounts.tolist() == plain.discounts.tolist()
    assert batch.reward_discounts.tolist() == pytest.approx([0.5 * GAMMA**3, 0, 0, 0, 0.5 * GAMMA**3, 0, 0, GAMMA])
    assert torch.equal(plain.reward_discounts, plain.discounts)
    assert torch.equal(transitions(1, lambda single: counts).reward_discounts, transitions(1).discounts)
