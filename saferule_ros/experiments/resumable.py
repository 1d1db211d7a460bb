"""Training from scratch that can be stopped at any time and gone on with, bit for bit.

Poisoned learners and retrained ones take up to hours. Now and then, and when they are told to stop, the learner is
saved with what it has cost so far.
"""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from saferule_ros.dataset.durable import write_atomically
from saferule_ros.experiments.cancelling import Cancelled, TrialCancelled
from saferule_ros.learning.checkpoint import load_checkpoint, save_checkpoint
from saferule_ros.unlearning.budget import Budget
from saferule_ros.unlearning.retrain import Retrain
from saferule_ros.unlearning.run import UnlearnProgress, unlearn

# A kill without warning costs at most this much work [s].
SAVE_EVERY = 60.0
POINTER = "latest.json"


def run_resumably(
    run: Retrain, folder: Path, on_progress: Callable[[UnlearnProgress], None], cancelled: Cancelled,
    save_every: float = SAVE_EVERY,
) -> None:  # fmt: skip
    """Takes all steps that are left, from where an earlier call with the same folder stopped.

    Args:
        run: before its first step; after an earlier call it has to be made again in the same way.
        folder: for what is not finished; see `discard`.
        save_every: seconds.

    Raises:
        TrialCancelled: it was told to stop; what it has is in `folder`.
        TrainingDiverged: a loss is not finite.
    """
    _go_on(run, folder)
    saved = time.monotonic()

    def after_step(_: int) -> None:
        nonlocal saved
        if time.monotonic() - saved > save_every:
            _save(run, folder)
            saved = time.monotonic()

    unlearn(run, on_progress, cancelled, after_step)
    if run.steps_done < run.steps:
        _save(run, folder)
        raise TrialCancelled(f"cancelled after {run.steps_done} of {run.steps} steps", "The same command goes on there")


def discard(folder: Path) -> None:
    """Removes what an earlier call kept; to be called once its result is saved elsewhere."""
    shutil.rmtree(folder, ignore_errors=True)


def _go_on(run: Retrain, folder: Path) -> None:
    pointer = folder / POINTER
    if pointer.exists():
        stored = json.loads(pointer.read_bytes())
        learner, _ = load_checkpoint(folder / stored["checkpoint_id"], run.learner.device)
        run.go_on_from(learner, Budget(**stored["budget"]))


def _save(run: Retrain, folder: Path) -> None:
    checkpoint_id = save_checkpoint(run.learner, folder, dataset_digest="")
    content = {"checkpoint_id": checkpoint_id, "budget": asdict(run.meter.budget)}
    write_atomically(folder / POINTER, json.dumps(content).encode())
    for older in folder.iterdir():
        if older.is_dir() and older.name != checkpoint_id:
            shutil.rmtree(older)
