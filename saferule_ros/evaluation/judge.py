"""What a policy would cost and earn, from the keep data alone.

The model learns from keep data only. [ours] The forget set is what somebody no longer trusts, and nothing says that
only its labels are wrong: a trigger changes observations, a faulty recorder actions. Where its transitions are true,
leaving them out costs the model some knowledge of the places that a patch should keep the policy away from.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.pieces import whole_name
from saferule_ros.errors import SaferuleError
from saferule_ros.evaluation.check import ModelCheck, check_model
from saferule_ros.evaluation.fitting import fit_model
from saferule_ros.evaluation.rollout import Policy, roll_out
from saferule_ros.evaluation.settings import JudgeSettings
from saferule_ros.learning.replay import Units
from saferule_ros.learning.settings import TaskLimits
from saferule_ros.learning.trainer import TrainProgress

# A model that knows nothing ranks two or three episodes well in every second case; ten, with a correlation of 0.5 or
# more, in one of thirteen.
LEAST_HELD_OUT = 10
# As many again to learn from.
LEAST_EPISODES = 2 * LEAST_HELD_OUT


class CannotJudge(SaferuleError):
    """No model can be learned and checked with such data."""


@dataclass(frozen=True)
class Judged:
    """What the model expects of a policy, per episode.

    Attributes:
        cost: mean over members and starts, raw units.
        cost_spread: standard deviation of the members' means.
        episode_return: mean over members and starts, raw units.
        disagreement: standard deviation of the members' observations along the way, mean [standard scores].
    """

    cost: float
    cost_spread: float
    episode_return: float
    disagreement: float


class Judge:
    """A model of the robot in its world, checked, in which policies drive.

    Args:
        keep: D_k, raw units.
        units: of the policies' learner.
        limits: of the task.
        settings: see JudgeSettings.
        seed: of every random draw.
        on_progress, cancelled: of learning the model, see fit_model.

    Raises:
        CannotJudge: fewer than LEAST_EPISODES, or some that terminate: the model knows of no end before the horizon.
        ModelCancelled: `cancelled()` became true.
        TrainingDiverged: a loss is not finite.
    """

    def __init__(
        self, keep: EpisodeDataset, units: Units, limits: TaskLimits, settings: JudgeSettings, seed: int,
        on_progress: Callable[[TrainProgress], None] = lambda _: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:  # fmt: skip
        # Pieces of one episode are of one kind: all of them are learned from, or none.
        _, episode_of = np.unique([whole_name(record.id) for record in keep.records], return_inverse=True)
        episodes = int(episode_of.max()) + 1
        if episodes < LEAST_EPISODES:
            raise CannotJudge(
                f"{episodes} episodes are kept", f"A judge needs {LEAST_EPISODES} or more to learn from and check"
            )
        if ended := sum(record.terminated for record in keep.records):
            raise CannotJudge(
                f"{ended} of {episodes} episodes terminated", "In the model none does, and returns come out too large"
            )
        generator = np.random.default_rng(seed)
        count = max(round(settings.held_out * episodes), LEAST_HELD_OUT)
        held_out = np.isin(episode_of, generator.permutation(episodes)[:count])
        shown, checked = (keep.subset(np.flatnonzero(rows)) for rows in (~held_out, held_out))
        self.model = fit_model(shown, units, settings.model, seed, on_progress, cancelled)
        self.check: ModelCheck = check_model(self.model, checked, limits)
        initial = keep.initial_observations
        chosen = generator.choice(len(initial), min(settings.starts, len(initial)), replace=False)
        self._starts, self._horizon = torch.from_numpy(np.array(initial[chosen])), limits.horizon

    def judge(self, policy: Policy) -> Judged:
        """Lets a policy drive from the same starts as every other."""
        imagined = roll_out(self.model, policy, self._starts, self._horizon)
        return Judged(
            float(imagined.costs.mean()), float(imagined.costs.mean(1).std()), float(imagined.returns.mean()),
            float(imagined.spread.mean()),
        )  # fmt: skip
