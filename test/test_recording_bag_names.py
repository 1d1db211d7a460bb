"""Two different bags never share an id in a dataset, whichever way they come there; and ids that are there stay."""

import os

import pytest
from dataset_samples import make_episode
from recording_samples import record_episodes

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.recording.errors import BagError
from saferule_ros.recording.ingest import ingest


@pytest.fixture
def bags(tmp_path):
    """Of two robots, which both call theirs monday."""
    for robot in range(2):
        record_episodes(tmp_path / f"robot{robot}" / "monday", [make_episode(robot), make_episode(10 + robot)])
    return [tmp_path / f"robot{robot}" / "monday" for robot in range(2)]


def owners(dataset):
    return {record.id: record.bag_id for record in EpisodeDataset.load(dataset).records}


def test_another_bag_of_the_same_name_is_not_added_to_a_dataset(tmp_path, bags):
    digest = ingest(bags[:1], tmp_path / "dataset").dataset_digest
    with pytest.raises(BagError, match=r"robot1/monday' is bag 'monday', but the dataset's bag 'monday' has") as error:
        ingest(bags[1:], tmp_path / "dataset", append=True)
    assert EpisodeDataset.load(tmp_path / "dataset").digest == digest
    assert "rename its folder" in error.value.hint
    os.rename(bags[1], tmp_path / "robot1" / "other")  # the remedy works, now and when it comes again
    for _ in range(2):
        report = ingest([tmp_path / "robot1" / "other"], tmp_path / "dataset", append=True)
        assert report.bags[0].bag_id == "other" and report.complete
        assert owners(tmp_path / "dataset") == {
            "walk-000": "monday", "walk-010": "monday", "walk-001": "other", "walk-011": "other",
        }  # fmt: skip


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_bags_with_one_id_the_renamed_one_goes_by_its_folder(tmp_path, bags, order):
    with pytest.raises(BagError, match=r"both are bag 'monday'.*rename the folder of one"):
        ingest(bags, tmp_path / "dataset")
    os.rename(bags[0], tmp_path / "robot0" / "other")
    ingest([tmp_path / "robot0" / "other", bags[1]][::order], tmp_path / "dataset")
    assert owners(tmp_path / "dataset") == {
        "walk-000": "other", "walk-010": "other", "walk-001": "monday", "walk-011": "monday",
    }  # fmt: skip


def test_a_bag_that_has_grown_is_added_under_its_id_also_from_a_renamed_folder(tmp_path):
    episodes = [make_episode(number) for number in range(3)]
    record_episodes(tmp_path / "demo", episodes[:2])
    record_episodes(tmp_path / "later" / "demo", episodes)
    ingest([tmp_path / "demo"], tmp_path / "dataset")
    os.rename(tmp_path / "later" / "demo", tmp_path / "copy")
    report = ingest([tmp_path / "copy"], tmp_path / "dataset", append=True)
    assert (report.bags[0].bag_id, report.duplicates) == ("demo", 2)
    assert set(owners(tmp_path / "dataset").values()) == {"demo"}


def test_a_bag_of_which_nothing_can_be_taken_takes_no_id_from_another(tmp_path, bags):
    for path in bags[0].glob("*.mcap"):
        path.write_bytes(b"")
    report = ingest(bags, tmp_path / "dataset")
    assert [(bag.bag_id, bag.status) for bag in report.bags] == [("monday", "failed"), ("monday", "complete")]
