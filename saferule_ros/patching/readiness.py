"""Can the active policy be patched at all? Asked before a job starts, so that the answer comes at once."""

from saferule_ros.dataset.storage import INDEX_NAME, read_index
from saferule_ros.errors import SaferuleError
from saferule_ros.policy.manifest import Manifest
from saferule_ros.policy.store import PolicyStore
from saferule_ros.workspace import Workspace

# Written last by the learner, so a folder without it is no whole checkpoint.
CHECKPOINT_INDEX = "checkpoint.json"


class NotPatchable(SaferuleError):
    """What a patch starts from is not all there."""


def check_can_patch(workspace: Workspace) -> Manifest:
    """The active bundle's manifest, if its learner's checkpoint and the dataset that it learned from are there too.

    Raises:
        PolicyError: no store, no active policy, or a damaged one.
        NotPatchable: its checkpoint, or the dataset, is missing, or it is another dataset.
        DatasetError: the dataset's index cannot be read.
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
    found = str(read_index(workspace.dataset).get("digest"))
    if found != manifest.dataset_digest:
        raise NotPatchable(
            f"policy {manifest.bundle_id} was learned from dataset {manifest.dataset_digest[:16]}, and "
            f"{str(workspace.dataset)!r} is {found[:16]}",
            "Ingest the same bags again, without those that came later: that gives the same dataset; or train anew",
        )
    return manifest
