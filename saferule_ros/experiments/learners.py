"""Learners that are trained from scratch, each once for all trials that ask for the same.

The same means: task, seed, algorithm with all settings, number of steps, device, and the very same data. The keep data
of many attacks is the clean data; cells that differ in what is named to be forgotten begin with the same poisoned
learner.
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.durable import write_atomically
from saferule_ros.experiments.cancelling import Cancelled, TrialCancelled
from saferule_ros.experiments.places import TrialPlaces
from saferule_ros.experiments.settings import LEARNING_VERSION, Trial
from saferule_ros.experiments.sharing import only_one
from saferule_ros.learning.algorithms import make_learner, settings_from
from saferule_ros.learning.checkpoint import copy_checkpoint, save_checkpoint
from saferule_ros.learning.replay import Units
from saferule_ros.learning.settings import TaskLimits
from saferule_ros.learning.unfinished import Unfinished
from saferule_ros.reporting.provenance import provenance_of
from saferule_ros.settings import name_of
from saferule_ros.sim.tasks import task
from saferule_ros.unlearning.resumable import unlearn_resumably
from saferule_ros.unlearning.retrain import Retrain
from saferule_ros.unlearning.run import UnlearnProgress
from saferule_ros.unlearning.settings import RetrainSettings

DONE, UNFINISHED = "trained.json", "unfinished"


class Trained(BaseModel):
    """A learner on disk, and what it took."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Path = Field(description="that its checkpoint is in")
    checkpoint_id: str
    budget: dict[str, float] = Field(description="of its gradient steps: steps, seconds, cpu_seconds, flops")
    provenance: dict[str, Any] = Field(description="when its training was begun last, with what, and on what machine")

    @property
    def checkpoint(self) -> Path:
        """Its checkpoint."""
        return self.folder / self.checkpoint_id

    def copy_to(self, checkpoints: Path) -> str:
        """Puts it among the checkpoints of a workspace, durably; returns its id there, which is the same."""
        return copy_checkpoint(self.checkpoint, checkpoints)


def trained(
    trial: Trial, places: TrialPlaces, dataset: EpisodeDataset, steps: int,
    on_progress: Callable[[UnlearnProgress], None], cancelled: Cancelled,
) -> Trained:  # fmt: skip
    """The trial's algorithm, trained on all of a dataset; made if it is not there yet.

    Args:
        steps: gradient steps.
        on_progress: hears nothing where it is there already.

    Raises:
        TrialCancelled: it was told to stop; the same call goes on from there.
        TrainingDiverged: a loss is not finite.
    """
    asked = {
        "learner": trial.learner,
        "steps": steps,
        "device": trial.device,
        "dataset": dataset.digest,
        "version": LEARNING_VERSION,
    }
    folder = places.learners / f"{trial.cell.algorithm}-{name_of(asked)}"
    done = folder / DONE
    with only_one(folder, cancelled):
        if not done.exists():
            provenance = provenance_of(datetime.now(UTC))
            run = _training(trial, dataset, steps)
            unfinished = Unfinished(folder / UNFINISHED)
            taken = unlearn_resumably(run, unfinished, on_progress, cancelled)
            if taken < run.steps:
                raise TrialCancelled(
                    f"cancelled after {taken} of {run.steps} steps", "The same command goes on from there"
                )
            checkpoint_id = save_checkpoint(run.learner, folder, dataset.digest)
            made = {
                "checkpoint_id": checkpoint_id, "budget": asdict(run.meter.budget), "provenance": provenance
            }  # fmt: skip
            write_atomically(done, json.dumps(made).encode())
            unfinished.discard()
    return Trained(folder=folder, **json.loads(done.read_bytes()))


def _training(trial: Trial, dataset: EpisodeDataset, steps: int) -> Retrain:
    """Learning from all of a dataset, as a run: then it is metered and resumed as retraining is."""
    target = task(trial.cell.task)
    bounds = np.asarray(target.action_low, np.float32), np.asarray(target.action_high, np.float32)
    limits = TaskLimits(cost_limit=target.cost_limit, horizon=target.horizon)
    settings = settings_from(trial.learner)
    untrained = make_learner(Units.of(dataset, *bounds), limits, settings, trial.seed, trial.device)
    return Retrain(untrained, dataset, dataset, RetrainSettings.model_validate({"steps": steps}), trial.seed)
