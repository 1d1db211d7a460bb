"""Checkpoints along the way of a run, early ones included: the best policy is often not the last one.

Durable like every checkpoint, at 24 ms and 1 MB each for networks 64 wide, 55 ms and 11 MB for 256 (one slow core), so
a few tenths of a second in a patch. They lie in a folder of the run's own, so that it can be removed with all it left;
whoever chooses one later saves it among the workspace's checkpoints.
"""

import shutil
import time
from pathlib import Path

import torch

from saferule_ros.learning.checkpoint import load_checkpoint, save_checkpoint, steps_of
from saferule_ros.learning.learner import Learner
from saferule_ros.patching.report import TrailCheckpoint

CHECKPOINTS = "checkpoints"


class Trail:
    """Saves a learner every so many steps, durably.

    Args:
        folder: of the run. What a stopped run of learning left there counts, as its steps are taken alike again.
        dataset_digest: of the dataset that it learned from.
        every: steps from one checkpoint to the next; 0: none is kept.
        steps: how many there are; the learner after the last one is the run's result, and not saved here.
    """

    def __init__(self, folder: Path, dataset_digest: str, every: int, steps: int) -> None:
        self._folder, self._digest, self._every, self._steps = folder / CHECKPOINTS, dataset_digest, every, steps
        found = ((steps_of(path), path.name) for path in self._folder.glob("*") if not path.name.startswith("."))
        kept = [(step, name) for step, name in sorted(found) if self._due(step)]
        self.checkpoints = [TrailCheckpoint(step=step, checkpoint_id=name, seconds=0.0) for step, name in kept]

    def load(self, step: int, device: torch.device | str) -> Learner:
        """The learner as it was after a step that was kept."""
        (kept,) = (kept for kept in self.checkpoints if kept.step == step)
        return load_checkpoint(self._folder / kept.checkpoint_id, device)[0]

    def after_step(self, learner: Learner, step: int) -> None:
        """To be called after every step."""
        if not self._due(step):
            return
        began = time.monotonic()
        checkpoint_id = save_checkpoint(learner, self._folder, self._digest)
        made = TrailCheckpoint(step=step, checkpoint_id=checkpoint_id, seconds=time.monotonic() - began)
        self.checkpoints = [kept for kept in self.checkpoints if kept.step != step] + [made]

    def discard(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self._folder.parent, ignore_errors=True)

    def _due(self, step: int) -> bool:
        return bool(self._every) and step % self._every == 0 and step < self._steps
