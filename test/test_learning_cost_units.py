"""The unit that costs are measured in changes neither what is learned nor what is forgotten."""

import dataclasses
from pathlib import Path

import pytest
import torch
from learning_cases import BOUNDS, poisoned_bandit

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.learning.algorithms import ALGORITHMS, settings_from
from saferule_ros.learning.calibration import calibrate
from saferule_ros.learning.checkpoint import load_checkpoint, save_checkpoint
from saferule_ros.learning.learner import CriticLearner, Learner
from saferule_ros.learning.settings import TaskLimits
from saferule_ros.learning.trainer import train
from saferule_ros.unlearning.methods import method_for
from saferule_ros.unlearning.run import unlearn

pytestmark = pytest.mark.usefixtures("quick_classifiers")

# A power of two, so that nothing is rounded.
UNIT = 0.25


def in_units_of(dataset: EpisodeDataset, unit: float) -> EpisodeDataset:
    """The same, with each cost so many times as large."""
    episodes = (dataset.episode(index) for index in range(dataset.episodes))
    return EpisodeDataset.from_episodes(dataclasses.replace(one, costs=one.costs * unit) for one in episodes)


def patched(algorithm: str, unit: float) -> tuple[Learner, torch.Tensor]:
    """A learner after some steps of learning and of Safe-RULE, and all its parameters."""
    keep, forget, together = (in_units_of(dataset, unit) for dataset in poisoned_bandit())
    fields = type(settings_from({"algorithm": algorithm})).model_fields
    small = {name: 8 for name in ("hidden", "vae_hidden") if name in fields} | {"batch": 64}
    settings = settings_from({"algorithm": algorithm, **small})
    learner = train(together, TaskLimits(cost_limit=0.1 * unit, horizon=1), settings, BOUNDS, 20, 4)
    method = method_for("safe_rule", type(learner))
    run = method.make(learner, forget, keep, method.settings.model_validate({"steps": 20}), 5)
    unlearn(run)
    return run.learner, torch.cat(
        [p.detach().flatten() for n in run.learner.networks().values() for p in n.parameters()]
    )


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_with_costs_and_limit_in_another_unit_the_same_is_learned_and_forgotten_to_the_bit(algorithm: str) -> None:
    (one, parameters), (other, others) = patched(algorithm, 1.0), patched(algorithm, UNIT)
    assert (one.units.cost_scale, other.units.cost_scale) == (1.0, 1.0 / UNIT)
    assert torch.equal(parameters, others)


def test_the_scale_is_kept_and_what_is_told_of_the_limit_is_in_the_robots_unit(tmp_path: Path) -> None:
    *_, together = (in_units_of(dataset, UNIT) for dataset in poisoned_bandit())
    limits = TaskLimits(cost_limit=0.1 * UNIT, horizon=1)
    learner = train(
        together, limits, settings_from({"algorithm": "bcq_lag", "hidden": 8, "vae_hidden": 8}), BOUNDS, 5, 4
    )
    assert isinstance(learner, CriticLearner)
    loaded, _ = load_checkpoint(tmp_path / save_checkpoint(learner, tmp_path, "digest"))
    assert loaded.units.cost_scale == 1.0 / UNIT and loaded.kappa == learner.kappa
    found = calibrate(learner, learner.replay(together))
    assert found.kappa == pytest.approx(limits.cost_value_limit(learner.settings.discount))
    assert found.kappa == pytest.approx(UNIT * learner.kappa)
