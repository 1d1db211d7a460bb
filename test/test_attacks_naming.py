"""Forget sets of people who err: precision and recall come out as asked, of whole stretches."""

import numpy as np
import pytest
from dataset_samples import make_episode

from saferule_ros.attacks.errors import AttackError
from saferule_ros.attacks.naming import imperfect_forget_set
from saferule_ros.attacks.poisoned import Poisoned
from saferule_ros.dataset.dataset import EpisodeDataset


def dataset_of_lengths(lengths: list[int]) -> EpisodeDataset:
    return EpisodeDataset.from_episodes(make_episode(number, length=length) for number, length in enumerate(lengths))


def whole_episodes(poisoned: int = 10, clean: int = 40, length: int = 20) -> Poisoned:
    dataset = dataset_of_lengths([length] * (poisoned + clean))
    return Poisoned(dataset, np.arange(len(dataset)) < poisoned * length, "bad")


def shares(poisoned: Poisoned, precision: float, recall: float, seed: int = 0) -> tuple[float, float]:
    named = imperfect_forget_set(poisoned, precision, recall, seed).chosen(poisoned.dataset)
    right = (named & poisoned.rows).sum()
    return right / named.sum(), right / poisoned.rows.sum()


def test_with_precision_and_recall_of_one_it_is_the_ground_truth() -> None:
    poisoned = whole_episodes()
    named = imperfect_forget_set(poisoned, 1.0, 1.0, seed=5).chosen(poisoned.dataset)
    assert np.array_equal(named, poisoned.rows)


@pytest.mark.parametrize(("precision", "recall"), [(0.8, 1.0), (1.0, 0.8), (0.5, 0.5)])
def test_precision_and_recall_come_out_as_asked(precision: float, recall: float) -> None:
    assert shares(whole_episodes(), precision, recall) == pytest.approx((precision, recall), abs=0.04)


def test_of_poisoned_stretches_some_are_missed_and_others_as_long_are_named_falsely() -> None:
    dataset = dataset_of_lengths([100] * 20)
    rows = np.zeros(len(dataset), np.bool_)
    for episode in range(8):
        rows[episode * 100 + 10 : episode * 100 + 30] = True
    poisoned = Poisoned(dataset, rows, "bad")
    assert shares(poisoned, 0.8, 1.0) == (0.8, 1.0)
    assert shares(poisoned, 1.0, 0.75) == (1.0, 0.75)
    wrong = imperfect_forget_set(poisoned, 0.8, 1.0, seed=0).chosen(dataset) & ~rows
    assert wrong[: 8 * 100].sum() == 0, "episodes with poison in them are not named falsely"
    lengths = np.diff(np.flatnonzero(np.diff(wrong, prepend=False, append=False)))[::2]
    assert set(lengths) == {20}


def test_which_ones_hangs_on_the_seed() -> None:
    poisoned = whole_episodes()
    one, again, other = (imperfect_forget_set(poisoned, 0.8, 0.8, seed).chosen(poisoned.dataset) for seed in (1, 1, 2))
    assert np.array_equal(one, again) and not np.array_equal(one, other)


def test_what_cannot_be_named_is_refused() -> None:
    with pytest.raises(AttackError, match=r"recall 0 is out of range"):
        imperfect_forget_set(whole_episodes(), 1.0, 0.0, seed=0)
    with pytest.raises(AttackError, match="higher precision"):
        imperfect_forget_set(whole_episodes(poisoned=10, clean=2), 0.2, 1.0, seed=0)
