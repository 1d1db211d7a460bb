"""Offline learning from a dataset, from the first gradient step to the last."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.errors import SaferuleError
from saferule_ros.learning.algorithms import make_learner
from saferule_ros.learning.captured import CapturedSteps, Losses
from saferule_ros.learning.learner import Learner
from saferule_ros.learning.replay import Units
from saferule_ros.learning.settings import CommonSettings, TaskLimits
from saferule_ros.learning.unfinished import Unfinished

# Progress is reported this often: seldom enough to cost nothing, often enough for a live bar.
REPORT_EVERY = 50


@dataclass(frozen=True)
class TrainProgress:
    """Where training stands."""

    step: int
    steps: int
    time_left: float  # estimate [s]
    losses: dict[str, float] = field(default_factory=dict)


class TrainingDiverged(SaferuleError):
    """A loss became NaN or infinite."""


class TrainingCancelled(SaferuleError):
    """It was told to stop."""


def train(
    dataset: EpisodeDataset,
    limits: TaskLimits,
    settings: CommonSettings,
    action_bounds: tuple[np.ndarray, np.ndarray],
    steps: int,
    seed: int,
    on_progress: Callable[[TrainProgress], None] = lambda _: None,
    device: torch.device | str = "cpu",
    unfinished: Unfinished | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    after_step: Callable[[Learner, int], None] = lambda *_: None,
) -> Learner:
    """Learns a policy from all of a dataset.

    Args:
        dataset: the transitions, raw units.
        limits: cost limit and horizon of the task.
        settings: of the algorithm that is to learn.
        action_bounds: low and high, each (A,), raw units.
        steps: gradient steps.
        seed: of weights, batches and noise; the same seed gives the same learner on one machine.
        device: cpu or cuda.
        unfinished: where it is kept now and then, and when it is told to stop; a call that finds something there goes
            on from it, unless it took more steps than are asked for. To be discarded once the result is saved.
        cancelled: asked before every step.
        after_step: called after every step with the learner and the number of steps behind it.

    Raises:
        TrainingDiverged: a loss is not finite.
        TrainingCancelled: `cancelled()` became true.
    """
    found = unfinished.load(device) if unfinished else None
    if found and found.learner.steps_done <= steps:
        learner = found.learner
    else:
        learner = make_learner(Units.of(dataset, *action_bounds), limits, settings, seed, device)
    replay = learner.replay(dataset)
    captured = CapturedSteps(learner.device, [learner.generator])

    def take_step() -> Losses:
        return learner.update(replay.sample(settings.batch, learner.generator), replay)

    first, started = learner.steps_done, time.monotonic()
    for step in range(first + 1, steps + 1):
        if cancelled():
            if unfinished:
                unfinished.save(learner)
            hint = "The same command goes on from there" if unfinished else "Nothing was kept"
            raise TrainingCancelled(f"cancelled after {step - 1} of {steps} steps", hint)
        if unfinished and unfinished.due:
            unfinished.save(learner)
        losses = captured.take(learner.phase, take_step)
        learner.steps_done += 1
        if step % REPORT_EVERY == 0 or step == steps:
            numbers = as_numbers(losses)
            check_finite(numbers, step)
            elapsed = time.monotonic() - started
            on_progress(TrainProgress(step, steps, elapsed / (step - first) * (steps - step), numbers))
        after_step(learner, step)
    return learner


def as_numbers(losses: Losses) -> dict[str, float]:
    """Plain numbers: read off the device only when somebody looks, as that waits for all work under way."""
    return {name: float(value) for name, value in losses.items()}


def check_finite(losses: Mapping[str, float], step: int) -> None:
    """Raises TrainingDiverged naming the first loss that is not finite."""
    for name, value in losses.items():
        if not np.isfinite(value):
            raise TrainingDiverged(
                f"{name} is {value} at step {step}",
                "Lower learning_rate, and check the dataset with `saferule data info`",
            )


def limit_threads(count: int) -> None:
    """Sets torch's threads: small networks gain nothing from more than one, and the robot needs the cores."""
    torch.set_num_threads(count)
