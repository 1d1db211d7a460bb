"""Pieces of episodes keep every transition as it was, and never look like an end or a beginning that was none."""

import json

import numpy as np
import pytest
from dataset_samples import make_dataset, make_episode

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.errors import DatasetError
from saferule_ros.dataset.pieces import piece, split_steps


def test_every_transition_lies_unchanged_in_exactly_one_part():
    dataset = make_dataset()
    chosen = np.random.default_rng(0).random(len(dataset)) < 0.4
    one, other = split_steps(dataset, chosen)
    for part, rows in ((one, chosen), (other, ~chosen)):
        for name in ("observations", "actions", "rewards", "costs", "next_observations", "terminated"):
            np.testing.assert_array_equal(getattr(part, name), getattr(dataset, name)[rows])


def test_a_cut_is_a_truncation_and_only_the_last_piece_ends_as_the_episode_did():
    episode = make_episode(1, length=7, lost=2)  # terminated
    first, last = piece(episode, 0, 4), piece(episode, 4, 7)
    assert (first.terminated, first.truncated, first.lost) == (False, True, 0)
    assert (last.terminated, last.truncated, last.lost) == (True, False, 2)
    assert piece(episode, 0, 7) is episode


def test_only_a_beginning_counts_as_initial_state():
    episode = make_episode(0, length=6)
    middle = piece(piece(episode, 1, 6), 2, 4)
    assert (middle.first_step, middle.id) == (3, "walk-000[1:6][2:4]")
    dataset = EpisodeDataset.from_episodes([middle, make_episode(1), piece(episode, 0, 2)])
    np.testing.assert_array_equal(
        dataset.initial_observations, [make_episode(1).observations[0], episode.observations[0]]
    )
    only = EpisodeDataset.from_episodes([middle])
    np.testing.assert_array_equal(only.initial_observations, middle.observations[:1])


def test_pieces_are_saved_and_loaded(tmp_path):
    one, _ = split_steps(make_dataset(), np.arange(25) % 3 == 0)
    one.save(tmp_path / "dataset")
    loaded = EpisodeDataset.load(tmp_path / "dataset")
    assert loaded.digest == one.digest
    assert [record.first_step for record in loaded.records] == [record.first_step for record in one.records]


def test_a_dataset_that_was_saved_before_there_were_pieces_is_read(tmp_path):
    make_dataset().save(tmp_path / "dataset")
    index = tmp_path / "dataset" / "dataset.json"
    content = json.loads(index.read_text())
    for record in content["episodes"]:
        del record["first_step"]
    index.write_text(json.dumps(content))
    assert EpisodeDataset.load(tmp_path / "dataset").digest == make_dataset().digest


def test_a_part_without_transitions_is_refused():
    with pytest.raises(DatasetError, match="no episodes"):
        split_steps(make_dataset(), np.zeros(25, dtype=np.bool_))
