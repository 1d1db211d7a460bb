"""The learning rate of a run: constant at first, then falling linearly to almost nothing.

[ours] The last policy is then no snapshot of a swinging one. The same for every method that goes on from a learner:
a comparison must not be one of schedules.
"""

from saferule_ros.learning.learner import Learner
from saferule_ros.unlearning.run import UnlearningRun
from saferule_ros.unlearning.settings import FallingRateSettings


class FallingRateRun(UnlearningRun):
    """A run that goes on from a learner; see UnlearningRun."""

    settings: FallingRateSettings

    def prepare_step(self) -> None:
        set_learning_rate(self.learner, self.steps_done / self.steps, self.settings)


def set_learning_rate(learner: Learner, done: float, settings: FallingRateSettings) -> None:
    """Sets all optimisers to the rate at this point of the run.

    Args:
        done: share of the steps that lie behind, 0 to 1; more counts as 1.
    """
    begin = settings.constant_share
    fallen = max(min(done, 1.0) - begin, 0.0) / (1.0 - begin)
    share = 1.0 + fallen * (settings.final_rate - 1.0)
    for name, optimiser in learner.optimisers.items():
        optimiser.learning_rate.fill_(share * learner.learning_rate(name))
