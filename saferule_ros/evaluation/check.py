"""A check of the model itself, from logs alone: held-out episodes, whose actions are replayed in it.

[ours] The model is given an episode's first observation and its actions, and says what it cost. Episodes that it never
saw must come out in the order of what they did cost; and of those that it expects to keep the limit, as it will expect
it of the policy that is proposed, is measured by how much they cost more than that. This is necessary, not enough:
actions of a log do not answer to what the model imagines, those of a policy do. How far the members lie apart when a
policy drives is found with each policy (see rollout.py).
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.evaluation.model import DynamicsEnsemble
from saferule_ros.evaluation.ranking import rank_correlation
from saferule_ros.learning.settings import TaskLimits


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
    """

    episodes: int
    correlation: float
    predicted: float
    logged: float
    within: int
    shortfall: float


def check_model(model: DynamicsEnsemble, held_out: EpisodeDataset, limits: TaskLimits) -> ModelCheck:
    """Replays episodes that the model did not learn from."""
    # Per step: where single steps are to be forgotten, what is kept are pieces, which even their lengths would rank.
    share = np.array([record.length for record in held_out.records]) / limits.horizon
    predicted = replayed_costs(model, held_out).mean(0).numpy() / share
    logged = np.array([record.episode_cost for record in held_out.records]) / share
    within = predicted <= limits.cost_limit
    return ModelCheck(
        held_out.episodes, rank_correlation(predicted, logged), float(predicted.mean()), float(logged.mean()),
        int(within.sum()), _shortfall(logged[within] - predicted[within]),
    )  # fmt: skip


def _shortfall(missed: np.ndarray) -> float:
    """What to add to an expectation that fell short by so much each time."""
    if len(missed) < 2:  # a standard error asks for two
        return float("nan")
    return max(float(missed.mean() + missed.std(ddof=1) / np.sqrt(len(missed))), 0.0)


@torch.no_grad()
def replayed_costs(model: DynamicsEnsemble, dataset: EpisodeDataset) -> Tensor:
    """What each of E members says that the recorded actions of each episode cost in all: (E, episodes), raw units."""
    starts = torch.tensor([record.start for record in dataset.records])
    last = torch.tensor([record.length for record in dataset.records]) - 1
    first = model.units.observations(torch.from_numpy(np.array(dataset.observations)[starts.numpy()]))
    actions = model.units.actions(torch.from_numpy(np.array(dataset.actions)))
    states = first.unsqueeze(0).expand(model.members, -1, -1)
    total = torch.zeros(model.members, len(starts))
    for step in range(int(last.max()) + 1):
        rows = starts + last.clamp(max=step)  # episodes that are over wait for the others
        prediction = model(states, actions[rows].unsqueeze(0).expand(model.members, -1, -1))
        total += torch.where(step <= last, model.costs(prediction), 0.0)
        states = prediction.following
    return total
