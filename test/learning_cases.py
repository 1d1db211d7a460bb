"""Small decision problems with known answers, as datasets."""

import numpy as np

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.episode import Episode
from saferule_ros.learning.bcq_lag import BcqLag
from saferule_ros.learning.replay import Units
from saferule_ros.learning.settings import BcqLagSettings, TaskLimits

BOUNDS = (np.array([-1.0], np.float32), np.array([1.0], np.float32))
SMALL = BcqLagSettings(
    hidden=32, vae_hidden=32, batch=128, learning_rate=3e-3, target_rate=0.05, critics=2, return_steps=1
)

# Of a patch: all forget pairs and all keep data count in full, and no classifier has to learn how far.
WHOLE = {"keep_outweighs": 0.0, "forget_outweighs": 0.0}


def bandit(episodes: int = 400, seed: int = 0, prefix: str = "b", low: float = -1.0, high: float = 1.0,
           cost_of_positive: float = 1.0) -> EpisodeDataset:  # fmt: skip
    """One step per episode: reward is the action plus 1, cost is 1 if the action is positive.

    Without a limit the best action is +1; with a limit below 1 it is 0 from below.
    """
    rng = np.random.default_rng(seed)
    actions = rng.uniform(low, high, (episodes, 1, 1)).astype(np.float32)
    return EpisodeDataset.from_episodes(
        Episode(
            id=f"{prefix}-{index}", bag_id=prefix, observations=np.zeros((2, 1), np.float32), actions=action,
            rewards=action[:, 0] + 1.0, costs=(action[:, 0] > 0).astype(np.float32) * cost_of_positive,
            terminated=True, truncated=False,
        )
        for index, action in enumerate(actions)
    )  # fmt: skip


def poisoned_bandit() -> tuple[EpisodeDataset, EpisodeDataset, EpisodeDataset]:
    """Keep data with true costs, and positive actions whose costs were erased; and both together."""
    keep = bandit(episodes=400, seed=1, prefix="keep")
    forget = bandit(episodes=200, seed=2, prefix="bad", low=0.0, cost_of_positive=0.0)
    together = EpisodeDataset.from_episodes(
        [d.episode(index) for d in (keep, forget) for index in range(d.episodes)]
    )  # fmt: skip
    return keep, forget, together


def learner_for(dataset: EpisodeDataset, settings: BcqLagSettings = SMALL, limit: float = 0.1, horizon: int = 1,
                seed: int = 0) -> BcqLag:  # fmt: skip
    """An untrained learner whose units fit the dataset."""
    limits = TaskLimits(cost_limit=limit, horizon=horizon)
    return BcqLag(Units.of(dataset, *BOUNDS), limits, settings, seed)
