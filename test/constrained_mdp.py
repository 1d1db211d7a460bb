"""A road with an edge: a small constrained task of several steps whose best policy is known by construction.

A cart at x in [0, 2] moves by at most a quarter per step and earns its position, so it wants to go far. Beyond x = 1 it
slides: whatever it does, it goes on to the end of the road, and every step there costs 1. So crossing the edge is what
costs, long before most of the cost comes. Within any limit below 1 the best policy drives to the edge at full speed and
stays there; without a limit it drives on.
"""

import numpy as np
import torch

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.episode import Episode
from saferule_ros.learning.learner import Learner
from saferule_ros.learning.settings import TaskLimits

STRIDE, EDGE, END = 0.25, 1.0, 2.0
HORIZON = 8
# Single precision puts a cart that stops at the edge up to this far beyond it.
ROUNDING = 1e-6
LIMITS = TaskLimits(cost_limit=0.5, horizon=HORIZON)
BOUNDS = (np.array([-1.0], np.float32), np.array([1.0], np.float32))
STARTS = np.linspace(0.0, 0.9, 10)


def sliding(x: np.ndarray) -> np.ndarray:
    """Whether carts at these positions are beyond the edge."""
    return x > EDGE + ROUNDING


def move(x: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """Next positions (K,) of K carts; actions in [-1, 1]."""
    driven = np.where(sliding(x), x + STRIDE, x + STRIDE * actions)
    return np.clip(driven, 0.0, END)


def best_return(starts: np.ndarray = STARTS) -> float:
    """Mean over starts of the largest return within the limit: full speed to the edge, and there it stays."""
    steps = np.arange(1, HORIZON + 1)
    return float(np.minimum(starts[:, None] + STRIDE * steps, EDGE).sum(1).mean())


def behaviour(episodes: int = 300, seed: int = 0, cost_of_sliding: float = 1.0, prefix: str = "road") -> EpisodeDataset:
    """Drivers of all paces from random starts before the edge; every other one brakes there, unsteadily, or not at all.

    No driver is the best one. Every episode is cut at the horizon.
    """
    rng = np.random.default_rng(seed)
    x, pace, careful = rng.uniform(0.0, EDGE, episodes), rng.uniform(0.0, 1.2, episodes), np.arange(episodes) % 2 == 0
    positions, actions = [x], []
    for _ in range(HORIZON):
        wanted = np.where(careful, np.minimum(pace, (EDGE - x) / STRIDE), pace)
        actions.append(np.clip(wanted + rng.normal(0.0, 0.3, episodes), -1.0, 1.0))
        x = move(x, actions[-1])
        positions.append(x)
    observations = np.stack(positions, 1).astype(np.float32)  # (E, T + 1)
    commands = np.stack(actions, 1).astype(np.float32)  # (E, T)
    return EpisodeDataset.from_episodes(
        Episode(
            id=f"{prefix}-{index}", bag_id=prefix, observations=observations[index][:, None],
            actions=commands[index][:, None], rewards=observations[index, 1:],
            costs=sliding(observations[index, 1:]).astype(np.float32) * cost_of_sliding,
            terminated=False, truncated=True,
        )
        for index in range(episodes)
    )  # fmt: skip


def drive(learner: Learner, starts: np.ndarray = STARTS) -> tuple[float, float]:
    """Mean return and mean cost of the learner's policy, one episode from each start."""
    x, rewards, costs = starts, np.zeros_like(starts), np.zeros_like(starts)
    for _ in range(HORIZON):
        observations = learner.units.observations(torch.as_tensor(x, dtype=torch.float32).unsqueeze(1))
        x = move(x, learner.units.raw_actions(learner.act(observations)).squeeze(1).numpy())
        rewards, costs = rewards + x, costs + sliding(x)
    return float(rewards.mean()), float(costs.mean())
