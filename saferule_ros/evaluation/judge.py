"""What a policy would cost and earn, from logs alone.

After a patch the model learns from keep data only. [ours] The forget set is what somebody no longer trusts, and nothing
says that only its labels are wrong: a trigger changes observations, a faulty recorder actions. Where its transitions
are true, leaving them out costs the model some knowledge of the places that a patch should keep the policy away from.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.evaluation.check import ModelCheck, check_model
from saferule_ros.evaluation.fitting import fit_model
from saferule_ros.evaluation.requirements import LEAST_HELD_OUT, episodes_to_judge_by
from saferule_ros.evaluation.rollout import Policy, roll_out
from saferule_ros.evaluation.settings import JudgeSettings
from saferule_ros.learning.replay import Units
from saferule_ros.learning.settings import TaskLimits
from saferule_ros.learning.trainer import TrainProgress


@dataclass(frozen=True)
class Judged:
    """What the model expects of a policy, per episode.

    Attributes:
        cost: mean over members and starts, raw units.
        cost_spread: standard deviation of the members' means.
        episode_return: mean over members and starts, raw units.
        disagreement: standard deviation of the members' observations along the way, mean [standard scores].
        ended: chance that the episode terminates before the horizon, mean over members and starts.
    """

    cost: float
    cost_spread: float
    episode_return: float
    disagreement: float
    ended: float = 0.0


class Judge:
    """A model of the robot in its world, checked, in which policies drive.

    Args:
        data: what is trusted, raw units: all of it in learning, D_k in a patch.
        units: of the policies' learner.
        limits: of the task.
        settings: see JudgeSettings.
        seed: of every random draw.
        on_progress, cancelled: of learning the model, see fit_model.

    Raises:
        CannotJudge: too few episodes; see episodes_to_judge_by.
        ModelCancelled: `cancelled()` became true.
        TrainingDiverged: a loss is not finite.
    """

    def __init__(
        self, data: EpisodeDataset, units: Units, limits: TaskLimits, settings: JudgeSettings, seed: int,
        on_progress: Callable[[TrainProgress], None] = lambda _: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:  # fmt: skip
        # Pieces of one episode are of one kind: all of them are learned from, or none.
        episode_of = episodes_to_judge_by(data)
        episodes = int(episode_of.max()) + 1
        generator = np.random.default_rng(seed)
        count = max(round(settings.held_out * episodes), LEAST_HELD_OUT)
        held_out = np.isin(episode_of, generator.permutation(episodes)[:count])
        shown, checked = (data.subset(np.flatnonzero(rows)) for rows in (~held_out, held_out))
        self.model = fit_model(shown, units, settings.model, seed, on_progress, cancelled)
        self.check: ModelCheck = check_model(self.model, checked, limits)
        initial = data.initial_observations
        chosen = generator.choice(len(initial), min(settings.starts, len(initial)), replace=False)
        self._starts, self._horizon = torch.from_numpy(np.array(initial[chosen])), limits.horizon

    def judge(self, policy: Policy) -> Judged:
        """Lets a policy drive from the same starts as every other."""
        imagined = roll_out(self.model, policy, self._starts, self._horizon)
        return Judged(
            float(imagined.costs.mean()), float(imagined.costs.mean(1).std()), float(imagined.returns.mean()),
            float(imagined.spread.mean()), float(imagined.ended.mean()),
        )  # fmt: skip
