"""What the cost limit means to critics that have a noise of their own [ours].

kappa as the critics can tell it, and how far a policy is from it: at initial states, which the limit speaks of, and
at dataset states, some of which no policy leaves safely.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.pieces import Wholes, wholes
from saferule_ros.learning.learner import CriticLearner, by_kind
from saferule_ros.learning.replay import Replay
from saferule_ros.learning.settings import TaskLimits

# A quantile over this many pairs is exact to a fraction of a percent; torch refuses more than 16 million.
PAIRS = 100_000
# Of the policy at states a mean over this many is exact to a few percent; a policy may weigh hundreds of actions for
# each of them, all at once in memory.
STATES = 2_000


class Calibration(NamedTuple):
    """How a learner stands to its cost limit; all in discounted cost, in the robot's own unit of it.

    Attributes:
        kappa: the cost limit as a cost value.
        excess_initial: cost value of the policy's actions at initial states, above kappa; its mean.
        excess_dataset: the same at dataset states. Above zero with `excess_initial` below: the policy is expected to
            keep the limit, though some states that the data shows are lost.
        critic_noise: standard deviation over the cost critics, its mean at dataset states. Beside a large one a small
            excess says nothing.
    """

    kappa: float
    excess_initial: float
    excess_dataset: float
    critic_noise: float


@torch.no_grad()
def calibrate(learner: CriticLearner, replay: Replay) -> Calibration:
    """How a learner stands to its cost limit, on the data it learned from."""
    policy = learner.policy()

    def at(observations: Tensor) -> tuple[float, float]:
        predicted = learner.critics(observations, policy(observations))  # (2N, S)
        _, cost = by_kind(predicted)
        excess, spread = learner.values(predicted).cost.mean() - learner.kappa, cost.std(0).mean()
        return float(excess) / learner.units.cost_scale, float(spread) / learner.units.cost_scale

    excess_initial, _ = at(some(replay.initial_observations, STATES))
    excess_dataset, noise = at(some(replay.all.observations, STATES))
    return Calibration(learner.kappa / learner.units.cost_scale, excess_initial, excess_dataset, noise)


@torch.no_grad()
def raised_kappa(learner: CriticLearner, dataset: EpisodeDataset, replay: Replay, quantile: float) -> float:
    """The larger of kappa and a quantile of Q_c over episodes within the cost limit [learner units].

    The textbook kappa (see TaskLimits.cost_value_limit) can lie below the critics' noise; the constraint would then
    call everything unsafe.

    Args:
        dataset, replay: the keep data, the same transitions in both.
        quantile: 0 to 1.
    """
    safe = episodes_within_limit(dataset, learner.limits)
    if not len(safe):
        return learner.kappa
    rows = some(torch.from_numpy(dataset.rows_of(safe)), PAIRS).to(learner.device)
    cost = learner.values(learner.critics(replay.all.observations[rows], replay.all.actions[rows])).cost
    return max(learner.kappa, float(torch.quantile(cost, quantile)))


def episodes_within_limit(dataset: EpisodeDataset, limits: TaskLimits) -> np.ndarray:
    """Which records (their numbers) are of episodes that keep the cost limit, see wholes_within_limit."""
    found = wholes(dataset)
    return np.flatnonzero(wholes_within_limit(found, limits)[found.of_record])


def wholes_within_limit(found: Wholes, limits: TaskLimits) -> np.ndarray:
    """Which episodes (W,) keep the cost limit, as bool.

    The limit is of a horizon's steps. An episode that was cut, or is here in pieces (see dataset/pieces.py; all of them
    together), is asked to keep the share of it that its steps are of the horizon. The rest of a costly episode would
    pass for a safe one otherwise, and so would what lies before the harm: of SafetyPointCircle1's keep data with
    BAFFLE-style poison (15 %) a sixth of what seemed worth imitating was of episodes that cost 140. A recorder cuts at
    each lost message, too. One that terminated early is whole: nothing more would have come.
    """
    full = found.lengths / limits.horizon
    shares = np.where(found.cut | ~found.terminated, full, np.maximum(full, 1.0))
    return found.costs <= shares * limits.cost_limit


def some(rows: Tensor, most: int) -> Tensor:
    """At most `most` of them, always the same. Drawn, because every n-th would fall into step with the episodes."""
    if len(rows) <= most:
        return rows
    return rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:most].to(rows.device)]
