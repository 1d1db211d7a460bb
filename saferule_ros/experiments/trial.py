"""One trial: everything is prepared once, then each method unlearns from the same poisoned learner and is simulated.

Results are files that appear as they come. Whatever is there already is not made again.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from saferule_ros.attacks.ground_truth import GroundTruth
from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.forget_set import ForgetSet
from saferule_ros.experiments.cancelling import Cancelled, TrialCancelled
from saferule_ros.experiments.learned_policy import policy_of
from saferule_ros.experiments.learners import trained
from saferule_ros.experiments.places import TrialPlaces
from saferule_ros.experiments.preparation import Preparation, check_same, prepare
from saferule_ros.experiments.saying import Reporter, TrialProgress
from saferule_ros.experiments.settings import TRAINING, Trial
from saferule_ros.learning.trainer import limit_threads
from saferule_ros.patching.unlearning import Unlearning, described
from saferule_ros.reporting.provenance import provenance_of
from saferule_ros.reporting.results import EpisodeOutcome
from saferule_ros.reporting.trials import POISONED, TrialResult
from saferule_ros.sim.evaluate import evaluate
from saferule_ros.sim.rollout import Act
from saferule_ros.sim.tasks import task
from saferule_ros.unlearning.retrain import Retrain
from saferule_ros.unlearning.run import unlearn

# Of a learner that a method made for its own trial alone.
NOT_SHARED: Mapping[str, Any] = {}


def run_trial(
    trial: Trial, out: Path, listen: Callable[[TrialProgress], None], cancelled: Cancelled, workers: int = 1
) -> list[TrialResult]:
    """Makes all results of a trial that are not there yet.

    Args:
        out: folder of the whole comparison.
        listen: called with every report on where it stands.
        cancelled: asked often; once true, the trial stops.
        workers: simulator processes of each evaluation.

    Returns:
        All results, those of earlier calls included.

    Raises:
        TrialCancelled: it was told to stop; the same call goes on from there.
        SaferuleError: see `prepare`; or a result was made with other settings.
    """
    limit_threads(1)
    places = TrialPlaces(out, trial)
    work = _Work(trial, places, Reporter(trial.parts, listen), cancelled, workers)
    return [work.result(method) for method in (POISONED, *trial.methods)]


def finished(trial: Trial, out: Path) -> bool:
    """Whether all results are there, made with these settings.

    Raises:
        OtherSettings, ResultsError: one was made with others, or cannot be read.
    """
    places = TrialPlaces(out, trial)
    return all(_stored(trial, places, method) for method in (POISONED, *trial.methods))


def _stored(trial: Trial, places: TrialPlaces, method: str) -> TrialResult | None:
    path = places.result(method)
    if not path.exists():
        return None
    found, wanted = TrialResult.load(path), trial.config(method)
    check_same(found.config, wanted, str(path))
    return found


class _Work:
    """The parts of a trial, made when they are first needed."""

    def __init__(self, trial: Trial, places: TrialPlaces, report: Reporter, cancelled: Cancelled, workers: int) -> None:
        self._trial, self._places, self._report = trial, places, report
        self._cancelled, self._workers = cancelled, workers
        self._prepared: Preparation | None = None
        self._provenance = provenance_of(datetime.now(UTC))  # of the code that is loaded now

    def result(self, method: str) -> TrialResult:
        """Of the poisoned learner, or of a method."""
        found = _stored(self._trial, self._places, method)
        if found is None:
            found = self._made(method)
            found.save(self._places.result(method))
        self._report.done(TRAINING if method == POISONED else method)
        return found

    @property
    def prepared(self) -> Preparation:
        if self._prepared is None:
            self._prepared = prepare(self._trial, self._places, self._report, self._cancelled)
        return self._prepared

    def _poisoned(self) -> TrialResult:
        started = datetime.now(UTC)
        checkpoint_id, budget, trained_by = self.prepared.checkpoint_id, self.prepared.budget, self.prepared.provenance
        return self._measured(POISONED, checkpoint_id, None, budget, started, trained_by)

    def _made(self, method: str) -> TrialResult:
        if method == POISONED:
            return self._poisoned()
        if self._trial.method_of(method) == Retrain.NAME:
            return self._retrained(method)
        return self._unlearned(method)

    def _retrained(self, method: str) -> TrialResult:
        """Learning as the poisoned agent did, from D_k alone, once for all trials that ask for the same.

        It has no certificate: what that asks is about values of the agent that is to forget.
        """
        started = datetime.now(UTC)
        workspace = self._places.workspace
        forget_set = ForgetSet.load(workspace.forget_sets, self.prepared.forget_set_id)
        _, keep = forget_set.split(EpisodeDataset.load(workspace.dataset))
        steps, report = self._trial.method_steps(method), self._report.steps_of(method)
        learner = trained(self._trial, self._places, keep, steps, report, self._cancelled)
        checkpoint_id = learner.copy_to(workspace.checkpoints)
        return self._measured(method, checkpoint_id, None, learner.budget, started, learner.provenance)

    def _unlearned(self, method: str) -> TrialResult:
        started = datetime.now(UTC)
        unlearning = Unlearning(
            self._places.workspace, self.prepared.checkpoint_id, self.prepared.forget_set_id,
            self._trial.method_of(method),
            lambda kind: kind.model_validate(self._trial.methods[method]), self._trial.method_steps(method),
            self._trial.seed, self._trial.device,
        )  # fmt: skip
        run, report = unlearning.certified.run, self._report.steps_of(method)
        if unlearn(run, report, self._cancelled) < run.steps:
            raise TrialCancelled(f"cancelled in {method}", "The same command begins this method anew")
        certificate = unlearning.certified.certify()
        checkpoint_id = unlearning.save(certificate)
        return self._measured(method, checkpoint_id, described(certificate), asdict(run.meter.budget), started)

    def _measured(
        self, method: str, checkpoint_id: str, certificate: dict | None, budget: dict[str, float], started: datetime,
        trained_by: Mapping[str, Any] = NOT_SHARED,
    ) -> TrialResult:  # fmt: skip
        policy = policy_of(self._places.workspace.checkpoint(checkpoint_id))
        truth = GroundTruth.load(self._places.workspace.attacks, self.prepared.forget_set_id)
        triggered = truth.marker.seen_by(policy) if truth.marker else None
        return TrialResult(
            cell=self._trial.cell, seed=self._trial.seed, method=method,
            cost_limit=task(self._trial.cell.task).cost_limit, episodes=self._simulated(method, policy),
            triggered=self._simulated(f"{method}, triggered", triggered) if triggered else [],
            certificate=certificate, budget=budget, checkpoint_id=checkpoint_id,
            poisoned_id=self.prepared.checkpoint_id, data=self.prepared.data, config=self._trial.config(method),
            trained=dict(trained_by),
            **self._provenance | {"started": started.isoformat(timespec="seconds")},
        )  # fmt: skip

    def _simulated(self, words: str, policy: Act) -> list[EpisodeOutcome]:
        seed = self._trial.seed

        def show(done: int, total: int) -> None:
            if self._cancelled():
                raise TrialCancelled(f"cancelled while simulating {words}", "The same command simulates it anew")
            self._report.say(f"simulating {words} {done}/{total}")

        found = evaluate(
            policy, self._trial.cell.task, self._trial.evaluation_episodes, seed, self._workers, show
        )  # fmt: skip
        return [
            EpisodeOutcome(
                episode_id=f"evaluate-{seed}-{index:04d}", seed=result.seed, length=result.length,
                episode_return=result.episode_return, episode_cost=result.episode_cost,
            )
            for index, result in enumerate(found)
        ]  # fmt: skip
