"""Learning that was stopped, on disk: the same call goes on from there, bit for bit."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from saferule_ros.dataset.durable import write_atomically
from saferule_ros.learning.checkpoint import load_checkpoint, save_checkpoint
from saferule_ros.learning.learner import Learner

# A kill without warning costs at most this much work [s].
SAVE_EVERY = 60.0
POINTER = "latest.json"


class Unfinished:
    """A folder with the learner as it last was, and nothing while nothing was saved.

    Args:
        folder: of this learning alone: whatever it depends on belongs into its name.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self, device: torch.device | str = "cpu") -> tuple[Learner, dict[str, Any]] | None:
        """The learner and what was saved with it; None if nothing is there.

        Raises:
            CheckpointError: what is there is damaged.
        """
        pointer = self.folder / POINTER
        if not pointer.exists():
            return None
        stored = json.loads(pointer.read_bytes())
        learner, _ = load_checkpoint(self.folder / stored.pop("checkpoint_id"), device)
        return learner, stored

    def save(self, learner: Learner, **more: Any) -> None:
        """Keeps it in place of what was there, durably; `more` is saved with it, as JSON."""
        checkpoint_id = save_checkpoint(learner, self.folder, dataset_digest="")
        content: Mapping[str, Any] = {"checkpoint_id": checkpoint_id, **more}
        write_atomically(self.folder / POINTER, json.dumps(content).encode())
        for older in self.folder.iterdir():
            if older.is_dir() and older.name != checkpoint_id:
                shutil.rmtree(older)

    def discard(self) -> None:
        """Removes it; to be called once the result is saved elsewhere."""
        shutil.rmtree(self.folder, ignore_errors=True)
