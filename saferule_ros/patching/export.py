"""A learner's checkpoint as a policy: a bundle in the store, or an ONNX file alone."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.learning.checkpoint import load_checkpoint
from saferule_ros.learning.learner import Learner
from saferule_ros.learning.serving_policy import ServingPolicy
from saferule_ros.patching.bundling import bundle_learner, pass_gate
from saferule_ros.patching.origin import Origin
from saferule_ros.policy.bundle import BundleMeta, Manifest, trace
from saferule_ros.policy.export import export_onnx
from saferule_ros.policy.spec import PolicySpec
from saferule_ros.policy.store import PolicyStore
from saferule_ros.workspace import Workspace


def export_bundle(
    workspace: Workspace, checkpoint_id: str, spec: PolicySpec, seed: int, reason: str = "", requester: str = ""
) -> Manifest:
    """Adds the checkpoint's policy to the workspace's store; it has passed the gate when this returns.

    Args:
        spec: the robot's contract.
        seed: of the choice of golden inputs, which are the dataset's.

    Raises:
        SaferuleError: the checkpoint or the dataset is missing or damaged, or the gate refused the policy.
    """
    learner, meta = _load(workspace, checkpoint_id)
    observations = np.asarray(EpisodeDataset.load(workspace.dataset).observations)
    store = PolicyStore(workspace.store).create()
    manifest = bundle_learner(store, learner, observations, spec, meta, seed, reason, requester)
    pass_gate(store, manifest)
    return manifest


def export_file(workspace: Workspace, checkpoint_id: str, spec: PolicySpec, path: Path) -> None:
    """Writes the checkpoint's policy as one ONNX file, which says in its metadata where it comes from.

    Raises:
        SaferuleError: the checkpoint is missing or damaged, or the policy does not fit the contract.
    """
    learner, meta = _load(workspace, checkpoint_id)
    created = datetime.now(UTC).isoformat(timespec="microseconds")
    export_onnx(ServingPolicy(learner), spec, path, trace(spec, meta, created))


def _load(workspace: Workspace, checkpoint_id: str) -> tuple[Learner, BundleMeta]:
    """The learner, and where it comes from."""
    folder = workspace.checkpoint(checkpoint_id)
    learner, dataset_digest = load_checkpoint(folder)
    origin = Origin.load(folder)
    learned = BundleMeta(algorithm=learner.NAME, dataset_digest=dataset_digest, checkpoint_id=checkpoint_id)
    if origin is None:
        return learner, learned
    unlearned = {
        "algorithm": f"{learner.NAME}+{origin.method}", "forget_set_id": origin.forget_set_id,
        "parent": _bundle_of(workspace, origin.parent_checkpoint), "certificate": origin.certificate,
    }  # fmt: skip
    return learner, learned.model_copy(update=unlearned)


def _bundle_of(workspace: Workspace, checkpoint_id: str) -> str | None:
    """The policy that was exported from a checkpoint, if the store has one."""
    store = PolicyStore(workspace.store)
    if not store.places_path.exists():
        return None
    found = (entry for entry in store.list() if entry.manifest and entry.manifest.checkpoint_id == checkpoint_id)
    return next((entry.bundle_id for entry in found), None)
