"""Checkpoints along the way of a run, early ones included: the best policy is often not the last one.

Durable like every checkpoint, at 24 ms and 1 MB each for networks 64 wide, 55 ms and 11 MB for 256 (one slow core), so
a few tenths of a second in a patch. They lie in the job's own folder, so that a job can be removed with all it left;
whoever chooses one later saves it among the workspace's checkpoints.
"""

import time
from pathlib import Path

from saferule_ros.learning.checkpoint import load_checkpoint, save_checkpoint
from saferule_ros.learning.learner import Learner
from saferule_ros.patching.report import TrailCheckpoint
from saferule_ros.unlearning.settings import RunSettings

CHECKPOINTS = "checkpoints"


class Trail:
    """Saves the learner every so many steps, durably.

    Args:
        folder: the job's.
        learner: the one that the run changes.
        dataset_digest: of the dataset that it learned from.
        settings: how often, and how many steps there are; the last one is the candidate's, and not saved here.
    """

    def __init__(self, folder: Path, learner: Learner, dataset_digest: str, settings: RunSettings) -> None:
        self._folder, self._learner, self._digest = folder / CHECKPOINTS, learner, dataset_digest
        self._every, self._steps = settings.checkpoint_every, settings.steps
        self.checkpoints: list[TrailCheckpoint] = []

    def load(self, step: int) -> Learner:
        """The learner as it was after a step that was kept."""
        (kept,) = (kept for kept in self.checkpoints if kept.step == step)
        return load_checkpoint(self._folder / kept.checkpoint_id, self._learner.device)[0]

    def after_step(self, step: int) -> None:
        """To be called after every step."""
        if not self._every or step % self._every or step == self._steps:
            return
        began = time.monotonic()
        checkpoint_id = save_checkpoint(self._learner, self._folder, self._digest)
        seconds = time.monotonic() - began
        self.checkpoints.append(TrailCheckpoint(step=step, checkpoint_id=checkpoint_id, seconds=seconds))
