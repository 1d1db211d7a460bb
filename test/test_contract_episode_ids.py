"""Episodes of a contract have names of their own, whatever the clock says, and whichever bag they are of."""

import pytest
from contract_samples import DRIVE, contract, drive_stream, write_bag
from hypothesis import given
from hypothesis import strategies as st

from saferule_ros.contract.episode_ids import episode_id, label_of
from saferule_ros.contract.translation import ContractTranslation
from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.recording.ingest import ingest
from saferule_ros.workspace import check_name

SECOND = 10**9


def make() -> ContractTranslation:
    return ContractTranslation(contract(DRIVE))


def test_two_recordings_of_a_simulator_whose_time_begins_anew_are_one_dataset(tmp_path):
    bags = [
        write_bag(tmp_path / name, drive_stream(seed, seconds=3.0, start=SECOND))
        for seed, name in enumerate(["monday", "my walk (2)"])
    ]
    digest = ingest(bags, tmp_path / "data", make_translation=make).dataset_digest
    records = EpisodeDataset.load(tmp_path / "data").records
    ids = [record.id for record in records]
    assert len(set(ids)) == len(ids) >= 4 and {record.bag_id for record in records} == {"monday", "my walk (2)"}
    times = [{id.rsplit("-", 1)[1] for id in ids if label in id} for label in ("-monday-", "-my_walk__2__")]
    assert times[0] & times[1], "the same times"
    for id in ids:
        check_name(id, "episode id")
    assert ingest(bags, tmp_path / "again", make_translation=make).dataset_digest == digest


@given(st.text(max_size=200), st.text(max_size=200))
def test_whatever_a_bag_is_called_its_episodes_have_valid_names_and_other_ones_than_those_of_another(one, other):
    for bag_id in (one, other):
        check_name(episode_id("x" * 60, label_of(bag_id), 2**63, 99), "episode id")
    assert (label_of(one) == label_of(other)) == (one == other)


@pytest.mark.parametrize(("bag_id", "label"), [("monday", "monday"), ("walk.2026+1", "walk.2026+1"), ("", "")])
def test_what_is_a_name_already_stays_as_it_is(bag_id, label):
    assert label_of(bag_id) == label
    assert episode_id("drive", label, 7, 0) == "-".join(part for part in ("drive", label, "7") if part)
