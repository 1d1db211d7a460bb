"""Checkpoints along the way of a run, early ones included: the best policy is often not the last one.

Durable like every checkpoint, at 24 ms and 1 MB each for networks 64 wide, 55 ms and 11 MB for 256 (one slow core), so
a few tenths of a second in a patch. They lie in a folder of the run's own, so that it can be removed with all it left;
whoever chooses one later saves it among the workspace's checkpoints.
"""

import shutil
import time
from pathlib import Path
from typing import Self

import torch

from saferule_ros.learning.checkpoint import load_checkpoint, save_checkpoint
from saferule_ros.learning.learner import Learner
from saferule_ros.patching.report import TrailCheckpoint

CHECKPOINTS = "checkpoints"


class Trail:
    """Saves a learner every so many steps, durably.

    Args:
        folder: of the checkpoints.
        dataset_digest: of the dataset that it learned from.
        every: steps from one checkpoint to the next; 0: none is kept.
    """

    def __init__(self, folder: Path, dataset_digest: str, every: int) -> None:
        self.folder, self._digest, self._every = folder, dataset_digest, every
        self.kept: list[TrailCheckpoint] = []

    @classmethod
    def resumed(cls, folder: Path, dataset_digest: str, every: int, steps: int) -> Self:
        """Of learning that goes on after so many steps: what was kept up to there counts, what came later goes.

        Raises:
            CheckpointError: a checkpoint in the folder is damaged.
        """
        trail = cls(folder, dataset_digest, every)
        for path in sorted(folder.glob("*")):
            half_written = path.name.startswith(".")
            step = 0 if half_written or not steps else load_checkpoint(path)[0].steps_done
            if not step or step > steps:
                shutil.rmtree(path)
            else:
                trail.kept.append(TrailCheckpoint(step=step, checkpoint_id=path.name, seconds=0.0))
        trail.kept.sort(key=lambda kept: kept.step)
        return trail

    def before(self, step: int) -> list[TrailCheckpoint]:
        """What was kept before a step, in the order of the steps."""
        return [kept for kept in self.kept if kept.step < step]

    def load(self, step: int, device: torch.device | str) -> Learner:
        """The learner as it was after a step that was kept."""
        (kept,) = (kept for kept in self.kept if kept.step == step)
        return load_checkpoint(self.folder / kept.checkpoint_id, device)[0]

    def after_step(self, learner: Learner, step: int) -> None:
        """To be called after every step."""
        if not self._every or step % self._every:
            return
        began = time.monotonic()
        checkpoint_id = save_checkpoint(learner, self.folder, self._digest)
        seconds = time.monotonic() - began
        self.kept.append(TrailCheckpoint(step=step, checkpoint_id=checkpoint_id, seconds=seconds))
