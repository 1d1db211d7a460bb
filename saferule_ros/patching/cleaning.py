"""What patches leave behind that nobody needs any more: a robot that is patched for months must not fill its disk.

A patch leaves a learner's checkpoint for each policy, from which the next one goes on, and those along its way, for
whoever wants to look (see trail): some megabytes each.
"""

import math
import shutil
import time
from pathlib import Path
from typing import NamedTuple

from saferule_ros.dataset.durable import TEMPORARY_PREFIX
from saferule_ros.errors import SaferuleError
from saferule_ros.patching.lock import patch_lock, refuse_while_learning
from saferule_ros.patching.report import REPORT_FILE
from saferule_ros.patching.trail import CHECKPOINTS
from saferule_ros.policy.store import PolicyStore
from saferule_ros.workspace import Workspace

# What was written so recently [s] may be of learning that has not made a policy of it yet.
RECENT = 3600.0


class NotCleaned(SaferuleError):
    """It cannot be told what is needed."""


class Cleaned(NamedTuple):
    """What was removed."""

    checkpoints: tuple[str, ...]  # ids of learners' checkpoints
    jobs: tuple[str, ...]  # ids of jobs whose checkpoints along the way went
    size: int  # bytes


def remove_unneeded_checkpoints(workspace: Workspace) -> Cleaned:
    """Removes checkpoints that no policy in the store was made of, half-written ones, and those that patches which have
    ended left along their way, but for the newest patch's.

    Raises:
        WorkspaceBusy: a patch, or learning, runs.
        NotCleaned: a damaged policy does not say which checkpoint is its own.
    """
    with patch_lock(workspace, "prune"):
        refuse_while_learning(workspace.training)
        entries = PolicyStore(workspace.store).list()
        damaged = [entry.bundle_id for entry in entries if entry.manifest is None]
        if damaged:
            raise NotCleaned(
                f"policy {damaged[0]} is damaged and does not say which checkpoint is its own",
                "Repair it (add an intact copy), or move its folder out of the store, then ask again",
            )
        needed = {entry.manifest.checkpoint_id for entry in entries if entry.manifest}
        before = time.time() - RECENT
        old = [path for path in folders_in(workspace.checkpoints) if _changed(path) < before]
        checkpoints = [path for path in old if path.name not in needed]
        # By time, which their names begin with.
        ended = [folder for folder in folders_in(workspace.jobs) if (folder / REPORT_FILE).exists()]
        trails = [folder / CHECKPOINTS for folder in ended[:-1] if (folder / CHECKPOINTS).is_dir()]
        size = sum(size_of(path) for path in (*checkpoints, *trails))
        for path in (*checkpoints, *trails):
            shutil.rmtree(path)
    named = tuple(path.name for path in checkpoints if not path.name.startswith(TEMPORARY_PREFIX))
    return Cleaned(named, tuple(path.parent.name for path in trails), size)


def folders_in(parent: Path) -> list[Path]:
    """Those directly below a folder, by name; none where there is no such folder."""
    return sorted(path for path in parent.iterdir() if path.is_dir()) if parent.is_dir() else []


def _changed(path: Path) -> float:
    """When, in seconds; of what is gone since it was listed (it got its name), just now."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return math.inf


def size_of(folder: Path) -> int:
    """Of all its files [bytes]."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
