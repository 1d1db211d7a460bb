"""Runs that can be stopped at any time and gone on with, bit for bit.

Now and then, and when it is told to stop, the learner is saved with all else that the run changes: beta_f, what was
computed once, its random numbers, and what it has cost so far.
"""

from collections.abc import Callable
from dataclasses import asdict

from saferule_ros.learning.unfinished import Unfinished
from saferule_ros.unlearning.budget import Budget
from saferule_ros.unlearning.run import UnlearningRun, UnlearnProgress, unlearn


def unlearn_resumably(
    run: UnlearningRun, unfinished: Unfinished, on_progress: Callable[[UnlearnProgress], None] = lambda _: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> int:  # fmt: skip
    """Takes all steps that are left, from where an earlier call stopped.

    Args:
        run: before its first step; after an earlier call it has to be made again in the same way.
        unfinished: to be discarded once the result is saved elsewhere.

    Returns:
        The number of steps done: fewer than `run.steps` if it was cancelled; what it has is then kept.

    Raises:
        TrainingDiverged: a loss is not finite.
    """
    if kept := unfinished.load(run.learner.device):
        run.go_on_from(kept.learner, Budget(**kept.more["budget"]), kept.more["state"], kept.tensors)

    def keep() -> None:
        unfinished.save(run.learner, run.tensors(), budget=asdict(run.meter.budget), state=run.state())

    def after_step(_: int) -> None:
        if unfinished.due:
            keep()

    done = unlearn(run, on_progress, cancelled, after_step)
    if done < run.steps:
        keep()
    return done
