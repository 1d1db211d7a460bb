"""What is said before learning, and what gives no reason to say anything."""

import numpy as np
import pytest

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.episode import Episode
from saferule_ros.learning.settings import BcqLagSettings, CommonSettings, CpqSettings
from saferule_ros.patching.misgivings import misgivings
from saferule_ros.policy.spec import PolicySpec

SPEC = PolicySpec(
    task="arm", observation_size=2, action_size=1, action_low=[-1.0], action_high=[1.0], control_rate=20.0,
    cost_limit=5.0,
)  # fmt: skip


def dataset(
    rewards: float = 1.0, largest_action: float = 1.0, spread: float = 1.0, odd: dict[int, float] | None = None
) -> EpisodeDataset:  # fmt: skip
    """One episode of 200 steps; of its two observed values the second varies by `spread`; some rewards are odd."""
    rng = np.random.default_rng(0)
    observations = rng.normal(0.0, [1.0, spread], (201, 2)).astype(np.float32)
    earned = np.full(200, rewards, np.float32)
    for step, reward in (odd or {}).items():
        earned[step] = reward
    return EpisodeDataset.from_episodes([
        Episode(
            id="e", bag_id="b", observations=observations,
            actions=np.linspace(-largest_action, largest_action, 200, dtype=np.float32)[:, None],
            rewards=earned, costs=np.zeros(200, np.float32),
            terminated=False, truncated=True,
        )
    ])  # fmt: skip


@pytest.mark.parametrize("settings", [BcqLagSettings(), CpqSettings()])
def test_nothing_is_said_of_data_that_give_no_reason(settings: CommonSettings) -> None:
    assert list(misgivings(dataset(), SPEC, settings)) == []


def test_each_reason_is_told_with_its_value() -> None:
    (outside,) = misgivings(dataset(largest_action=2.0), SPEC, BcqLagSettings())
    assert "50% of the logged actions are outside of the bounds of arm, [-1.0] to [1.0]" in outside
    (still,) = misgivings(dataset(spread=1e-5), SPEC, BcqLagSettings())
    assert still.startswith("observation[1]: variation of less than")
    (negative,) = misgivings(dataset(rewards=-0.25), SPEC, CpqSettings())
    assert "rewards are negative on the whole, -0.25 in the mean" in negative
    assert list(misgivings(dataset(rewards=-0.25), SPEC, BcqLagSettings())) == [], (
        "to the others it makes no difference"
    )
    assert len(list(misgivings(dataset(-1.0, 2.0, 1e-5), SPEC, CpqSettings()))) == 3


def test_rewards_that_dwarf_all_others_are_told_with_their_episode() -> None:
    (told,) = misgivings(dataset(odd={150: -1e6}), SPEC, BcqLagSettings())
    assert "below 1 where the mean is 5e+03; the largest, -1e+06, is in step 150 of episode e" in told


def test_a_reward_for_the_goal_alone_dwarfs_nothing() -> None:
    assert list(misgivings(dataset(rewards=0.0), SPEC, BcqLagSettings())) == []
    assert list(misgivings(dataset(rewards=0.0, odd={199: 100.0}), SPEC, BcqLagSettings())) == []
