"""Training from scratch that can be stopped at any time and gone on with, bit for bit.

Poisoned learners and retrained ones take up to hours. Now and then, and when they are told to stop, the learner is
saved with what it has cost so far.
"""

import time
from collections.abc import Callable
from dataclasses import asdict

from saferule_ros.experiments.cancelling import Cancelled, TrialCancelled
from saferule_ros.learning.unfinished import SAVE_EVERY, Unfinished
from saferule_ros.unlearning.budget import Budget
from saferule_ros.unlearning.retrain import Retrain
from saferule_ros.unlearning.run import UnlearnProgress, unlearn


def run_resumably(
    run: Retrain, unfinished: Unfinished, on_progress: Callable[[UnlearnProgress], None], cancelled: Cancelled,
    save_every: float = SAVE_EVERY,
) -> None:  # fmt: skip
    """Takes all steps that are left, from where an earlier call with the same folder stopped.

    Args:
        run: before its first step; after an earlier call it has to be made again in the same way.
        unfinished: to be discarded once the result is saved elsewhere.
        save_every: seconds.

    Raises:
        TrialCancelled: it was told to stop; what it has is kept.
        TrainingDiverged: a loss is not finite.
    """
    if found := unfinished.load(run.learner.device):
        learner, stored = found
        run.go_on_from(learner, Budget(**stored["budget"]))
    saved = time.monotonic()

    def keep() -> None:
        unfinished.save(run.learner, budget=asdict(run.meter.budget))

    def after_step(_: int) -> None:
        nonlocal saved
        if time.monotonic() - saved > save_every:
            keep()
            saved = time.monotonic()

    unlearn(run, on_progress, cancelled, after_step)
    if run.steps_done < run.steps:
        keep()
        raise TrialCancelled(f"cancelled after {run.steps_done} of {run.steps} steps", "The same command goes on there")
