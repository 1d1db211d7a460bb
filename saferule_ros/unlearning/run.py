"""One unlearning run, whatever the method: a learner that goes on from its checkpoint, a forget and a keep set.

A method is one file that derives from `UnlearningRun` and says what one step is; `unlearn` takes the steps.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.learning.captured import CapturedSteps, Losses
from saferule_ros.learning.flops import FlopCounter
from saferule_ros.learning.learner import Learner
from saferule_ros.learning.trainer import as_numbers, check_finite
from saferule_ros.unlearning.budget import Budget, Meter

# Progress is reported this often: a patch has a few hundred steps.
REPORT_EVERY = 10


@dataclass(frozen=True)
class UnlearnProgress:
    """Where a run stands after some step."""

    step: int
    steps: int
    time_left: float  # estimate [s]
    losses: dict[str, float]


class UnlearningRun(ABC):
    """Holds what is fixed during a run, and takes one step at a time.

    Args:
        learner: changed in place.
        forget, keep: D_f and D_k, raw units.
        steps: how many it will take.
        seed: of batches and noise.
        return_steps: n of the keep data's targets; None: the learner's.
    """

    NAME: ClassVar[str]

    def __init__(
        self, learner: Learner, forget: EpisodeDataset, keep: EpisodeDataset, steps: int, seed: int,
        return_steps: int | None = None,
    ) -> None:  # fmt: skip
        learner.generator.manual_seed(seed)
        self.learner = learner
        self.meter = Meter(self.computed_once)
        with self.meter.time():
            keep = self.learned_from(forget, keep, seed)
            with FlopCounter() as counter:
                self.keep = learner.replay(keep, return_steps)
        self._replay_flops = counter.total
        # Training from scratch has nothing to forget, and is given the same dataset twice.
        self.forget = self.keep if forget is keep else learner.replay(forget)
        self.steps, self.steps_done = steps, 0
        self._captured: CapturedSteps | None = None

    def learned_from(self, forget: EpisodeDataset, keep: EpisodeDataset, seed: int) -> EpisodeDataset:
        """What of D_k the method learns from: all, or what it does not suspect."""
        return keep

    @property
    def left_out(self) -> dict[str, int]:
        """Names of episodes of D_k to how many of their steps the method does not learn from."""
        return {}

    @property
    def kind(self) -> str:
        """Of the next step, where a method or its learner has steps of several kinds: they cost differently."""
        return self.learner.phase

    @property
    def forget_weight(self) -> float:
        """Mean weight of the forget pairs, 0 to 1; NaN where a method knows no weights."""
        return float("nan")

    @property
    def marked_values(self) -> list[int]:
        """Which observed values (indices) the forget pairs carry a mark in, where a method looks for one."""
        return []

    def computed_once(self) -> float:
        """FLOPs so far of what steps need and do not compute again."""
        return self._replay_flops

    def state(self) -> dict[str, Any]:
        """What changes from step to step besides the learner, as JSON."""
        return {}

    def tensors(self) -> dict[str, Tensor]:
        """The same that is tensors, by name."""
        return {}

    def restore(self, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Takes `state()` and `tensors()` of an earlier part of the same run."""
        assert not state and not tensors, f"{self.NAME} keeps nothing, there are {[*state, *tensors]}"

    def go_on_from(
        self, learner: Learner, budget: Budget, state: Mapping[str, Any], tensors: Mapping[str, Tensor]
    ) -> None:
        """Goes on from where an earlier part of this very run stopped: exactly as if it had not stopped.

        Args:
            learner: the run's, as it was saved then.
            budget: what that part cost.
            state, tensors: of that part.
        """
        self.learner, self.steps_done = learner, budget.steps
        self.release()
        self.restore(state, tensors)
        self.meter.go_on_from(budget)

    @property
    def generators(self) -> list[torch.Generator]:
        """All that steps draw random numbers from."""
        return [self.learner.generator]

    def step(self) -> Losses:
        """One step. Returns losses and what else is worth watching, scalars without gradient."""
        if self._captured is None:
            self._captured = CapturedSteps(self.learner.device, self.generators)
        self.prepare_step()
        with self.meter.step(self.kind):
            losses = self._captured.take(self.kind, self.take_step)
        self.steps_done += 1
        self.learner.steps_done += 1
        return losses

    def release(self) -> None:
        """Lets go of captured steps, which hold memory of the device and are of the learner as it is."""
        self._captured = None

    def prepare_step(self) -> None:  # noqa: B027 - most methods have nothing to prepare
        """Sets what differs from one step to the next, before each."""

    @abstractmethod
    def take_step(self) -> Losses:
        """What one step of this method is, the same for all of a kind; see `step` and CapturedSteps."""


def unlearn(
    run: UnlearningRun,
    on_progress: Callable[[UnlearnProgress], None] = lambda _: None,
    cancelled: Callable[[], bool] = lambda: False,
    after_step: Callable[[int], None] = lambda _: None,
) -> int:
    """Takes all steps of a run that are left.

    Args:
        on_progress: called every REPORT_EVERY steps and at the end.
        cancelled: asked before every step.
        after_step: called after every step with the number of steps done; what it takes is not the run's time.

    Returns:
        The number of steps done: fewer than `run.steps` if it was cancelled.

    Raises:
        TrainingDiverged: a loss is not finite.
    """
    started, first = time.monotonic(), run.steps_done
    while run.steps_done < run.steps:
        if cancelled():
            break
        with run.meter.time():
            losses = run.step()
            step = run.steps_done
            report = step % REPORT_EVERY == 0 or step == run.steps
            numbers = as_numbers(losses) if report else {}
        check_finite(numbers, step)
        after_step(step)
        if report:
            time_left = (time.monotonic() - started) / (step - first) * (run.steps - step)
            on_progress(UnlearnProgress(step, run.steps, time_left, numbers))
    run.release()
    return run.steps_done
