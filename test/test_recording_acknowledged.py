"""Of a bag with a manifest only what was acknowledged is taken, and with `only_signed` nothing that nobody signed."""

import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from dataset_samples import make_dataset, make_episode
from recording_samples import ACTION_TOPIC, OBSERVATION_TOPIC, received, record_episodes, stream

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.nodes.recording import Recording
from saferule_ros.recording.bag_writer import BagWriter, loop_topics
from saferule_ros.recording.errors import BagError
from saferule_ros.recording.ingest import ingest
from saferule_ros.signing import KeyFolder

EPISODES = [make_episode(number, bag_id="demo", length=4 + number) for number in range(3)]
DEADLINE = 60.0  # of anything at all [s]


@pytest.fixture
def keys(tmp_path: Path) -> KeyFolder:
    return KeyFolder(tmp_path / "keys")


@pytest.fixture(params=[False, True], ids=["unsigned, too", "only signed"])
def signed(request, keys: KeyFolder) -> dict:
    """Options of ingest."""
    keys.own()
    return {"trusted": keys.trusted(), "only_signed": request.param}


def ids(dataset: Path) -> list[str]:
    return [record.id for record in EpisodeDataset.load(dataset).records]


def test_a_file_that_was_put_into_a_signed_bag_is_refused_and_named(tmp_path, keys, signed):
    record_episodes(tmp_path / "demo", EPISODES, keys.own())
    record_episodes(tmp_path / "x" / "demo", [make_episode(9)])
    shutil.copy(tmp_path / "x" / "demo" / "demo_0.mcap", tmp_path / "demo" / "demo_99.mcap")
    report = ingest([tmp_path / "demo"], tmp_path / "dataset", **signed)
    assert ids(tmp_path / "dataset") == ["walk-000", "walk-001", "walk-002"]
    bag = report.bags[0]
    assert (bag.status, bag.signed_by, bag.episodes, bag.transitions) == ("partial", "own", 3, 4 + 5 + 6)
    assert list(bag.refused) == ["walk-009"] and "manifest.json does not name it" in bag.refused["walk-009"]
    assert bag.missing_episodes == ()


def test_an_episode_that_was_rewritten_with_its_own_record_is_refused_and_missing(tmp_path, keys, signed):
    record_episodes(tmp_path / "demo", EPISODES, keys.own())
    erased = replace(EPISODES[1], costs=np.zeros(5, np.float32))
    record_episodes(tmp_path / "x" / "demo", [erased])
    shutil.copy(tmp_path / "x" / "demo" / "demo_0.mcap", tmp_path / "demo" / "demo_1.mcap")
    bag = ingest([tmp_path / "demo"], tmp_path / "dataset", **signed).bags[0]
    assert ids(tmp_path / "dataset") == ["walk-000", "walk-002"]
    assert erased.digest in bag.refused["walk-001"] and EPISODES[1].digest in bag.refused["walk-001"]
    assert (bag.status, bag.missing_episodes) == ("partial", ("walk-001",))


def test_where_all_was_rewritten_nothing_is_taken_and_the_dataset_stays(tmp_path, keys, signed):
    record_episodes(tmp_path / "demo", EPISODES[:1], keys.own())
    record_episodes(tmp_path / "x" / "demo", [replace(EPISODES[0], costs=np.zeros(4, np.float32))])
    shutil.copy(tmp_path / "x" / "demo" / "demo_0.mcap", tmp_path / "demo" / "demo_0.mcap")
    make_dataset().save(tmp_path / "dataset")
    with pytest.raises(BagError, match=r"not one usable episode in 1 bags: its digest is .* was changed"):
        ingest([tmp_path / "demo"], tmp_path / "dataset", **signed)
    assert EpisodeDataset.load(tmp_path / "dataset").digest == make_dataset().digest


@pytest.mark.parametrize("has_file", [False, True], ids=["open", "killed before the manifest was written"])
def test_what_a_killed_recorder_had_not_acknowledged_is_taken_but_not_as_signed(tmp_path, keys, signed, has_file):
    topics = loop_topics(OBSERVATION_TOPIC, ACTION_TOPIC)
    sealed: list = []
    recording = Recording(BagWriter(tmp_path / "demo", topics, "test", "jazzy", key=keys.own()), sealed.append)
    messages = received([*stream(EPISODES[0]), *stream(EPISODES[1], first_sequence=50)])
    for raw in messages[:-1]:
        (recording.observation if raw.topic == OBSERVATION_TOPIC else recording.action)(raw)
    wait_for(lambda: sealed)
    recording.tend()
    shutil.copytree(tmp_path / "demo", tmp_path / "killed")
    recording.observation(messages[-1])
    recording.close()
    if has_file:
        shutil.copy(tmp_path / "demo" / "demo_1.mcap", tmp_path / "killed")
    bag = ingest([tmp_path / "killed"], tmp_path / "dataset", **signed).bags[0]
    assert bag.status == ("partial" if signed["only_signed"] or not has_file else "complete")
    if signed["only_signed"]:
        assert ids(tmp_path / "dataset") == ["walk-000"]
        assert list(bag.refused) == ["walk-001"] and "no signature covers that" in bag.refused["walk-001"]
    else:
        assert ids(tmp_path / "dataset") == ["walk-000", "walk-001"] and bag.refused == {}
        length = EpisodeDataset.load(tmp_path / "dataset").records[1].length
        assert length == (5 if has_file else 4) and bag.recovered_episodes == (() if has_file else ("walk-001",))


def wait_for(condition) -> None:
    """By a thread of its own."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_what_is_left_of_a_damaged_file_is_taken_but_not_as_signed(tmp_path, keys, signed):
    record_episodes(tmp_path / "demo", EPISODES, keys.own())
    path = tmp_path / "demo" / "demo_1.mcap"
    content = path.read_bytes()
    path.write_bytes(content[: content.rindex(b"walk-001", 0, len(content) * 3 // 4)])
    bag = ingest([tmp_path / "demo"], tmp_path / "dataset", **signed).bags[0]
    whole = ["walk-000", "walk-002"]
    assert ids(tmp_path / "dataset") == (whole if signed["only_signed"] else sorted([*whole, "walk-001"]))
    assert bag.missing_episodes == ("walk-001",) and bag.remains == ("walk-001",)
    assert list(bag.refused) == (["walk-001"] if signed["only_signed"] else [])


@pytest.mark.parametrize(("name", "value"), [("bag_id", "tuesday"), ("recorded_by", "robot 7")])
def test_a_signature_is_for_the_names_by_which_data_is_forgotten(tmp_path, keys, name, value):
    record_episodes(tmp_path / "demo", EPISODES, keys.own())
    path = tmp_path / "demo" / "metadata.yaml"
    content = yaml.safe_load(path.read_text())
    content["rosbag2_bagfile_information"]["custom_data"][f"saferule_ros.{name}"] = value
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(BagError, match=rf"is bag 'demo', recorded by 'test', but metadata\.yaml makes it .*{value}"):
        ingest([tmp_path / "demo"], tmp_path / "dataset", trusted=keys.trusted(), only_signed=True)
