"""Retraining from scratch on the keep data: what every unlearning method is judged against, and the dearest.

A fresh learner of the same algorithm, settings and limits learns from D_k alone, for as many steps as the one that it
replaces has behind it, patches included, as if D_f had never been: its units are those of D_k, too.
"""

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.learning.algorithms import make_learner
from saferule_ros.learning.captured import Losses
from saferule_ros.learning.learner import Learner
from saferule_ros.learning.replay import Units
from saferule_ros.unlearning.run import UnlearningRun
from saferule_ros.unlearning.settings import RetrainSettings


class Retrain(UnlearningRun):
    """See UnlearningRun; `learner` is the fresh one here, and the one that was given is left as it was."""

    NAME = "retrain"

    def __init__(
        self, learner: Learner, forget: EpisodeDataset, keep: EpisodeDataset, settings: RetrainSettings, seed: int
    ) -> None:
        bounds = (learner.units.action_low.cpu().numpy(), learner.units.action_high.cpu().numpy())
        fresh = make_learner(Units.of(keep, *bounds), learner.limits, learner.settings, seed, learner.device)
        super().__init__(fresh, forget, keep, settings.steps or learner.steps_done, seed)
        self.settings = settings

    def take_step(self) -> Losses:
        """One step of the fresh learner on D_k."""
        batch = self.keep.sample(self.learner.settings.batch, self.learner.generator)
        return self.learner.update(batch, self.keep)
