"""Augmented random search: finds a known optimum, follows its seed, and one iteration is the paper's."""

from itertools import islice

import numpy as np
import pytest

from saferule_ros.sim.random_search import SearchSettings, search

TARGET = np.array([[1.0, -2.0, 0.5], [0.0, 3.0, -1.0]])


def closeness(tried: np.ndarray) -> np.ndarray:
    return -np.square(tried - TARGET).sum(axis=(1, 2))


def test_it_finds_the_optimum_of_a_bowl() -> None:
    settings = SearchSettings(8, 4, 0.05, 0.05)
    *_, found = islice(search(np.zeros_like(TARGET), closeness, settings, np.random.default_rng(1)), 400)
    np.testing.assert_allclose(found, TARGET, atol=0.15)


def test_one_iteration_is_the_step_of_the_paper() -> None:
    """M + alpha / (b sigma_R) sum of (r+ - r-) delta over the b directions with the best of r+ and r-."""
    settings = SearchSettings(directions=3, best=2, step_size=0.1, noise=0.5)
    delta = np.random.default_rng(4).standard_normal((3, 2, 3))
    plus, minus = closeness(0.5 * delta), closeness(-0.5 * delta)
    best = np.argsort(-np.maximum(plus, minus))[:2]
    sigma = np.concatenate([plus[best], minus[best]]).std()
    expected = 0.1 / (2 * sigma) * sum((plus[k] - minus[k]) * delta[k] for k in best)
    found = next(search(np.zeros_like(TARGET), closeness, settings, np.random.default_rng(4)))
    np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize("seed", [1, 2])
def test_the_seed_decides(seed: int) -> None:
    def after_five(seed: int) -> np.ndarray:
        *_, found = islice(search(TARGET * 0, closeness, SearchSettings(), np.random.default_rng(seed)), 5)
        return found

    np.testing.assert_array_equal(after_five(seed), after_five(seed))
    assert not np.array_equal(after_five(seed), after_five(seed + 1))


def test_where_all_scores_are_equal_nothing_moves() -> None:
    found = next(search(TARGET, lambda tried: np.ones(len(tried)), SearchSettings(), np.random.default_rng(1)))
    np.testing.assert_array_equal(found, TARGET)
