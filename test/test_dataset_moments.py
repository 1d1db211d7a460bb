"""Mean and spread of long columns, far from zero."""

import numpy as np
import pytest
import torch
from learning_cases import BOUNDS, bandit

from saferule_ros.dataset.moments import barely_vary, moments, scales
from saferule_ros.learning.replay import Units

ROWS = 200_000


@pytest.mark.parametrize(("offset", "spread"), [(101_325.0, 5.0), (1000.0, 0.5), (0.0, 1.0)])
def test_the_spread_of_a_long_column_does_not_hang_on_its_offset(offset: float, spread: float) -> None:
    values = offset + spread * np.random.default_rng(0).standard_normal((ROWS, 3))
    mean, found = moments(values.astype(np.float32))
    np.testing.assert_allclose(mean, offset, atol=0.01 * spread)
    np.testing.assert_allclose(found, spread, rtol=0.02)


def test_what_never_changes_has_no_spread_and_is_not_scaled() -> None:
    gravity = np.full((ROWS, 1), 9.81, np.float32)
    _, spread = moments(gravity)
    assert spread[0] < 1e-6 and scales(spread)[0] == 1.0


def test_what_varies_too_little_to_be_learned_from_is_told_apart_from_what_is_constant() -> None:
    noise = np.random.default_rng(0).standard_normal(ROWS)
    columns = np.stack([np.full(ROWS, 9.81), 8e-4 * noise, 2e-3 * noise, np.zeros(ROWS), 1 + 1e-5 * noise], axis=1)
    assert barely_vary(columns.astype(np.float32)) == [1, 4]


def test_learners_see_a_value_with_an_offset_as_they_see_others() -> None:
    dataset = bandit(2000)
    pressure = 101_325.0 + 5.0 * np.random.default_rng(0).standard_normal(dataset.observations.shape)
    object.__setattr__(dataset, "observations", np.tile(pressure, (50, 1)).astype(np.float32))
    units = Units.of(dataset, *BOUNDS)
    scores = units.observations(torch.from_numpy(dataset.observations))
    assert scores.std().item() == pytest.approx(1.0, abs=0.02) and abs(scores.mean().item()) < 0.02
