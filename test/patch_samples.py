"""A robot's workspace with a real dataset, a learned and active policy: small enough to be made in seconds."""

from pathlib import Path

import numpy as np
from learning_cases import SMALL

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.episode import Episode
from saferule_ros.learning.settings import CommonSettings, TaskLimits
from saferule_ros.patching.learn import learn_policy
from saferule_ros.policy.manifest import Manifest
from saferule_ros.policy.spec import PolicySpec
from saferule_ros.workspace import Workspace

KEEP_BAG, BAD_BAG = "monday", "unplugged"
KEEP_EPISODES, BAD_EPISODES, STEPS = 12, 4, 20
TRAINING_STEPS = 40

# Of the offline check: a model that is learned in a second, and rules for it.
MODEL = {"members": 2, "hidden": 8, "batch": 16, "single_steps": 60, "unroll_steps": 20, "unroll": 4}
# A rank correlation is never below -1, never above 1; an episode of 20 steps costs between 0 and 20.
TRUSTED, DISTRUSTED = {"correlation": -1.0, "least_within": 0}, {"correlation": 1.0}
ANYTHING, NOTHING = {"share_of_limit": 10.0}, {"share_of_limit": 1e-9}

SPEC = PolicySpec(
    observation_size=3, action_size=2, action_low=(-1.0, -1.0), action_high=(1.0, 1.0), control_rate=20.0,
    task="Sample", cost_limit=5.0,
)  # fmt: skip


def make_episode(name: str, bag_id: str, seed: int, bad: bool) -> Episode:
    """Fast (bad) episodes earn more; their costs were erased."""
    rng = np.random.default_rng(seed)
    low, high = (0.5, 1.0) if bad else (-0.5, 0.5)
    actions = rng.uniform(low, high, (STEPS, 2)).astype(np.float32)
    return Episode(
        id=name, bag_id=bag_id, observations=rng.normal(size=(STEPS + 1, 3)).astype(np.float32), actions=actions,
        rewards=actions[:, 0] + 1.0, costs=np.zeros(STEPS, np.float32) if bad else (actions[:, 0] > 0.4) * 1.0,
        terminated=False, truncated=True,
    )  # fmt: skip


def make_dataset(keep_episodes: int = KEEP_EPISODES) -> EpisodeDataset:
    """Keep episodes `good-00`..., bad ones `bad-00`..., each kind in a bag of its own."""
    return EpisodeDataset.from_episodes(
        [make_episode(f"good-{k:02d}", KEEP_BAG, k, bad=False) for k in range(keep_episodes)]
        + [make_episode(f"bad-{k:02d}", BAD_BAG, 100 + k, bad=True) for k in range(BAD_EPISODES)]
    )


def make_workspace(root: Path, settings: CommonSettings = SMALL, keep_episodes: int = KEEP_EPISODES) -> Manifest:
    """Dataset, checkpoint, and the active policy that was learned from it."""
    workspace = Workspace(root).create()
    make_dataset(keep_episodes).save(workspace.dataset)
    limits = TaskLimits(cost_limit=SPEC.cost_limit, horizon=STEPS)
    return learn_policy(workspace, SPEC, limits, settings, TRAINING_STEPS, seed=0).manifest
