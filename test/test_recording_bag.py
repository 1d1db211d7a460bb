"""Bags by the recorder hold every byte, and readers that are not ours accept them."""

import os
from pathlib import Path

import pytest
import yaml
from dataset_samples import make_episode
from mcap.reader import make_reader
from mcap.records import Message
from mcap.stream_reader import StreamReader
from mcap_ros2.decoder import DecoderFactory
from recording_samples import ACTION_TOPIC, OBSERVATION_TOPIC, observation, received, record_episodes, stream, typestore
from rosbags.rosbag2 import Reader

from saferule_ros.recording.bag_writer import BagWriter, loop_topics
from saferule_ros.recording.definitions import field_list, installed_definition
from saferule_ros.recording.errors import BagError
from saferule_ros.recording.messages import FIELDS, RawMessage
from saferule_ros.workspace import WorkspaceError

EPISODES = [make_episode(number, bag_id="demo", length=4 + number) for number in range(3)]


def metadata_of(folder: Path) -> dict:
    return yaml.safe_load((folder / "metadata.yaml").read_text())["rosbag2_bagfile_information"]


def test_an_independent_reader_finds_every_byte_in_the_order_of_reception(tmp_path):
    writer = record_episodes(tmp_path / "demo", EPISODES)
    messages, first_sequence = [], 1
    for episode in EPISODES:
        messages += stream(episode, first_sequence)
        first_sequence += episode.length + 1
    with Reader(writer.folder) as reader:
        found = [RawMessage(c.topic, bytes(data), time) for c, time, data in reader.messages()]
        assert found == received(messages)
        assert {c.topic: (c.msgtype, c.msgcount) for c in reader.connections} == {
            OBSERVATION_TOPIC: ("saferule_ros/msg/Observation", 4 + 5 + 6 + 3),
            ACTION_TOPIC: ("saferule_ros/msg/Action", 4 + 5 + 6),
        }
        assert reader.message_count == len(messages) == writer.summary.messages
        assert reader.start_time == found[0].log_time
        assert reader.end_time == found[-1].log_time + 1


def test_the_definitions_in_the_bag_are_enough_to_decode_it(tmp_path):
    writer = record_episodes(tmp_path / "demo", EPISODES[:1])
    with open(writer.folder / "demo_0.mcap", "rb") as file:
        reader = make_reader(file, decoder_factories=[DecoderFactory()])
        assert reader.get_header().profile == "ros2"
        decoded = [message for *_, message in reader.iter_decoded_messages(topics=[OBSERVATION_TOPIC])]
        channels = reader.get_summary().channels.values()
    assert [message.episode_id for message in decoded] == ["walk-000"] * 5
    assert [list(message.data) for message in decoded] == [list(row) for row in EPISODES[0].observations]
    assert all(channel.metadata["topic_type_hash"].startswith("RIHS01_") for channel in channels)
    profile = yaml.safe_load(next(iter(channels)).metadata["offered_qos_profiles"])
    assert profile[0]["reliability"] == "reliable"


def test_type_hashes_are_those_of_the_message_definitions():
    for topic in loop_topics():
        expected = typestore().hash_rihs01(topic.definition.type)
        if not topic.definition.type_hash:
            pytest.skip("this ROS distribution has no type hashes")
        assert topic.definition.type_hash == expected


def test_metadata_is_what_rosbag2_writes_since_jazzy(tmp_path):
    writer = record_episodes(tmp_path / "demo", EPISODES)
    metadata = metadata_of(writer.folder)
    assert (metadata["version"], metadata["storage_identifier"]) == (9, "mcap")
    assert metadata["relative_file_paths"] == ["demo_0.mcap", "demo_1.mcap", "demo_2.mcap"]
    assert [file["path"] for file in metadata["files"]] == metadata["relative_file_paths"]
    assert [file["message_count"] for file in metadata["files"]] == [9, 11, 13]
    assert metadata["ros_distro"] == "jazzy"
    assert metadata["custom_data"] == {"saferule_ros.bag_id": "demo", "saferule_ros.recorded_by": "test"}
    assert sorted(os.listdir(writer.folder)) == [*metadata["relative_file_paths"], "manifest.json", "metadata.yaml"]
    # As rosbag2 reads it with yaml-cpp: no anchors, and every key that version 9 requires.
    text = (writer.folder / "metadata.yaml").read_text()
    assert "&" not in text
    topic = metadata["topics_with_message_count"][0]["topic_metadata"]
    assert topic["offered_qos_profiles"][0]["history"] == "keep_last"
    assert {"compression_format", "compression_mode", "duration", "starting_time", "message_count"} <= metadata.keys()


def test_a_bag_without_episodes_is_a_bag(tmp_path):
    writer = BagWriter(tmp_path / "demo", loop_topics(), "test")
    with Reader(writer.folder) as reader:
        assert reader.message_count == 0


def test_commands_that_were_received_first_are_written_first(tmp_path):
    messages = received(stream(EPISODES[0]))
    writer = BagWriter(tmp_path / "demo", loop_topics(OBSERVATION_TOPIC, ACTION_TOPIC))
    path = writer.write_episode(messages[::-1], {})
    with open(path, "rb") as file:
        in_file_order = [record.log_time for record in StreamReader(file).records if isinstance(record, Message)]
    assert in_file_order == [message.log_time for message in messages]


def test_an_existing_folder_is_never_written_into(tmp_path):
    record_episodes(tmp_path / "demo", EPISODES)
    before = metadata_of(tmp_path / "demo")
    with pytest.raises(BagError, match="is there already"):
        BagWriter(tmp_path / "demo", loop_topics())
    assert metadata_of(tmp_path / "demo") == before


def test_a_bag_id_that_leads_elsewhere_is_refused(tmp_path):
    for name in (" ", ".hidden", "a b"):
        with pytest.raises(WorkspaceError, match="bag id"):
            BagWriter(tmp_path / name, loop_topics())
    assert os.listdir(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BagError, match="file/demo' cannot be written"):
        BagWriter(tmp_path / "file" / "demo", loop_topics())


def test_messages_of_other_topics_and_empty_episodes_are_refused(tmp_path):
    writer = BagWriter(tmp_path / "demo", loop_topics())
    with pytest.raises(BagError, match="topic '/arm/observation' was not announced"):
        writer.write_episode(received([observation(EPISODES[0], 0)]), {})
    with pytest.raises(BagError, match="without messages"):
        writer.write_episode([], {})
    assert sorted(os.listdir(writer.folder)) == ["manifest.json", "metadata.yaml"]


def test_a_full_disk_is_an_error_and_what_was_sealed_stays(tmp_path, monkeypatch):
    writer = record_episodes(tmp_path / "demo", EPISODES[:1])

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    sync = os.fsync
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BagError, match="No space left on device"):
        writer.write_episode(received(stream(EPISODES[1])), {})
    monkeypatch.setattr(os, "fsync", sync)
    assert sorted(os.listdir(writer.folder)) == ["demo_0.mcap", "manifest.json", "metadata.yaml"]
    writer.write_episode(received(stream(EPISODES[2])), {})
    with Reader(writer.folder) as reader:
        assert len(list(reader.messages())) == 9 + 13


def test_known_fields_are_those_of_the_message_files():
    for name, fields in FIELDS.items():
        assert field_list(installed_definition(name).text) == fields


def test_definitions_hold_every_nested_type_once(tmp_path):
    texts = {
        "Outer": "a/Inner[3] one  # comment\na/Inner[<=2] two\nb/Leaf leaf\nstring<=5 text 'x=y'\nint32 SIZE=3\n",
        "Inner": "b/Leaf[] leaves\nfloat64 value 0.5\n",
    }
    for prefix, package, name, text in (
        ("first", "a", "Outer", texts["Outer"]),
        ("first", "a", "Inner", texts["Inner"]),
        ("second", "b", "Leaf", "uint8 x"),
    ):
        path = tmp_path / prefix / "share" / package / "msg" / f"{name}.msg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    definition = installed_definition("a/msg/Outer", [tmp_path / "first", tmp_path / "second"])
    root, *nested = definition.text.split("=" * 80 + "\n")
    assert root == texts["Outer"]
    assert nested == [f"MSG: a/Inner\n{texts['Inner']}", "MSG: b/Leaf\nuint8 x\n"]
    assert field_list(definition.text) == ("a/Inner[3] one", "a/Inner[<=2] two", "b/Leaf leaf", "string<=5 text")
    assert definition.type_hash == ""


def test_a_type_that_is_not_installed_is_named():
    with pytest.raises(BagError, match="'none_msgs/msg/Thing' is not installed"):
        installed_definition("none_msgs/msg/Thing")
