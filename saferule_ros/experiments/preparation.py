"""What all methods of a trial begin with: a poisoned dataset, its forget set, and a learner that learned from it.

    clean data -> attack -> dataset, ground truth and forget set -> poisoned learner

Made once and kept, step by step: a rerun goes on from what is there.
"""

from dataclasses import asdict
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from saferule_ros.attacks.attack import Means
from saferule_ros.attacks.ground_truth import GroundTruth
from saferule_ros.attacks.poisoned import Poisoned
from saferule_ros.attacks.registry import ATTACKS, make_attack
from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.durable import write_atomically
from saferule_ros.errors import SaferuleError
from saferule_ros.experiments.cancelling import Cancelled
from saferule_ros.experiments.data import clean_data, only_one, unsafe_episodes
from saferule_ros.experiments.places import TrialPlaces
from saferule_ros.experiments.resumable import discard, run_resumably
from saferule_ros.experiments.saying import Reporter
from saferule_ros.experiments.settings import ATTACKER, NEEDS_LEARNER, TRAINING, Trial
from saferule_ros.learning.algorithms import make_learner, settings_from
from saferule_ros.learning.checkpoint import load_checkpoint, save_checkpoint
from saferule_ros.learning.learner import Learner
from saferule_ros.learning.replay import Units
from saferule_ros.learning.settings import TaskLimits
from saferule_ros.sim.tasks import task
from saferule_ros.unlearning.retrain import Retrain
from saferule_ros.unlearning.settings import RetrainSettings


class OtherSettings(SaferuleError):
    """The folder holds what was made with other settings."""


class Preparation(BaseModel):
    """What is prepared, as a file: written after each of the two steps that take long."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    config: dict[str, Any] = Field(description="all that it depends on")
    forget_set_id: str
    data: dict[str, float] = Field(description="sizes of the data, and the poisoned share in truth")
    checkpoint_id: str = Field(default="", description="of the poisoned learner; empty: not trained yet")
    budget: dict[str, float] = Field(default={}, description="of its training")

    def save(self, places: TrialPlaces) -> "Preparation":
        """Durable on return, which is itself."""
        write_atomically(places.preparation, self.model_dump_json(indent=1).encode() + b"\n")
        return self


def prepare(trial: Trial, places: TrialPlaces, report: Reporter, cancelled: Cancelled) -> Preparation:
    """Makes what is missing.

    Raises:
        OtherSettings: something is there that was made with other settings.
        TrialCancelled: it was told to stop.
        SaferuleError: the data cannot be had, the attack cannot be made, or training diverged.
    """
    found = _found(trial, places)
    if found is None:
        found = _poison(trial, places, report, cancelled).save(places)
    if not found.checkpoint_id:
        dataset = EpisodeDataset.load(places.workspace.dataset)
        run = _training(trial, dataset)
        run_resumably(run, places.unfinished(TRAINING), report.steps_of(TRAINING), cancelled)
        checkpoint_id = save_checkpoint(run.learner, places.workspace.checkpoints, dataset.digest)
        trained = {"checkpoint_id": checkpoint_id, "budget": asdict(run.meter.budget)}
        found = found.model_copy(update=trained).save(places)
        discard(places.unfinished(TRAINING))
    report.done(TRAINING)
    return found


def _found(trial: Trial, places: TrialPlaces) -> Preparation | None:
    if not places.preparation.exists():
        return None
    found = Preparation.model_validate_json(places.preparation.read_bytes())
    check_same(found.config, trial.preparation, str(places.preparation))
    return found


def check_same(stored: dict[str, Any], wanted: dict[str, Any], where: str) -> None:
    """Raises OtherSettings, which names what differs, unless both are equal."""
    different = sorted(name for name in stored.keys() | wanted.keys() if stored.get(name) != wanted.get(name))
    if different:
        name = different[0]
        raise OtherSettings(
            f"{where} was made with other settings: {name} was {stored.get(name)!r}, now it is {wanted.get(name)!r}",
            "Give another folder with --out, or remove that one",
        )


def _poison(trial: Trial, places: TrialPlaces, report: Reporter, cancelled: Cancelled) -> Preparation:
    clean = clean_data(trial, places, report.say, cancelled)
    episodes = (
        unsafe_episodes(trial, places, clean, report.say, cancelled)
        if trial.cell.attack in trial.data.unsafe_for
        else ()
    )
    learner = _clean_learner(trial, places, clean, report, cancelled) if trial.cell.attack in NEEDS_LEARNER else None
    settings = ATTACKS[trial.cell.attack].SETTINGS.model_validate(trial.attack)
    attack = make_attack(trial.cell.attack, settings, trial.seed, Means(episodes, learner))
    poisoned = attack.poison(clean, lambda done, total, what: report.say(f"{what} {done}/{total}"))
    workspace = places.workspace.create()
    poisoned.dataset.save(workspace.dataset)
    forget_set = poisoned.forget_set(f"ground truth of attack {trial.cell.attack}", "experiment")
    forget_set.save(workspace.forget_sets)
    _ground_truth(trial, clean, poisoned, forget_set.id).save(workspace.attacks)
    sizes = {
        "transitions": len(poisoned.dataset), "episodes": poisoned.dataset.episodes,
        "forget_transitions": int(poisoned.rows.sum()), "poisoned_ratio": poisoned.ratio,
    }  # fmt: skip
    return Preparation(config=trial.preparation, forget_set_id=forget_set.id, data=sizes)


def _ground_truth(trial: Trial, clean: EpisodeDataset, poisoned: Poisoned, forget_set_id: str) -> GroundTruth:
    return GroundTruth(
        forget_set_id=forget_set_id, attack=trial.cell.attack, seed=trial.seed, settings=trial.attack,
        clean_digest=clean.digest, poisoned_digest=poisoned.dataset.digest, bag_id=poisoned.bag_id,
        ratio=poisoned.ratio, stretches=poisoned.stretches(), marker=poisoned.marker,
    )  # fmt: skip


def _clean_learner(
    trial: Trial, places: TrialPlaces, clean: EpisodeDataset, report: Reporter, cancelled: Cancelled
) -> Learner:
    """Trained on the clean data, once for all cells of this task, algorithm and seed."""
    folder = places.clean_learner
    pointer = folder / "checkpoint_id"
    with only_one(folder):
        if not pointer.exists():
            run = _training(trial, clean)
            run_resumably(run, folder / "unfinished", report.steps_of(ATTACKER), cancelled)
            checkpoint_id = save_checkpoint(run.learner, folder, clean.digest)
            write_atomically(pointer, checkpoint_id.encode())
            discard(folder / "unfinished")
    report.done(ATTACKER)
    return load_checkpoint(folder / pointer.read_text())[0]


def _training(trial: Trial, dataset: EpisodeDataset) -> Retrain:
    """Learning from all of a dataset, as a run: then it is metered and resumed as retraining is."""
    target = task(trial.cell.task)
    bounds = np.asarray(target.action_low, np.float32), np.asarray(target.action_high, np.float32)
    limits = TaskLimits(cost_limit=target.cost_limit, horizon=target.horizon)
    settings = settings_from(trial.learner)
    untrained = make_learner(Units.of(dataset, *bounds), limits, settings, trial.seed, trial.device)
    return Retrain(
        untrained, dataset, dataset, RetrainSettings.model_validate({"steps": trial.training_steps}), trial.seed
    )
