"""What all methods of a trial begin with: a poisoned dataset, its forget set, and a learner that learned from it.

    clean data -> attack -> dataset, ground truth and forget set -> poisoned learner

Made once and kept, step by step: a rerun goes on from what is there.
"""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from saferule_ros.attacks.attack import AttackSettings, Means
from saferule_ros.attacks.baffle import BaffleSettings, learn_adversary
from saferule_ros.attacks.ground_truth import GroundTruth
from saferule_ros.attacks.naming import imperfect_forget_set
from saferule_ros.attacks.poisoned import Poisoned
from saferule_ros.attacks.registry import ATTACKS, make_attack
from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.durable import write_atomically
from saferule_ros.dataset.episode import Episode
from saferule_ros.errors import SaferuleError
from saferule_ros.experiments.cancelling import Cancelled, TrialCancelled
from saferule_ros.experiments.data import clean_data, unsafe_episodes
from saferule_ros.experiments.learners import trained
from saferule_ros.experiments.places import TrialPlaces
from saferule_ros.experiments.saying import Reporter
from saferule_ros.experiments.settings import ATTACKER, LEARNING_VERSION, NEEDS_LEARNER, TRAINING, Trial
from saferule_ros.experiments.sharing import only_one
from saferule_ros.learning.checkpoint import load_checkpoint, save_checkpoint
from saferule_ros.learning.learner import Learner
from saferule_ros.settings import name_of


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
    provenance: dict[str, Any] = Field(default={}, description="of its training: when, with what, on what machine")

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
        learner = trained(trial, places, dataset, trial.training_steps, report.steps_of(TRAINING), cancelled)
        made = {
            "checkpoint_id": learner.copy_to(places.workspace.checkpoints), "budget": learner.budget,
            "provenance": learner.provenance,
        }  # fmt: skip
        found = found.model_copy(update=made).save(places)
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
    settings = ATTACKS[trial.cell.attack].SETTINGS.model_validate(trial.attack)
    means = _means(trial, places, clean, settings, report, cancelled)
    attack = make_attack(trial.cell.attack, settings, trial.seed, means)
    poisoned = attack.poison(clean, lambda done, total, what: report.say(f"{what} {done}/{total}"))
    workspace = places.workspace.create()
    poisoned.dataset.save(workspace.dataset)
    forget_set = imperfect_forget_set(
        poisoned, trial.cell.precision, trial.cell.recall, trial.seed, f"named after attack {trial.cell.attack}",
        "experiment",
    )  # fmt: skip
    forget_set.save(workspace.forget_sets)
    _ground_truth(trial, clean, poisoned, forget_set.id).save(workspace.attacks)
    named = forget_set.chosen(poisoned.dataset)
    right = int((named & poisoned.rows).sum())
    sizes = {
        "transitions": len(poisoned.dataset), "episodes": poisoned.dataset.episodes,
        "forget_transitions": int(named.sum()), "poisoned_ratio": poisoned.ratio,
        "precision": right / int(named.sum()), "recall": right / int(poisoned.rows.sum()),
    }  # fmt: skip
    return Preparation(config=trial.preparation, forget_set_id=forget_set.id, data=sizes)


def _means(
    trial: Trial, places: TrialPlaces, clean: EpisodeDataset, settings: AttackSettings, report: Reporter,
    cancelled: Cancelled,
) -> Means:  # fmt: skip
    """What the attacker of this trial has."""
    attack = trial.cell.attack
    episodes: Sequence[Episode] = ()
    if attack in trial.data.unsafe_for:
        episodes = unsafe_episodes(trial, places, clean, report.say, cancelled)
    learner = adversary = None
    if attack in NEEDS_LEARNER:
        found = trained(trial, places, clean, trial.training_steps, report.steps_of(ATTACKER), cancelled)
        learner, _ = load_checkpoint(found.checkpoint)
        report.done(ATTACKER)
    if isinstance(settings, BaffleSettings):
        adversary = _adversary(trial, places, clean, settings, report, cancelled)
    return Means(episodes, learner, adversary)


def _adversary(
    trial: Trial, places: TrialPlaces, clean: EpisodeDataset, settings: BaffleSettings, report: Reporter,
    cancelled: Cancelled,
) -> Learner:  # fmt: skip
    """Learned once for all algorithms and ratios: it depends on neither."""
    asked = settings.model_dump(mode="json", include={"adversary", "adversary_steps"}) | {
        "dataset": clean.digest, "version": LEARNING_VERSION
    }  # fmt: skip
    folder = places.adversaries / name_of(asked)
    pointer = folder / "checkpoint_id"

    def show(done: int, total: int, what: str) -> None:
        if cancelled():
            raise TrialCancelled(f"cancelled while {what}, {done} of {total}", "The same command begins it anew")
        report.say(f"{what} {done}/{total}")

    with only_one(folder, cancelled):
        if not pointer.exists():
            learner = learn_adversary(clean, settings, trial.seed, show)
            write_atomically(pointer, save_checkpoint(learner, folder, clean.digest).encode())
    return load_checkpoint(folder / pointer.read_text())[0]


def _ground_truth(trial: Trial, clean: EpisodeDataset, poisoned: Poisoned, forget_set_id: str) -> GroundTruth:
    return GroundTruth(
        forget_set_id=forget_set_id, attack=trial.cell.attack, seed=trial.seed, settings=trial.attack,
        clean_digest=clean.digest, poisoned_digest=poisoned.dataset.digest, bag_id=poisoned.bag_id,
        ratio=poisoned.ratio, stretches=poisoned.stretches(), marker=poisoned.marker,
    )  # fmt: skip
