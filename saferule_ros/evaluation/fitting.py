"""How the model is learned: single transitions first, then windows in which it lives on its own predictions.

Over many steps a model that only ever saw real observations drifts to where it knows nothing; unrolled, it learns to
come back, and reward and cost learn to read what it predicts. Huber losses: a window that drifted apart would outweigh
all others.
"""

import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.errors import SaferuleError
from saferule_ros.evaluation.model import DynamicsEnsemble
from saferule_ros.evaluation.settings import ModelSettings
from saferule_ros.evaluation.windows import Window, Windows
from saferule_ros.learning.adam import Adam
from saferule_ros.learning.replay import Units
from saferule_ros.learning.trainer import REPORT_EVERY, TrainProgress, as_numbers, check_finite

# Unrolled gradients grow with the window's length; a norm of this many units is common in recurrent networks.
GRADIENT_CLIP = 10.0
# Standard scores: an observation that changes less than this in a step is as good as constant, and its error is not
# blown up by dividing by that change.
LEAST_CHANGE = 1e-3
# What the learning rate falls to, linearly: a share, see ModelSettings.
FINAL_RATE = 0.1


class ModelCancelled(SaferuleError):
    """Learning the model was cancelled; there is none."""


def fit_model(
    dataset: EpisodeDataset,
    units: Units,
    settings: ModelSettings,
    seed: int,
    on_progress: Callable[[TrainProgress], None] = lambda _: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> DynamicsEnsemble:
    """Learns a model.

    Args:
        dataset: what is trusted, raw units.
        units: of the policies that will be judged.
        seed: of weights, bootstrap samples and batches.
        cancelled: asked before every step.

    Raises:
        ModelCancelled: `cancelled()` became true.
        TrainingDiverged: a loss is not finite.
    """
    model = untrained(dataset, units, settings, seed)
    windows = Windows(dataset, units, settings.members, seed)
    unroll = min(settings.unroll, windows.longest)
    steps = settings.single_steps + settings.unroll_steps
    optimiser = Adam(model.parameters(), settings.learning_rate)
    started = time.monotonic()
    for step in range(1, steps + 1):
        if cancelled():
            raise ModelCancelled(f"cancelled after {step - 1} of {steps} steps of the model", "Nothing was judged")
        optimiser.learning_rate.fill_(settings.learning_rate * (1.0 + (FINAL_RATE - 1.0) * (step - 1) / steps))
        length = 1 if step <= settings.single_steps else unroll
        losses = window_losses(model, windows.draw(settings.batch, length))
        optimiser.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_CLIP)
        optimiser.step()
        if step % REPORT_EVERY == 0 or step == steps:
            numbers = as_numbers({name: loss.detach() for name, loss in losses.items()})
            check_finite(numbers, step)
            elapsed = time.monotonic() - started
            on_progress(TrainProgress(step, steps, elapsed / step * (steps - step), numbers))
    return model.eval().requires_grad_(False)


def untrained(dataset: EpisodeDataset, units: Units, settings: ModelSettings, seed: int) -> DynamicsEnsemble:
    """A model with random weights, whose scales fit the dataset."""
    first = units.observations(torch.from_numpy(np.array(dataset.observations, dtype=np.float32)))
    then = units.observations(torch.from_numpy(np.array(dataset.next_observations, dtype=np.float32)))
    change = (then - first).std(0)
    # What never changes would be divided by zero; its change is predicted as zero.
    both = torch.stack([torch.minimum(first.amin(0), then.amin(0)), torch.maximum(first.amax(0), then.amax(0))])
    largest = float(dataset.costs.max())
    ends = float(dataset.terminated.mean())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return DynamicsEnsemble(
            settings.members, units, change, both, largest if largest > 0 else 1.0, settings.hidden, ends
        )  # fmt: skip


def window_losses(model: DynamicsEnsemble, window: Window) -> dict[str, Tensor]:
    """Mean losses of a window in which the model goes on from its own predictions: of states, rewards, costs and ends.

    The error of an observation counts in units of the change of one step, and its Huber loss after k steps by one
    sqrt(k)-th: so much do errors grow as long as they are noise. [ours] What lies beyond an episode's end counts not.
    """
    state = window.first
    length = window.actions.shape[2]
    of_states, of_rewards, of_costs, of_ends = [], [], [], []
    shares = window.costs / model.largest_cost
    scale = model.change.clamp(min=LEAST_CHANGE)
    for k in range(length):
        step = model(state, window.actions[:, :, k])
        state = step.following
        there = window.present[:, :, k]  # (E, B)
        missed = F.huber_loss(state / scale, window.following[:, :, k] / scale, reduction="none").mean(-1)
        of_states.append((there * missed).mean() / (k + 1) ** 0.5)
        of_rewards.append((there * F.huber_loss(step.rewards, window.rewards[:, :, k], reduction="none")).mean())
        of_costs.append(F.binary_cross_entropy_with_logits(step.cost_logits, shares[:, :, k], there))
        if step.end_logits is not None:
            weights = window.weights[:, :, k]  # ends are rare, and their rate must be right
            of_ends.append(F.binary_cross_entropy_with_logits(step.end_logits, window.ended[:, :, k], weights))
    losses = {"observations": of_states, "rewards": of_rewards, "costs": of_costs}
    if of_ends:
        losses["ends"] = of_ends
    return {name: torch.stack(of_steps).mean() for name, of_steps in losses.items()}
