"""A run and its certificate: trained on one part of D_f and D_k, measured on the other, before and after."""

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.learning.calibration import raised_kappa
from saferule_ros.learning.learner import CriticLearner, Learner
from saferule_ros.learning.replay import Replay
from saferule_ros.unlearning.certificate import Certificate, PairValues, certify, pair_values
from saferule_ros.unlearning.held_out import Parts, hold_out
from saferule_ros.unlearning.methods import make_run
from saferule_ros.unlearning.settings import RunSettings


class CertifiedRun:
    """One run of a method.

    Args:
        method: name of the method, see methods.py.
        learner: goes on from its checkpoint; changed in place, or replaced (retraining): see `run.learner`.
        forget, keep: all of D_f and D_k, raw units.
        settings: of that method.
        seed: of which episodes are held out, of batches and noise, and of the pairs that are measured.

    Raises:
        MethodError: no such method, or not for this learner.
    """

    def __init__(
        self, method: str, learner: Learner, forget: EpisodeDataset, keep: EpisodeDataset, settings: RunSettings,
        seed: int,
    ) -> None:  # fmt: skip
        self.settings, self._seed = settings, seed
        self._forget, self._keep = (hold_out(part, settings.held_out, seed) for part in (forget, keep))
        self.run = make_run(method, learner, self._forget.used, self._keep.used, settings, seed)
        self._replays = self._measured(self._forget, self.run.forget), self._measured(self._keep, self.run.keep)
        # What is asked is settled by the agent as it was (the one given) and on all of D_k that is used, so that it is
        # the same for every method.
        shared = self.run.learner is learner and not self.run.left_out  # retraining has units of its own
        replay = self.run.keep if shared else learner.replay(self._keep.used)
        self._required = (
            raised_kappa(learner, self._keep.used, replay, settings.safe_quantile) + settings.cost_margin
            if isinstance(learner, CriticLearner)
            else float("nan")
        )
        self.before = self.values()

    def go_back_to(self, learner: Learner, steps: int) -> None:
        """Takes an earlier state of the run's learner for its result.

        Args:
            steps: that it had taken.
        """
        self.run.learner, self.run.steps_done = learner, steps
        self.run.release()

    def values(self) -> PairValues | None:
        """What the critics say of the pairs that are measured, always the same; None for a learner without critics."""
        learner = self.run.learner
        return pair_values(learner, *self._replays, self._seed) if isinstance(learner, CriticLearner) else None

    def certify(self) -> Certificate | None:
        """The certificate as things stand now; None for a learner without critics."""
        values = self.values()
        return None if values is None else self.certificate(values)

    def certificate(self, values: PairValues) -> Certificate:
        """The certificate for `values()`."""
        sizes = (0 if part.held_out is None else len(part.held_out) for part in (self._forget, self._keep))
        return certify(values, self.settings.percentile, self._required, *sizes)

    def _measured(self, part: Parts, used: Replay) -> Replay:
        """The run's own replay where that is what the learner would make, to hold the data once."""
        learner = self.run.learner
        if part.held_out is not None:
            return learner.replay(part.held_out)
        same = used.return_steps == learner.settings.return_steps and used.size == len(part.used)
        return used if same else learner.replay(part.used)
