"""Can the active policy be patched at all? Asked before a job starts, so that the answer comes at once."""

from saferule_ros.dataset.storage import INDEX_NAME
from saferule_ros.errors import SaferuleError
from saferule_ros.policy.manifest import Manifest
from saferule_ros.policy.store import PolicyStore
from saferule_ros.workspace import Workspace

# Written last by the learner, so a folder without it is no whole checkpoint.
CHECKPOINT_INDEX = "checkpoint.json"


class NotPatchable(SaferuleError):
    """What a patch starts from is not all there."""


def check_can_patch(workspace: Workspace) -> Manifest:
    """The active bundle's manifest, if its learner's checkpoint and a dataset are there too.

    Raises:
        PolicyError: no store, no active policy, or a damaged one.
        NotPatchable: its checkpoint, or the dataset, is missing.
    """
    if not (workspace.dataset / INDEX_NAME).is_file():
        raise NotPatchable(
            f"there is no dataset in {str(workspace.dataset)!r}",
            "Put the dataset there that the active policy was learned from",
        )
    _, manifest = PolicyStore(workspace.store).active()
    folder = workspace.checkpoint(manifest.checkpoint_id)
    if not (folder / CHECKPOINT_INDEX).is_file():
        raise NotPatchable(
            f"policy {manifest.bundle_id} was exported from checkpoint {manifest.checkpoint_id!r}, "
            f"which is not in {str(workspace.checkpoints)!r}",
            "Copy the checkpoint there: unlearning goes on from the critics, which the policy alone lacks",
        )
    return manifest
