"""An episode holds only what can be learned from, and its digest is its content's."""

import numpy as np
import pytest
from dataset_samples import make_episode

from saferule_ros.dataset.errors import DatasetError


def changed(array: np.ndarray, where: tuple[int, ...], value: float) -> np.ndarray:
    copy = np.array(array)
    copy[where] = value
    return copy


def test_sums_are_those_of_the_transitions():
    episode = make_episode(rewards=np.full(7, 0.5), costs=np.array([0, 0, 1, 0, 0, 2, 0]))
    assert (episode.length, episode.episode_return, episode.episode_cost) == (7, 3.5, 3.0)


def test_digest_changes_with_the_last_bit_of_every_value():
    episode = make_episode()
    digests = {episode.digest}
    for name in ("observations", "actions", "rewards", "costs"):
        array = getattr(episode, name)
        for where in np.ndindex(array.shape):
            other = changed(array, where, np.nextafter(array[where], np.float32(9)))
            digests.add(make_episode(**{name: other}).digest)
    count = sum(getattr(episode, name).size for name in ("observations", "actions", "rewards", "costs"))
    assert len(digests) == 1 + count


@pytest.mark.parametrize(
    "change",
    [
        {"id": "other"},
        {"terminated": True},
        {"policy_ids": ("a1",)},
        {"policy_ids": ("b2", "a1")},
        {"fallbacks": 1},
        {"lost": 1},
    ],
)
def test_digest_changes_with_every_fact(change):
    assert make_episode(**change).digest != make_episode().digest


def test_digest_is_that_of_the_content_and_not_of_where_it_is_stored():
    assert make_episode(bag_id="x").digest == make_episode(bag_id="y").digest
    assert make_episode(bag_id="x") != make_episode(bag_id="y")


def test_digest_stays_what_it_was_in_earlier_versions():
    # Bags on robots carry digests: a change here makes every recorded episode look tampered with.
    episode = make_episode(
        observations=np.arange(6).reshape(3, 2),
        actions=np.array([[0.5], [-0.25]]),
        rewards=np.array([1, 2]),
        costs=np.array([0, 1]),
    )
    assert episode.digest == "11d0e2c94af2f6400b5baae185a36f9496c9a3b71bd3575e9232cd50af8beb68"


def test_later_changes_of_the_callers_arrays_do_not_reach_in():
    rewards = np.ones(7, dtype=np.float32)
    episode = make_episode(rewards=rewards)
    rewards[:] = 5
    assert episode.episode_return == 7
    with pytest.raises(ValueError, match="read-only"):
        episode.rewards[0] = 5


@pytest.mark.parametrize("name", ["observations", "actions", "rewards", "costs"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_non_finite_value_is_refused_and_named(name, value):
    array = getattr(make_episode(), name)
    where = (3,) if array.ndim == 1 else (3, 1)
    with pytest.raises(DatasetError) as error:
        make_episode(**{name: changed(array, where, value)})
    assert f"{name}{list(where)} is {value}" in str(error.value)


def test_a_value_too_large_for_single_precision_is_refused():
    with pytest.raises(DatasetError, match=r"rewards\[2\] is inf"):
        make_episode(rewards=np.array([0, 0, 1e39, 0, 0, 0, 0]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"observations": np.zeros((7, 5))}, "lengths do not fit"),
        ({"rewards": np.zeros(6)}, "lengths do not fit"),
        ({"costs": np.zeros((7, 1))}, "costs have shape (7, 1)"),
        ({"actions": np.zeros(7)}, "actions have shape (7,)"),
        ({"actions": np.zeros((7, 0))}, "size 0"),
        ({"costs": np.array([0, 0, -0.5, 0, 0, 0, 0])}, "costs[2] is -0.5"),
        ({"terminated": False, "truncated": False}, "neither terminated nor truncated"),
        ({"lost": -1}, "lost -1"),
        ({"id": ""}, "empty id"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_value(change, message):
    with pytest.raises(DatasetError) as error:
        make_episode(**change)
    assert message in str(error.value)


def test_an_episode_without_transitions_is_refused():
    with pytest.raises(DatasetError, match="no transition"):
        make_episode(observations=np.zeros((1, 5)), actions=np.zeros((0, 2)), rewards=np.zeros(0), costs=np.zeros(0))
