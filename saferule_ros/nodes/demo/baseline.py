"""What a policy costs and earns in the simulator, without ROS: the measure that the patched one is held against."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from saferule_ros.policy.runtime import PolicyRuntime
from saferule_ros.policy.store import PolicyStore
from saferule_ros.reporting.results import EpisodeOutcome, Evaluation
from saferule_ros.sim.rollout import roll_out, shared_environment
from saferule_ros.workspace import Workspace


def evaluate_active(
    workspace: Workspace, name: str, task_id: str, episodes: int, seed: int,
    progress: Callable[[EpisodeOutcome], None],
) -> Evaluation:  # fmt: skip
    """Runs a store's active policy as the robot would, from the bundle's ONNX file.

    Args:
        workspace: whose store.
        name: of the evaluation; first part of the episodes' ids.
        task_id: with version.
        episodes, seed: how many; episode k starts from seed + k, as over ROS.
        progress: called with each episode.
    """
    runtime = PolicyRuntime(*PolicyStore(workspace.store).active())
    environment = shared_environment(task_id)
    outcomes = []
    for k in range(episodes):
        run = roll_out(environment, runtime.act, seed + k)
        outcomes.append(EpisodeOutcome(
            episode_id=f"{name}-s{seed}-{k:06d}", seed=run.seed, length=len(run.rewards),
            episode_return=float(np.sum(run.rewards, dtype=np.float64)),
            episode_cost=float(np.sum(run.costs, dtype=np.float64)),
            path=[(float(x), float(y)) for x, y in run.path],
        ))  # fmt: skip
        progress(outcomes[-1])
    return Evaluation(name=name, policy_id=runtime.bundle_id, episodes=outcomes)
