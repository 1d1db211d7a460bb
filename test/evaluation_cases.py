"""A point on a line whose episodes can be computed by hand: x' = x + 0.2 a, reward a + 1, cost 1 above x = 1.

Where there is an edge the point falls off beyond it: the episode terminates.
"""

import numpy as np
import torch

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.episode import Episode
from saferule_ros.evaluation.settings import ModelSettings
from saferule_ros.learning.replay import Units
from saferule_ros.learning.settings import TaskLimits

BOUNDS = (np.array([-1.0], np.float32), np.array([1.0], np.float32))
GAIN = 0.2
HORIZON = 20
LIMITS = TaskLimits(cost_limit=5.0, horizon=HORIZON)
SMALL = ModelSettings(members=3, hidden=32, batch=64, learning_rate=3e-3, single_steps=400, unroll_steps=100, unroll=8)


def drive(
    act, start: float, steps: int = HORIZON, edge: float = np.inf
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Observations (T+1, 2), actions (T, 1), rewards (T,), costs (T,) of a policy: the second observation is noise-free
    knowledge of nothing, always 0.5."""
    x, seen, actions = start, [start], []
    for t in range(steps):
        if x > edge:
            break
        action = float(np.clip(act(x, t), -1.0, 1.0))
        x = x + GAIN * action
        seen.append(x)
        actions.append(action)
    observations = np.stack([np.array(seen), np.full(len(seen), 0.5)], axis=1).astype(np.float32)
    taken = np.array(actions, np.float32)
    costs = (np.array(seen[1:]) > 1.0).astype(np.float32)
    return observations, taken[:, None], taken + 1.0, costs


def line(episodes: int = 80, seed: int = 0, prefix: str = "e", edge: float = np.inf) -> EpisodeDataset:
    """Episodes of drivers with random targets and noise."""
    rng = np.random.default_rng(seed)
    made = []
    for index in range(episodes):
        target, noise = rng.uniform(-2.0, 3.0), rng.uniform(0.1, 0.6)
        observations, actions, rewards, costs = drive(
            lambda x, _, target=target, noise=noise: 2.0 * (target - x) + noise * rng.normal(),
            float(rng.uniform(-1.0, 0.5)), edge=edge,
        )  # fmt: skip
        fell = bool(observations[-1, 0] > edge)
        made.append(
            Episode(
                id=f"{prefix}-{index}", bag_id=prefix, observations=observations, actions=actions, rewards=rewards,
                costs=costs, terminated=fell, truncated=not fell,
            )
        )  # fmt: skip
    return EpisodeDataset.from_episodes(made)


def units_of(dataset: EpisodeDataset) -> Units:
    """Units that fit it."""
    return Units.of(dataset, *BOUNDS)


def towards(target: float):
    """A policy that goes to a place: raw observations (N, 2) to raw actions (N, 1)."""

    def policy(observations: torch.Tensor) -> torch.Tensor:
        return (2.0 * (target - observations[:, :1])).clamp(-1.0, 1.0)

    return policy


def true_cost(target: float, starts: np.ndarray, edge: float = np.inf) -> float:
    """Mean episode cost of that policy."""
    episodes = (drive(lambda x, _: 2.0 * (target - x), float(start), edge=edge) for start in starts)
    return float(np.mean([costs.sum() for _, _, _, costs in episodes]))
