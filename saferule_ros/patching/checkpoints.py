"""What learners' checkpoints a workspace has, and which policies were made of them."""

import json
from pathlib import Path
from typing import NamedTuple

from saferule_ros.dataset.durable import TEMPORARY_PREFIX
from saferule_ros.patching.cleaning import folders_in, size_of
from saferule_ros.patching.origin import Origin, OriginError
from saferule_ros.patching.readiness import CHECKPOINT_INDEX
from saferule_ros.policy.store import PolicyStore
from saferule_ros.workspace import Workspace


class StoredCheckpoint(NamedTuple):
    """One of them; what is not known of a damaged one is empty, or 0."""

    id: str
    algorithm: str
    steps: int  # of learning and unlearning behind it
    dataset_digest: str
    forget_set_id: str  # what it had to forget last; empty: nothing
    policies: tuple[str, ...]  # in the store, that were made of it
    size: int  # bytes
    written: float  # when, in seconds since 1970
    problem: str = ""  # why nothing can go on from it


def stored_checkpoints(workspace: Workspace) -> list[StoredCheckpoint]:
    """All of them, oldest first. Tensors are not read: a damaged file of theirs is told by what goes on from it.

    Raises:
        StoreError: the store cannot be read.
    """
    made: dict[str, list[str]] = {}
    store = PolicyStore(workspace.store)
    for entry in store.list() if store.places_path.exists() else []:
        if entry.manifest is not None:
            made.setdefault(entry.manifest.checkpoint_id, []).append(entry.bundle_id)
    found = [
        _described(folder, tuple(made.get(folder.name, ())))
        for folder in folders_in(workspace.checkpoints) if not folder.name.startswith(TEMPORARY_PREFIX)
    ]  # fmt: skip
    return sorted(found, key=lambda one: (one.written, one.id))


def _described(folder: Path, policies: tuple[str, ...]) -> StoredCheckpoint:
    size, written = size_of(folder), folder.stat().st_mtime
    try:
        index = json.loads((folder / CHECKPOINT_INDEX).read_bytes())
        origin = Origin.load(folder)
        return StoredCheckpoint(
            folder.name, str(index["algorithm"]), int(index["steps_done"]), str(index["dataset_digest"]),
            origin.forget_set_id if origin else "", policies, size, written,
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, OriginError) as error:
        return StoredCheckpoint(folder.name, "", 0, "", "", policies, size, written, f"cannot be read: {error!r}")
