"""Episodes for tests of data: small, seeded, and different from each other in every value."""

import numpy as np

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.episode import Episode

OBSERVATION_SIZE = 5
ACTION_SIZE = 2


def make_episode(number: int = 0, bag_id: str = "monday", length: int = 7, **changes) -> Episode:
    """An episode whose values depend on `number` alone."""
    generator = np.random.default_rng(number)
    values = {
        "id": f"walk-{number:03d}",
        "bag_id": bag_id,
        "observations": generator.normal(size=(length + 1, OBSERVATION_SIZE)).astype(np.float32),
        "actions": generator.normal(size=(length, ACTION_SIZE)).astype(np.float32),
        "rewards": generator.normal(size=length).astype(np.float32),
        "costs": generator.random(length).astype(np.float32),
        "terminated": number % 2 == 1,
        "truncated": number % 2 == 0,
        "policy_ids": ("a1", "b2"),
        "fallbacks": number,
    }
    return Episode(**{**values, **changes})


def make_dataset() -> EpisodeDataset:
    """Five episodes of different lengths in two bags: monday 0, 1, 2 and tuesday 3, 4."""
    return EpisodeDataset.from_episodes(
        make_episode(number, "monday" if number < 3 else "tuesday", length=3 + number) for number in range(5)
    )
