"""A check of the model itself, from logs alone: held-out episodes, whose actions are replayed in it.

[ours] The model is given an episode's first observation and its actions, and says what it cost; episodes that it never
saw must come out in the order of what they did cost. That is necessary, not enough: actions of a log do not answer to
what the model imagines, those of a policy do. How far the members lie apart when a policy drives is found with each
policy (see rollout.py).
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.evaluation.model import DynamicsEnsemble
from saferule_ros.evaluation.ranking import rank_correlation


@dataclass(frozen=True)
class ModelCheck:
    """What replays of held-out episodes showed.

    Attributes:
        episodes: how many there were.
        correlation: Spearman's rho of predicted and logged costs per step; NaN where all cost the same.
        predicted, logged: mean episode cost by the model and by the log, raw units.
    """

    episodes: int
    correlation: float
    predicted: float
    logged: float


def check_model(model: DynamicsEnsemble, held_out: EpisodeDataset) -> ModelCheck:
    """Replays episodes that the model did not learn from."""
    predicted = replayed_costs(model, held_out).mean(0).numpy()
    logged = np.array([record.episode_cost for record in held_out.records])
    # Per step: where single steps are to be forgotten, what is kept are pieces, which even their lengths would rank.
    lengths = np.array([record.length for record in held_out.records])
    correlation = rank_correlation(predicted / lengths, logged / lengths)
    return ModelCheck(held_out.episodes, correlation, float(predicted.mean()), float(logged.mean()))


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
