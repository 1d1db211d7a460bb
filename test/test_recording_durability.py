"""Nothing is acknowledged before it is on disk: files, then names, in that order."""

import os
from pathlib import Path

import pytest
from dataset_samples import make_dataset, make_episode
from recording_samples import received, record_episodes, stream

from saferule_ros.dataset.forget_set import ForgetSet
from saferule_ros.dataset.hdf5 import write_hdf5
from saferule_ros.recording.bag_writer import BagWriter, loop_topics
from saferule_ros.recording.errors import BagError
from saferule_ros.workspace import Workspace


@pytest.fixture
def log(monkeypatch) -> list[tuple[str, str]]:
    """What is synced and renamed, in order: ("sync", path) and ("name", new path)."""
    entries: list[tuple[str, str]] = []
    fsync, rename, replace = os.fsync, os.rename, os.replace

    def logged_fsync(descriptor: int) -> None:
        fsync(descriptor)
        entries.append(("sync", os.readlink(f"/proc/self/fd/{descriptor}")))

    def logged(function):
        def move(source, target) -> None:
            # What gets a name must be synced under its old one.
            assert ("sync", str(source)) in entries
            function(source, target)
            entries.append(("name", str(target)))

        return move

    monkeypatch.setattr(os, "fsync", logged_fsync)
    monkeypatch.setattr(os, "rename", logged(rename))
    monkeypatch.setattr(os, "replace", logged(replace))
    return entries


def test_a_sealed_episode_is_synced_with_its_name_and_then_with_the_metadata(tmp_path, log):
    writer = record_episodes(tmp_path / "demo", [make_episode(0)])
    folder = str(writer.folder)
    assert log[-1] == ("sync", folder)
    del log[:]
    path = writer.write_episode(received(stream(make_episode(1, id="x"), first_sequence=99)), {})
    renamed, listed = log.index(("name", str(path))), log.index(("name", f"{folder}/metadata.yaml"))
    assert renamed < log.index(("sync", folder)) < listed
    assert log[-1] == ("sync", folder)


def test_the_name_of_a_new_bag_is_synced(tmp_path, log):
    record_episodes(tmp_path / "demo", [make_episode(0)])
    first_file = log.index(("name", str(tmp_path / "demo" / "demo_0.mcap")))
    assert ("sync", str(tmp_path)) in log[:first_file]


def test_all_columns_are_synced_before_the_dataset_names_them(tmp_path, log):
    make_dataset().save(tmp_path / "dataset")
    named = log.index(("name", str(tmp_path / "dataset" / "dataset.json")))
    columns = list((tmp_path / "dataset").glob("columns-*/*.npy"))
    assert len(columns) == 10
    for path in [*columns, columns[0].parent, tmp_path / "dataset"]:
        assert ("sync", str(path)) in log[:named]
    assert ("sync", str(tmp_path / "dataset")) in log[named:]
    assert ("sync", str(tmp_path)) in log[named:]


def test_a_forget_set_is_synced_before_its_id_is_given_out(tmp_path, log):
    path: Path = ForgetSet.select(make_dataset(), ["monday"], [], "why", "who").save(tmp_path)
    assert log[-2:] == [("name", str(path)), ("sync", str(tmp_path))]


def test_the_folders_of_a_new_workspace_are_synced_with_their_names(tmp_path, log):
    workspace = Workspace(tmp_path / "robots" / "one").create()
    assert log[-1] == ("sync", str(workspace.root)), "after the last folder in it was made"
    assert {("sync", str(tmp_path)), ("sync", str(tmp_path / "robots"))} < set(log)
    del log[:]
    workspace.create()  # made before, by somebody who may have been cut off
    assert log == [("sync", str(tmp_path / "robots")), ("sync", str(workspace.root))]


def test_folders_that_are_made_on_the_way_are_synced_with_their_names(tmp_path, log):
    ForgetSet.select(make_dataset(), ["monday"], [], "why", "who").save(tmp_path / "robot" / "forget_sets")
    assert log[:2] == [("sync", str(tmp_path / "robot")), ("sync", str(tmp_path))]
    del log[:]
    BagWriter(tmp_path / "other" / "bags" / "demo", loop_topics())
    assert log[:2] == [("sync", str(tmp_path / "other")), ("sync", str(tmp_path))]


def test_a_bag_that_cannot_be_begun_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(BagWriter, "_write_metadata", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(BagError, match="No space left"):
        BagWriter(tmp_path / "demo", loop_topics())
    assert list(tmp_path.iterdir()) == []


def test_an_exported_dataset_is_synced_before_and_after_it_gets_its_name(tmp_path, log):
    pytest.importorskip("h5py", reason="h5py is not installed")
    write_hdf5(make_dataset(), tmp_path / "walks.hdf5")
    assert log[-2:] == [("name", str(tmp_path / "walks.hdf5")), ("sync", str(tmp_path))]
