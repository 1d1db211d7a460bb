"""Columns are the episodes' transitions, row by row, and nothing crosses an episode's end."""

import numpy as np
import pytest
from dataset_samples import make_dataset, make_episode

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.errors import DatasetError


def test_every_row_is_its_episodes_transition():
    dataset = make_dataset()
    row = 0
    for number, record in enumerate(dataset.records):
        episode = make_episode(number, record.bag_id, length=3 + number)
        for step in range(episode.length):
            assert np.array_equal(dataset.observations[row], episode.observations[step])
            assert np.array_equal(dataset.next_observations[row], episode.observations[step + 1])
            assert np.array_equal(dataset.actions[row], episode.actions[step])
            assert dataset.rewards[row] == episode.rewards[step]
            assert dataset.costs[row] == episode.costs[step]
            last = step == episode.length - 1
            assert dataset.terminated[row] == (episode.terminated and last)
            assert dataset.truncated[row] == (episode.truncated and last)
            assert (dataset.episode_index[row], dataset.step[row]) == (number, step)
            row += 1
    assert row == len(dataset) == 3 + 4 + 5 + 6 + 7


def test_episodes_come_back_whole():
    dataset = make_dataset()
    for number, record in enumerate(dataset.records):
        assert dataset.episode(number) == make_episode(number, record.bag_id, length=3 + number)
        assert record.digest == dataset.episode(number).digest


def test_column_types_are_those_that_learning_expects():
    dataset = make_dataset()
    types = {name: str(getattr(dataset, name).dtype) for name in EpisodeDataset.column_names()}
    floats = ("observations", "actions", "rewards", "costs", "next_observations")
    assert types == {
        **dict.fromkeys(floats, "float32"),
        "terminated": "bool",
        "truncated": "bool",
        "episode_index": "int32",
        "step": "int32",
        "stamps": "int64",
    }


def test_initial_observations_are_what_each_episode_began_with():
    dataset = make_dataset()
    first = np.stack([make_episode(number, length=3 + number).observations[0] for number in range(5)])
    assert np.array_equal(dataset.initial_observations, first)


def test_subset_equals_a_dataset_made_of_those_episodes():
    dataset = make_dataset()
    part = dataset.subset([4, 1])
    alone = EpisodeDataset.from_episodes([dataset.episode(4), dataset.episode(1)])
    assert [record.id for record in part.records] == ["walk-004", "walk-001"]
    assert part.digest == alone.digest != dataset.digest
    for name in EpisodeDataset.column_names():
        assert np.array_equal(getattr(part, name), getattr(alone, name))


@pytest.mark.parametrize(
    ("indices", "message"), [([5], "index 5"), ([-1], "index -1"), ([2, 2], "twice"), ([], "no epis")]
)
def test_subset_refuses_what_is_not_there(indices, message):
    with pytest.raises(DatasetError, match=message):
        make_dataset().subset(indices)


def test_digest_depends_on_content_bag_and_order():
    a, b = make_episode(0), make_episode(1)
    digests = {
        EpisodeDataset.from_episodes(episodes).digest
        for episodes in ([a, b], [b, a], [a], [a, make_episode(1, "tuesday")], [a, make_episode(1, lost=3)])
    }
    assert len(digests) == 5
    assert EpisodeDataset.from_episodes([make_episode(0), make_episode(1)]).digest in digests


def test_indices_are_the_union_of_bags_and_episodes_each_once():
    dataset = make_dataset()
    assert dataset.indices_of(["tuesday"], ["walk-004", "walk-000"]).tolist() == [0, 3, 4]
    assert dataset.indices_of().tolist() == []


@pytest.mark.parametrize(
    ("bags", "episodes", "message"),
    [
        (["mondy"], [], "unknown bag 'mondy'. Did you mean 'monday'"),
        (["qqqq"], [], "unknown bag 'qqqq'. Known bags: 'monday', 'tuesday'"),
        ([], ["walk-0004"], "unknown episode 'walk-0004'. Did you mean 'walk-004'"),
        ([""], [], "unknown bag ''"),
    ],
)
def test_an_unknown_name_is_answered_with_the_known_ones(bags, episodes, message):
    with pytest.raises(DatasetError) as error:
        make_dataset().indices_of(bags, episodes)
    assert message in str(error.value)


def test_episodes_of_different_sizes_are_not_mixed():
    other = make_episode(1, observations=np.zeros((8, 6)))
    with pytest.raises(DatasetError, match=r"'walk-001' has \(observation, action\) size \(6, 2\)"):
        EpisodeDataset.from_episodes([make_episode(0), other])


def test_an_episode_that_comes_twice_is_refused():
    with pytest.raises(DatasetError, match="'walk-000' comes twice"):
        EpisodeDataset.from_episodes([make_episode(0), make_episode(0, "tuesday")])
