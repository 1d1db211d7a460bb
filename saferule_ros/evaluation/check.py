"""A check of the model itself, from logs alone: held-out episodes, whose actions are replayed in it.

[ours] The model is given an episode's first observation and its actions, and says what it cost. Episodes that it never
saw must come out in the order of what they did cost; and of those that it expects to keep the limit, as it will expect
it of the policy that is proposed, is measured by how much they cost more than that. This is necessary, not enough:
actions of a log do not answer to what the model imagines, those of a policy do. How far the members lie apart when a
policy drives is found with each policy (see rollout.py).
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.evaluation.model import DynamicsEnsemble
from saferule_ros.evaluation.ranking import rank_correlation
from saferule_ros.learning.settings import TaskLimits

# Share of the horizon: a robot that falls is on its way down for some steps, and when it counts as fallen is a matter
# of one limit. A model that is late by so little has known it.
LATE = 0.01


@dataclass(frozen=True)
class ModelCheck:
    """What replays of held-out episodes showed.

    Attributes:
        episodes: how many there were.
        correlation: Spearman's rho of predicted and logged costs per step; NaN where all cost the same.
        predicted, logged: mean cost by the model and by the log, raw units for a full episode.
        within: how many of the episodes it expects to keep the cost limit.
        shortfall: what these cost more than it expects, mean and one standard error of it, raw units for a full
            episode; 0 if they cost less; NaN with fewer than two.
        ended: share of the episodes that terminated.
        expected_ended: the model's chance of that in the mean, up to where each was over; of those that terminated a
            little after as well.
    """

    episodes: int
    correlation: float
    predicted: float
    logged: float
    within: int
    shortfall: float
    ended: float = 0.0
    expected_ended: float = 0.0


def check_model(model: DynamicsEnsemble, held_out: EpisodeDataset, limits: TaskLimits) -> ModelCheck:
    """Replays episodes that the model did not learn from."""
    # Per step: where single steps are to be forgotten, what is kept are pieces, and what terminated is short; their
    # lengths alone would rank costs.
    share = np.array([record.length for record in held_out.records]) / limits.horizon
    replayed = replay(model, held_out, late=math.ceil(LATE * limits.horizon))
    predicted = replayed.costs.mean(0).numpy() / share
    logged = np.array([record.episode_cost for record in held_out.records]) / share
    within = predicted <= limits.cost_limit
    return ModelCheck(
        held_out.episodes, rank_correlation(predicted, logged), float(predicted.mean()), float(logged.mean()),
        int(within.sum()), _shortfall(logged[within] - predicted[within]),
        float(np.mean([record.terminated for record in held_out.records])), float(replayed.ended.mean()),
    )  # fmt: skip


def _shortfall(missed: np.ndarray) -> float:
    """What to add to an expectation that fell short by so much each time."""
    if len(missed) < 2:  # a standard error asks for two
        return float("nan")
    return max(float(missed.mean() + missed.std(ddof=1) / np.sqrt(len(missed))), 0.0)


class Replayed(NamedTuple):
    """What each of E members says of the recorded actions of each episode, up to where the episode was over."""

    costs: Tensor  # (E, episodes) in all, raw units
    ended: Tensor  # (E, episodes) chance that it terminated


@torch.no_grad()
def replay(model: DynamicsEnsemble, dataset: EpisodeDataset, late: int = 0) -> Replayed:
    """Gives the model each episode's first observation, and its actions one after another.

    Args:
        late: so many steps after the end of an episode that terminated it may still be expected to, with its last
            action again and again.
    """
    starts = torch.tensor([record.start for record in dataset.records])
    last = torch.tensor([record.length for record in dataset.records]) - 1
    first = model.units.observations(torch.from_numpy(np.array(dataset.observations)[starts.numpy()]))
    actions = model.units.actions(torch.from_numpy(np.array(dataset.actions)))
    states = first.unsqueeze(0).expand(model.members, -1, -1)
    total = torch.zeros(model.members, len(starts))
    alive = torch.ones_like(total)
    terminated = torch.tensor([record.terminated for record in dataset.records])
    until = torch.where(terminated, last + late, last)
    for step in range(int(until.max()) + 1):
        rows = starts + last.clamp(max=step)  # episodes that are over wait for the others
        prediction = model(states, actions[rows].unsqueeze(0).expand(model.members, -1, -1))
        total += torch.where(step <= last, alive * model.costs(prediction), 0.0)
        alive = torch.where(step <= until, alive * model.going_on(prediction), alive)
        states = prediction.following
    return Replayed(total, 1.0 - alive)
