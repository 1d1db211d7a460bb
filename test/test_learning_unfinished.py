"""Learning that was stopped goes on as if it had not been."""

import itertools
from pathlib import Path

import pytest
import torch
from learning_cases import BOUNDS, SMALL, bandit

from saferule_ros.learning.learner import Learner
from saferule_ros.learning.settings import TaskLimits
from saferule_ros.learning.trainer import TrainingCancelled, TrainProgress, train
from saferule_ros.learning.unfinished import Unfinished

DATA = bandit(episodes=30)


def learn(steps: int, unfinished: Unfinished | None = None, stop_after: int | None = None, **more) -> Learner:
    asked = itertools.count()
    return train(
        DATA, TaskLimits(cost_limit=0.1, horizon=1), SMALL, BOUNDS, steps, seed=1, unfinished=unfinished,
        cancelled=lambda: stop_after is not None and next(asked) >= stop_after, **more,
    )  # fmt: skip


def weights(learner: Learner) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for network in learner.networks().values() for p in network.parameters()])


def test_stopped_and_gone_on_with_twice_it_is_bit_equal_to_one_go(tmp_path: Path) -> None:
    kept = Unfinished(tmp_path / "kept")
    for stop_after, done in ((7, 7), (5, 12)):
        with pytest.raises(TrainingCancelled, match=rf"after {done} of 60 steps.*goes on from there"):
            learn(60, kept, stop_after)
    seen: list[TrainProgress] = []
    resumed = learn(60, kept, on_progress=seen.append)
    assert [at.step for at in seen] == [50, 60], "the first twelve are not taken again"
    assert torch.equal(weights(resumed), weights(learn(60)))
    kept.discard()
    assert kept.load() is None


def test_only_the_latest_is_kept_and_what_took_more_steps_than_are_asked_for_is_no_beginning(tmp_path: Path) -> None:
    kept = Unfinished(tmp_path / "kept")
    for stop_after in (3, 4):
        with pytest.raises(TrainingCancelled):
            learn(60, kept, stop_after)
    assert len([path for path in kept.folder.iterdir() if path.is_dir()]) == 1
    assert torch.equal(weights(learn(5, kept)), weights(learn(5)))


def test_without_a_place_to_keep_it_stopping_loses_it() -> None:
    with pytest.raises(TrainingCancelled, match="Nothing was kept"):
        learn(60, None, 3)
