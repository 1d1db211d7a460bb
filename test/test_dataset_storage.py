"""What was saved comes back to the bit; what was changed since is refused; a kill costs nothing."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from dataset_samples import make_dataset, make_episode
from kills import killed_at_each_step

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.errors import DatasetError


def columns_folder(folder: Path) -> Path:
    return folder / json.loads((folder / "dataset.json").read_text())["columns"]


@pytest.mark.parametrize("mmap", [True, False])
def test_a_saved_dataset_comes_back_to_the_bit(tmp_path, mmap):
    dataset = make_dataset()
    dataset.save(tmp_path / "dataset")
    again = EpisodeDataset.load(tmp_path / "dataset", mmap=mmap)
    assert again.records == dataset.records
    assert again.digest == dataset.digest
    for name in EpisodeDataset.column_names():
        assert getattr(again, name).tobytes() == getattr(dataset, name).tobytes()
        assert isinstance(getattr(again, name), np.memmap) == mmap


def test_a_loaded_dataset_cannot_be_written_to(tmp_path):
    make_dataset().save(tmp_path)
    for mmap in (True, False):
        with pytest.raises(ValueError, match="read-only"):
            EpisodeDataset.load(tmp_path, mmap=mmap).costs[0] = 0


@pytest.mark.parametrize("name", EpisodeDataset.column_names())
def test_one_flipped_bit_in_any_row_of_any_column_is_found(tmp_path, name):
    make_dataset().save(tmp_path)
    path = columns_folder(tmp_path) / f"{name}.npy"
    clean = path.read_bytes()
    column = np.load(path)
    row_bytes = column.nbytes // len(column)
    for row in range(len(column)):
        dirty = bytearray(clean)
        dirty[len(clean) - column.nbytes + row * row_bytes] ^= 1
        path.write_bytes(dirty)
        with pytest.raises(DatasetError, match="is damaged: "):
            EpisodeDataset.load(tmp_path)
    path.write_bytes(clean)
    EpisodeDataset.load(tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", "renamed"),
        ("bag_id", "tuesday"),
        ("episode_cost", 0.0),
        ("episode_return", 99.0),
        ("terminated", True),
        ("truncated", False),
        ("policy_ids", ["other"]),
        ("fallbacks", 77),
        ("lost", 1),
        ("length", 4),
        ("start", 1),
        ("digest", "0" * 64),
    ],
)
def test_a_changed_record_is_found(tmp_path, field, value):
    make_dataset().save(tmp_path)
    index = json.loads((tmp_path / "dataset.json").read_text())
    assert index["episodes"][0][field] != value
    index["episodes"][0][field] = value
    (tmp_path / "dataset.json").write_text(json.dumps(index))
    with pytest.raises(DatasetError, match="damaged"):
        EpisodeDataset.load(tmp_path)


def test_records_left_out_are_found(tmp_path):
    make_dataset().save(tmp_path)
    index = json.loads((tmp_path / "dataset.json").read_text())
    index["episodes"].pop()
    (tmp_path / "dataset.json").write_text(json.dumps(index))
    with pytest.raises(DatasetError, match="rows"):
        EpisodeDataset.load(tmp_path)


def test_cut_files_and_missing_files_are_named(tmp_path):
    make_dataset().save(tmp_path)
    path = columns_folder(tmp_path) / "costs.npy"
    content = path.read_bytes()
    for kept in (0, 5, 60, len(content) - 1):
        path.write_bytes(content[:kept])
        with pytest.raises(DatasetError, match=r"costs\.npy"):
            EpisodeDataset.load(tmp_path)
    path.unlink()
    with pytest.raises(DatasetError, match=r"costs\.npy is missing"):
        EpisodeDataset.load(tmp_path)


def test_pickled_columns_are_never_loaded(tmp_path):
    make_dataset().save(tmp_path)
    np.save(columns_folder(tmp_path) / "costs.npy", np.array([print] * 25, dtype=object), allow_pickle=True)
    with pytest.raises(DatasetError, match=r"costs\.npy cannot be read"):
        EpisodeDataset.load(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"schema": "saferule_ros/episode-dataset/99"}'])
def test_an_index_of_another_kind_is_refused(tmp_path, content):
    make_dataset().save(tmp_path)
    (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(DatasetError, match=r"dataset\.json"):
        EpisodeDataset.load(tmp_path)


def test_a_columns_name_cannot_lead_elsewhere(tmp_path):
    make_dataset().save(tmp_path / "dataset")
    index_path = tmp_path / "dataset" / "dataset.json"
    index = json.loads(index_path.read_text())
    shutil.copytree(columns_folder(tmp_path / "dataset"), tmp_path / "columns-elsewhere")
    index["columns"] = "../columns-elsewhere"
    index_path.write_text(json.dumps(index))
    with pytest.raises(DatasetError, match="none of ours"):
        EpisodeDataset.load(tmp_path / "dataset")


def test_where_there_is_no_dataset_the_error_says_how_to_make_one(tmp_path):
    with pytest.raises(DatasetError, match="saferule data ingest"):
        EpisodeDataset.load(tmp_path / "nothing")


def test_saving_again_replaces_and_leaves_nothing_behind(tmp_path):
    make_dataset().save(tmp_path)
    old = EpisodeDataset.load(tmp_path, mmap=True)
    new = EpisodeDataset.from_episodes([make_episode(9)])
    new.save(tmp_path)
    assert EpisodeDataset.load(tmp_path).digest == new.digest
    assert len(list(tmp_path.glob("columns-*"))) == 1
    # Whoever had the old one open reads on undisturbed.
    assert old.episode(4) == make_episode(4, "tuesday", length=7)


def test_a_folder_of_other_things_is_not_written_to(tmp_path):
    (tmp_path / "thesis.tex").write_text("irreplaceable")
    with pytest.raises(DatasetError, match=r"thesis\.tex"):
        make_dataset().save(tmp_path)
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match="cannot be written"):
        make_dataset().save(tmp_path / "file" / "dataset")


# Saves a second dataset over the first.
WRITER = """
from dataset_samples import make_dataset, make_episode
from saferule_ros.dataset.dataset import EpisodeDataset
dataset = EpisodeDataset.from_episodes([make_episode(9)])
def prepare(folder):
    make_dataset().save(folder)
def change(folder):
    dataset.save(folder)
"""


def test_killed_at_any_step_of_saving_the_old_or_the_new_dataset_is_there(tmp_path):
    old, new = make_dataset().digest, EpisodeDataset.from_episodes([make_episode(9)]).digest
    seen = []
    for folder, _ in killed_at_each_step(WRITER, tmp_path):
        seen.append(EpisodeDataset.load(folder).digest)
        # The next writer is not disturbed by what the killed one left.
        make_dataset().save(folder)
        assert len(list(folder.glob("columns-*"))) == 1
        assert not list(folder.glob(".writing-*"))
    assert len(seen) > 12, "the kills did not reach all of the nine columns, the rename and the clean-up"
    assert seen == sorted(seen, key=[old, new].index)
    assert {seen[0], seen[-1]} == {old, new}
