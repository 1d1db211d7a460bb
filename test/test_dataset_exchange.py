"""Datasets go out as HDF5 (DSRL) and to Minari and come back the same; checks find what is wrong."""

import dataclasses

import numpy as np
import pytest
from dataset_samples import make_dataset, make_episode

from saferule_ros.dataset.checks import Limits, check_dataset
from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.errors import DatasetError
from saferule_ros.dataset.hdf5 import COLUMNS, read_hdf5, write_hdf5
from saferule_ros.dataset.writer import DatasetWriter

h5py = pytest.importorskip("h5py", reason="h5py is not installed")


def with_origin() -> EpisodeDataset:
    return EpisodeDataset.from_episodes(
        dataclasses.replace(episode, stamps=1 + 10**9 * np.arange(episode.length), recorded_by="robot 7")
        for episode in map(make_dataset().episode, range(5))
    )


def test_a_file_of_ours_comes_back_as_the_same_dataset(tmp_path):
    dataset = with_origin()
    write_hdf5(dataset, tmp_path / "out.hdf5")
    again = EpisodeDataset.from_episodes(read_hdf5(tmp_path / "out.hdf5"))
    assert again.digest == dataset.digest and again.records == dataset.records
    with h5py.File(tmp_path / "out.hdf5") as file:
        for name, column in COLUMNS.items():
            assert np.array_equal(file[name][:], getattr(dataset, column)), name
    with pytest.raises(DatasetError, match="is there already"):
        write_hdf5(dataset, tmp_path / "out.hdf5")


def foreign(path, dataset, change=lambda columns: None):
    """What another library writes: seven arrays, and nothing else."""
    columns = {name: np.array(getattr(dataset, column)) for name, column in COLUMNS.items()}
    change(columns)
    with h5py.File(path, "w") as file:
        for name, values in columns.items():
            file[name] = values


def test_files_of_others_are_cut_into_their_episodes(tmp_path):
    dataset = make_dataset()
    foreign(tmp_path / "dsrl.hdf5", dataset)
    found = list(read_hdf5(tmp_path / "dsrl.hdf5"))
    assert [episode.id for episode in found] == [f"dsrl-{number:06d}" for number in range(5)]
    for number, episode in enumerate(found):
        mine = dataset.episode(number)
        assert np.array_equal(episode.observations, mine.observations)
        assert (episode.terminated, episode.truncated) == (mine.terminated, mine.truncated)


def test_no_episode_reaches_across_a_break_and_what_has_no_end_is_truncated(tmp_path):
    def change(columns):
        columns["timeouts"][-1] = columns["terminals"][-1] = False
        columns["observations"][20] += 1  # in the last episode, rows 18 to 24

    foreign(tmp_path / "dsrl.hdf5", make_dataset(), change)
    found = list(read_hdf5(tmp_path / "dsrl.hdf5"))
    assert [episode.length for episode in found] == [3, 4, 5, 6, 2, 5]
    assert [episode.truncated for episode in found[-2:]] == [True, True]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("costs"), "has no 'costs'"),
        (lambda c: c.update(rewards=c["rewards"][:-1]), "do not fit"),
        (lambda c: c["actions"].__setitem__((3, 0), np.nan), "is nan"),
    ],
)
def test_files_that_cannot_be_used_are_refused_with_words(tmp_path, change, message):
    foreign(tmp_path / "dsrl.hdf5", make_dataset(), change)
    with pytest.raises(DatasetError, match=message):
        list(read_hdf5(tmp_path / "dsrl.hdf5"))
    (tmp_path / "noise.hdf5").write_bytes(b"noise")
    with pytest.raises(DatasetError, match="cannot be read"):
        list(read_hdf5(tmp_path / "noise.hdf5"))


def test_minari_takes_a_dataset_and_gives_it_back(tmp_path, monkeypatch):
    pytest.importorskip("minari", reason="Minari comes with the simulator, which this Python does not have")
    from saferule_ros.dataset.minari_io import read_minari, write_minari

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    dataset = make_dataset()
    write_minari(dataset, "robot/walk-v0")
    found = list(read_minari("robot/walk-v0"))
    assert len(found) == 5
    for number, episode in enumerate(found):
        mine = dataset.episode(number)
        for name in ("observations", "actions", "rewards", "costs"):
            assert np.array_equal(getattr(episode, name), getattr(mine, name)), name
        assert (episode.terminated, episode.truncated) == (mine.terminated, mine.truncated)
    with pytest.raises(DatasetError, match="Minari refuses"):
        write_minari(dataset, "robot/walk-v0")
    with pytest.raises(DatasetError, match="has no dataset"):
        list(read_minari("robot/other-v0"))


def test_a_clean_dataset_passes_all_checks():
    results = check_dataset(with_origin(), Limits([-9, -9], [9, 9], -9, 9, 1, 1.5))
    assert all(result.passed for result in results), results
    assert [result.name for result in results] == [
        "shapes", "finite", "episodes", "monotonic time", "gaps", "action bounds", "rewards", "costs", "duplicates",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("spoil", "limits", "name", "found"),
    [
        (lambda e: dataclasses.replace(e, stamps=e.stamps[::-1]), {}, "monotonic time", "walk-002 at step 1"),
        (lambda e: dataclasses.replace(e, stamps=e.stamps * np.arange(1, 6) ** 3), {}, "gaps", "walk-002"),
        (lambda e: e, {"action_high": [0.1, 9]}, "action bounds", "action 0 is"),
        (lambda e: e, {"action_low": [0.1]}, "action bounds", "low has 1 numbers for 2"),
        (lambda e: e, {"reward_low": -0.1}, "rewards", "lowest"),
        (lambda e: e, {"cost_high": 0.5}, "costs", "highest"),
        (lambda e: e, {"max_gap": 0.5}, "gaps", "walk-000 at step 1: 1 s"),
        (lambda e: dataclasses.replace(make_episode(1, "monday", 4), id="copy"), {}, "duplicates", "copy is walk-001"),
    ],
)
def test_each_check_finds_what_it_is_for(spoil, limits, name, found):
    episodes = [with_origin().episode(number) for number in range(5)]
    episodes[2] = spoil(episodes[2])
    results = check_dataset(EpisodeDataset.from_episodes(episodes), Limits(**limits))
    failed = {result.name: result.found for result in results if not result.passed}
    assert list(failed) == [name] and found in failed[name]


def test_episodes_can_be_added_and_a_writer_that_was_killed_leaves_no_trace(tmp_path):
    folder = tmp_path / "dataset"
    episodes = [make_episode(number) for number in range(6)]
    EpisodeDataset.from_episodes(episodes[:2]).save(folder)
    reader = EpisodeDataset.load(folder)
    with DatasetWriter(folder, append=True) as writer:
        writer.add(episodes[2])
        digest = writer.commit()
    assert digest == EpisodeDataset.load(folder).digest == EpisodeDataset.from_episodes(episodes[:3]).digest
    assert [reader.episode(number) for number in range(2)] == episodes[:2], "who has it open reads on undisturbed"
    with DatasetWriter(folder, append=True) as writer:
        writer.add(episodes[3])  # and not committed: as if it was killed
    assert EpisodeDataset.load(folder).digest == digest
    with DatasetWriter(folder, append=True) as writer:
        writer.add(episodes[4])
        with pytest.raises(DatasetError, match="comes twice"):
            writer.add(episodes[0])
        with pytest.raises(DatasetError, match="those before have"):
            writer.add(make_episode(9, observations=np.zeros((8, 3))))
        writer.commit()
    assert EpisodeDataset.load(folder).digest == EpisodeDataset.from_episodes([*episodes[:3], episodes[4]]).digest
    with DatasetWriter(folder) as writer:
        writer.add(episodes[5])
        writer.commit()
    assert EpisodeDataset.load(folder).digest == EpisodeDataset.from_episodes(episodes[5:]).digest
    assert len(list(folder.glob("columns-*"))) == 1


def test_a_dataset_without_times_of_an_older_version_is_read_and_added_to(tmp_path):
    folder = tmp_path / "dataset"
    make_dataset().save(folder)
    next(folder.glob("columns-*/stamps.npy")).unlink()
    assert EpisodeDataset.load(folder).digest == make_dataset().digest
    with DatasetWriter(folder, append=True) as writer:
        writer.add(make_episode(7, stamps=np.arange(1, 8)))
        writer.commit()
    assert EpisodeDataset.load(folder).stamps.tolist() == [0] * 25 + list(range(1, 8))
