"""A run that was stopped, or killed, goes on as if it had not been: the learner, and all else that it changes."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from learning_cases import BOUNDS, poisoned_bandit

from saferule_ros.learning.algorithms import ALGORITHMS, make_learner, settings_from
from saferule_ros.learning.checkpoint import save_checkpoint
from saferule_ros.learning.replay import Units
from saferule_ros.learning.settings import TaskLimits
from saferule_ros.learning.unfinished import Unfinished
from saferule_ros.unlearning.methods import METHODS, method_for
from saferule_ros.unlearning.resumable import unlearn_resumably
from saferule_ros.unlearning.run import UnlearningRun, unlearn

pytestmark = pytest.mark.usefixtures("quick_classifiers")

KEEP, FORGET, TOGETHER = poisoned_bandit()
STEPS = 25
PAIRS = {(m.name, a) for m in METHODS for a, learner in ALGORITHMS.items() if issubclass(learner, m.needs)}
RUNS = [(*pair, {}) for pair in sorted(PAIRS)] + [
    ("safe_rule", "bcq_lag", {"fixed_targets": False}), ("safe_rule", "bear_lag", {"press_outnumbered": True}),
]  # fmt: skip


def run_of(name: str, algorithm: str, changes: dict[str, Any]) -> UnlearningRun:
    """Always the same one, from the same learner."""
    fields = type(settings_from({"algorithm": algorithm})).model_fields
    small = {name: 8 for name in ("hidden", "vae_hidden") if name in fields} | {"batch": 64}
    limits = TaskLimits(cost_limit=0.1, horizon=1)
    settings = settings_from({"algorithm": algorithm, **small})
    learner = make_learner(Units.of(TOGETHER, *BOUNDS), limits, settings, seed=4)
    method = method_for(name, type(learner))
    return method.make(learner, FORGET, KEEP, method.settings.model_validate({"steps": STEPS, **changes}), 5)


def everything(run: UnlearningRun, folder: Path) -> tuple[str, dict[str, Any], dict[str, list[float]]]:
    """The learner, by a digest of all that a checkpoint holds, and what else the run changes."""
    tensors = {name: tensor.flatten().tolist() for name, tensor in run.tensors().items()}
    return save_checkpoint(run.learner, folder, ""), run.state(), tensors


@pytest.mark.parametrize(("name", "algorithm", "changes"), RUNS)
def test_what_was_stopped_twice_ends_as_what_was_not(name: str, algorithm: str, changes: dict, tmp_path: Path) -> None:
    straight = run_of(name, algorithm, changes)
    unlearn(straight)
    kept = Unfinished(tmp_path / "kept")
    for taken, in_all in ((4, 4), (9, 13)):
        asked = itertools.count()
        stopped = run_of(name, algorithm, changes)
        assert unlearn_resumably(stopped, kept, cancelled=lambda asked=asked, n=taken: next(asked) >= n) == in_all
    seen = []
    resumed = run_of(name, algorithm, changes)
    assert unlearn_resumably(resumed, kept, lambda at: seen.append(at.step)) == STEPS
    assert seen == [20, STEPS], "the first thirteen are not taken again"
    assert everything(resumed, tmp_path) == everything(straight, tmp_path)
    assert resumed.meter.budget.steps == STEPS
    assert resumed.meter.budget.flops == pytest.approx(straight.meter.budget.flops, rel=1e-12)


def test_what_was_killed_goes_on_from_the_last_time_that_it_was_saved(tmp_path: Path) -> None:
    straight = run_of("safe_rule", "bcq_lag", {})
    unlearn(straight)
    kept, asked = Unfinished(tmp_path / "kept", save_every=0.0), itertools.count()

    def die() -> bool:
        if next(asked) == 12:
            raise MemoryError
        return False

    with pytest.raises(MemoryError):
        unlearn_resumably(run_of("safe_rule", "bcq_lag", {}), kept, cancelled=die)
    assert len(list(kept.folder.iterdir())) == 3, "the latest alone: learner, what else changes, and which it is"
    resumed = run_of("safe_rule", "bcq_lag", {})
    unlearn_resumably(resumed, kept)
    assert torch.equal(resumed.learner.critics.value.weight, straight.learner.critics.value.weight)
    assert everything(resumed, tmp_path) == everything(straight, tmp_path)
