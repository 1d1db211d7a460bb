"""Fine-tuning: the learner's own update, on the keep data alone. Nothing is done about the forget data."""

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.learning.captured import Losses
from saferule_ros.learning.learner import Learner
from saferule_ros.unlearning.schedule import FallingRateRun
from saferule_ros.unlearning.settings import FineTuneSettings


class FineTune(FallingRateRun):
    """See UnlearningRun. For every learner; lambda, where there is one, goes on as it was."""

    NAME = "fine_tune"

    def __init__(
        self, learner: Learner, forget: EpisodeDataset, keep: EpisodeDataset, settings: FineTuneSettings, seed: int
    ) -> None:
        super().__init__(learner, forget, keep, settings.steps, seed)
        self.settings = settings

    def take_step(self) -> Losses:
        """One step of the learner on D_k."""
        batch = self.keep.sample(self.learner.settings.batch, self.learner.generator)
        return self.learner.update(batch, self.keep)
