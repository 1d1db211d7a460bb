import dataclasses

import numpy as np
import pytest
from dataset_samples import make_episode

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.errors import DatasetError
from saferule_ros.dataset.scores import ReturnBounds, normalised_cost


def with_returns(*returns: float) -> EpisodeDataset:
    return EpisodeDataset.from_episodes(
        dataclasses.replace(make_episode(number, length=4), rewards=np.full(4, value / 4, np.float32))
        for number, value in enumerate(returns)
    )


def test_returns_are_normalised_by_the_bounds_of_the_clean_data():
    bounds = ReturnBounds.of(with_returns(10.0, -2.0, 4.0))
    assert (bounds.lowest, bounds.highest) == (-2.0, 10.0)
    assert [bounds.normalised(value) for value in (-2.0, 4.0, 10.0)] == [0.0, 0.5, 1.0]
    assert bounds.normalised(16.0) == 1.5, "better than any of the data"


def test_costs_are_shares_of_the_limit():
    assert normalised_cost(25.0, 25.0) == 1.0
    assert normalised_cost(39.8, 10.0) == pytest.approx(3.98)


def test_equal_returns_are_refused():
    with pytest.raises(DatasetError, match=r"returns from 3 to 3 leave nothing to normalise by"):
        ReturnBounds.of(with_returns(3.0, 3.0))
