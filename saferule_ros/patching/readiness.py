"""Can the active policy be patched at all? Asked before a job starts, so that the answer comes at once."""

import json
from pathlib import Path

from saferule_ros.dataset.storage import INDEX_NAME, read_index
from saferule_ros.errors import SaferuleError
from saferule_ros.patching.judge_mode import JudgeMode
from saferule_ros.patching.origin import ORIGIN_FILE, check_origin
from saferule_ros.patching.settings import judging_settings, unlearning_settings
from saferule_ros.policy.manifest import Manifest
from saferule_ros.policy.store import PolicyStore
from saferule_ros.workspace import Workspace

# Written last by the learner, so a folder without it is no whole checkpoint.
CHECKPOINT_INDEX = "checkpoint.json"


class NotPatchable(SaferuleError):
    """What a patch starts from is not all there."""


def check_can_patch(
    workspace: Workspace, settings: Path | None = None, judge: JudgeMode = JudgeMode.NONE, judging: Path | None = None
) -> Manifest:
    """The active bundle's manifest, if its learner's checkpoint and the dataset that it learned from are there too.

    Args:
        settings, judge, judging: as a PatchRequest has them.

    Raises:
        PolicyError: no store, no active policy, or a damaged one.
        NotPatchable: it is on trial; its checkpoint, or the dataset, is missing or damaged; or it is another dataset.
        OriginError: its checkpoint does not say what it had to forget.
        SettingsError: a settings file that cannot be read or is wrong, or one of a check that is not asked for.
        DatasetError: the dataset's index cannot be read.
    """
    judging_settings(judge, judging)
    if not (workspace.dataset / INDEX_NAME).is_file():
        raise NotPatchable(
            f"there is no dataset in {str(workspace.dataset)!r}",
            "Put the dataset there that the active policy was learned from",
        )
    store = PolicyStore(workspace.store)
    check_on_no_trial(store)
    _, manifest = store.active()
    folder = workspace.checkpoint(manifest.checkpoint_id)
    if not (folder / CHECKPOINT_INDEX).is_file():
        raise NotPatchable(
            f"policy {manifest.bundle_id} was exported from checkpoint {manifest.checkpoint_id!r}, "
            f"which is not in {str(workspace.checkpoints)!r}",
            f"Copy the whole checkpoint there, with {ORIGIN_FILE} if it has one: unlearning goes on from the critics, "
            "which the policy alone lacks",
        )
    check_origin(folder, manifest.forget_set_id)
    unlearning_settings(_algorithm(folder), settings)
    found = str(read_index(workspace.dataset).get("digest"))
    if found != manifest.dataset_digest:
        raise NotPatchable(
            f"policy {manifest.bundle_id} was learned from dataset {manifest.dataset_digest[:16]}, and "
            f"{str(workspace.dataset)!r} is {found[:16]}",
            "Ingest the same bags again, without those that came later: that gives the same dataset; or train anew",
        )
    return manifest


def check_on_no_trial(store: PolicyStore) -> None:
    """Raises NotPatchable while the active policy is on trial: if that fails, nobody wants a patch of it."""
    places = store.places()
    if places.trial:
        raise NotPatchable(
            f"policy {places.active} is on trial, and has not proved good yet",
            "Ask again when its probation is over (policy_server/status), or roll back and patch what was before it",
        )


def _algorithm(checkpoint: Path) -> str:
    index = checkpoint / CHECKPOINT_INDEX
    try:
        return str(json.loads(index.read_bytes())["algorithm"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NotPatchable(f"{str(index)!r} cannot be read: {error!r}", "Copy the checkpoint there again") from error
