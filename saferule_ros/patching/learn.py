"""A first policy, from the workspace's dataset to an active bundle: what a patch later starts from."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.learning.calibration import Calibration, calibrate
from saferule_ros.learning.checkpoint import save_checkpoint
from saferule_ros.learning.learner import CriticLearner
from saferule_ros.learning.settings import CommonSettings, TaskLimits
from saferule_ros.learning.trainer import TrainProgress, train
from saferule_ros.learning.unfinished import Unfinished
from saferule_ros.patching.bundling import bundle_learner, pass_gate
from saferule_ros.policy.bundle import BundleMeta, Manifest
from saferule_ros.policy.spec import PolicySpec
from saferule_ros.policy.store import PolicyStore
from saferule_ros.settings import name_of
from saferule_ros.workspace import Workspace


class LearnedPolicy(NamedTuple):
    """What came of learning."""

    manifest: Manifest
    active: bool  # whether it is the active policy now
    calibration: Calibration | None  # None for a learner without critics


def learn_policy(
    workspace: Workspace, spec: PolicySpec, limits: TaskLimits, settings: CommonSettings, steps: int, seed: int,
    on_progress: Callable[[TrainProgress], None] = lambda _: None, activate: bool | None = True, device: str = "cpu",
    cancelled: Callable[[], bool] = lambda: False, requester: str = "",
) -> LearnedPolicy:  # fmt: skip
    """Learns a policy from the workspace's dataset and puts it into the workspace's store.

    What was stopped, or killed, goes on when the same is asked for again: the number of steps may be another one.

    Args:
        spec: the robot's contract; its action bounds are the policy's.
        limits: cost limit and horizon of the task.
        settings: of the algorithm that is to learn.
        steps: gradient steps.
        seed: of every random draw.
        activate: make it the active policy; otherwise it only stands in the store. None: only where none is active yet,
            as a policy that was on no trial must not take the place of one that serves.
        device: that learns, cpu or cuda.
        cancelled: asked before every step.
        requester: who asks, for the record.

    Raises:
        TrainingCancelled: `cancelled()` became true; what was learned so far is kept in the workspace.
        SaferuleError: unreadable dataset, divergence, or a policy that the gate refused; nothing was activated.
    """
    dataset = EpisodeDataset.load(workspace.dataset)
    asked = {
        "dataset": dataset.digest, "limits": limits.model_dump(), "settings": settings.model_dump(),
        "action_bounds": [spec.action_low, spec.action_high], "seed": seed, "device": device,
    }  # fmt: skip
    unfinished = Unfinished(workspace.training / name_of(asked))
    learner = train(
        dataset, limits, settings, (spec.low, spec.high), steps, seed, on_progress, device, unfinished, cancelled
    )
    checkpoint_id = save_checkpoint(learner, workspace.checkpoints, dataset.digest)
    unfinished.discard()
    store = PolicyStore(workspace.store).create()
    meta = BundleMeta(algorithm=learner.NAME, dataset_digest=dataset.digest, checkpoint_id=checkpoint_id)
    reason = f"learned from {dataset.episodes} episodes, seed {seed}"
    manifest = bundle_learner(store, learner, np.asarray(dataset.observations), spec, meta, seed, reason, requester)
    with store.reserving(manifest.bundle_id):
        pass_gate(store, manifest)
        if activate is None:
            activate = store.places().active is None
        if activate:
            store.activate(manifest.bundle_id, reason=reason, requester=requester)
    replay = learner.replay(dataset)
    return LearnedPolicy(manifest, activate, calibrate(learner, replay) if isinstance(learner, CriticLearner) else None)
