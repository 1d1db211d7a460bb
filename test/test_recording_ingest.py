"""What was recorded comes back exactly; what is damaged or foreign is refused with words; nothing is destroyed."""

import os
import re
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import yaml
from contract_samples import DRIVE, contract, drive_stream, floats, write_bag
from dataset_samples import make_dataset, make_episode
from kills import killed_at_each_step
from recording_samples import (
    ACTION_TOPIC,
    OBSERVATION_TOPIC,
    START,
    TICK,
    encode,
    observation,
    received,
    record,
    record_episodes,
    stream,
    typestore,
)
from rosbags.rosbag2 import StoragePlugin, Writer

from saferule_ros.contract.errors import ContractError
from saferule_ros.contract.translation import ContractTranslation
from saferule_ros.dataset.columns import ColumnFile
from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.errors import DatasetError
from saferule_ros.dataset.summary import summarize
from saferule_ros.recording.assembly import Faults
from saferule_ros.recording.bag_writer import BagWriter, loop_topics
from saferule_ros.recording.errors import BagError
from saferule_ros.recording.ingest import ingest
from saferule_ros.recording.ingest_report import Status
from saferule_ros.recording.mcap_scan import McapScan
from saferule_ros.recording.messages import ACTION_TYPE, OBSERVATION_TYPE, RawMessage
from saferule_ros.recording.reader import read_bag, read_bag_content

EPISODES = [make_episode(number, bag_id="demo", length=4 + number) for number in range(3)]


def foreign_bag(folder: Path, messages: list[RawMessage], types: dict[str, str], storage=StoragePlugin.MCAP) -> Path:
    """A bag by a writer that is not ours: all in one file, other topics too."""
    store = typestore()
    with Writer(folder, version=9, storage_plugin=storage) as writer:
        connections = {topic: writer.add_connection(topic, kind, typestore=store) for topic, kind in types.items()}
        for message in messages:
            writer.write(connections[message.topic], message.log_time, message.data)
    return folder


OUR_TYPES = {OBSERVATION_TOPIC: OBSERVATION_TYPE, ACTION_TOPIC: ACTION_TYPE}


def test_progress_is_told_within_a_bag_and_never_goes_back(tmp_path):
    record_episodes(tmp_path / "demo", EPISODES)  # each episode in a file of its own
    told = []
    ingest([tmp_path / "demo"], tmp_path / "dataset", lambda done, total, name: told.append((done, total, name)))
    shares = [done for done, _, _ in told]
    assert shares == sorted(shares) and (shares[0], shares[-1]) == (0, 1)
    assert len({share for share in shares if 0 < share < 1}) == 2, "after the first two of three files"
    assert {(total, name) for _, total, name in told[:-1]} == {(1, "demo")}


def test_what_was_recorded_is_read_to_the_bit(tmp_path):
    record_episodes(tmp_path / "demo", EPISODES)
    assert read_bag(tmp_path / "demo") == EPISODES


def test_a_bag_that_was_renamed_keeps_its_id(tmp_path):
    record_episodes(tmp_path / "demo", EPISODES)
    os.rename(tmp_path / "demo", tmp_path / "copy")
    assert read_bag(tmp_path / "copy") == EPISODES


def test_a_recording_by_another_recorder_is_read_too(tmp_path):
    messages, first_sequence = [], 1
    for episode in EPISODES:
        messages += stream(episode, first_sequence)
        first_sequence += episode.length + 1
    text = typestore().types["std_msgs/msg/String"](data="hello")
    chatter = RawMessage("/chatter", bytes(typestore().serialize_cdr(text, "std_msgs/msg/String")), 5)
    raw = received(messages)
    raw.insert(3, chatter._replace(log_time=raw[3].log_time))
    foreign_bag(tmp_path / "demo", raw, {**OUR_TYPES, "/chatter": "std_msgs/msg/String"})
    content = read_bag_content(tmp_path / "demo")
    assert list(content.episodes) == EPISODES
    assert (content.messages, content.strays, content.faults) == (len(messages), 0, Faults())


def test_ingested_episodes_are_those_of_the_bags_in_their_order(tmp_path):
    record_episodes(tmp_path / "demo", EPISODES)
    record_episodes(tmp_path / "more", [make_episode(7)])
    told = []
    report = ingest([tmp_path / "more", tmp_path / "demo"], tmp_path / "dataset", lambda *state: told.append(state))
    expected = EpisodeDataset.from_episodes(
        replace(episode, stamps=START + TICK * np.arange(episode.length), recorded_by="test")
        for episode in (make_episode(7, "more"), *EPISODES)
    )
    dataset = EpisodeDataset.load(tmp_path / "dataset")
    assert dataset.digest == expected.digest == report.dataset_digest
    assert (report.episodes, report.transitions, report.duplicates) == (4, 7 + 4 + 5 + 6, 0)
    assert report.complete
    assert [(bag.bag_id, bag.episodes, bag.transitions) for bag in report.bags] == [("more", 1, 7), ("demo", 3, 15)]
    assert (told[0], told[-1]) == ((0, 2, "more"), (2, 2, "")) and (1, 2, "demo") in told


def test_loss_is_reported_and_the_episode_is_cut(tmp_path):
    messages = received(stream(EPISODES[2]))
    del messages[6]  # observation 3
    messages[8] = messages[8]._replace(data=messages[8].data[:-9])  # and command 4 cannot be decoded
    writer = foreign_bag(tmp_path / "demo", messages, OUR_TYPES)
    report = ingest([writer], tmp_path / "dataset")
    assert not report.complete
    assert report.faults == Faults(lost=2, unused=1)
    assert report.bags[0].malformed == 1
    record = EpisodeDataset.load(tmp_path / "dataset").records[0]
    assert (record.length, record.truncated, record.lost) == (2, True, 2)


def test_the_same_episode_in_two_bags_is_taken_once(tmp_path):
    record_episodes(tmp_path / "demo", EPISODES)
    record_episodes(tmp_path / "again", EPISODES[:2])
    report = ingest([tmp_path / "demo", tmp_path / "again"], tmp_path / "dataset")
    assert (report.episodes, report.duplicates) == (3, 2)


def test_one_id_for_two_different_episodes_is_refused(tmp_path):
    record_episodes(tmp_path / "demo", EPISODES)
    record_episodes(tmp_path / "other", [make_episode(9, id="walk-001")])
    make_dataset().save(tmp_path / "dataset")
    with pytest.raises(BagError, match="'walk-001' names different episodes in bag 'demo'"):
        ingest([tmp_path / "demo", tmp_path / "other"], tmp_path / "dataset")
    assert EpisodeDataset.load(tmp_path / "dataset").digest == make_dataset().digest


def test_a_bag_that_is_named_twice_is_refused(tmp_path):
    record_episodes(tmp_path / "demo", EPISODES)
    with pytest.raises(BagError, match="both are bag 'demo'"):
        ingest([tmp_path / "demo", tmp_path / "demo"], tmp_path / "dataset")


@pytest.mark.parametrize("processes", [1, 2])
def test_episodes_of_other_sizes_than_most_are_refused_and_named_with_their_bag(tmp_path, processes):
    """Wherever they come: before the others, in a bag of their own, or in one with others."""
    record_episodes(tmp_path / "wide", [make_episode(9, observations=np.zeros((8, 6)))])
    record_episodes(tmp_path / "demo", [make_episode(8, length=3, actions=np.zeros((3, 1))), *EPISODES])
    report = ingest([tmp_path / "wide", tmp_path / "demo"], tmp_path / "dataset", processes=processes)
    dataset = EpisodeDataset.load(tmp_path / "dataset")
    assert [dataset.episode(number) for number in range(dataset.episodes)] == EPISODES
    wide, demo = report.bags
    assert (report.status, wide.status, demo.status) == ("partial", "failed", "partial")
    assert (wide.bag_id, wide.episodes, demo.episodes, demo.transitions) == ("wide", 0, 3, 15)
    assert "size (6, 2), most have (5, 2)" in wide.refused["walk-009"] and list(wide.refused) == ["walk-009"]
    assert "size (5, 1), most have (5, 2)" in demo.refused["walk-008"] and list(demo.refused) == ["walk-008"]


def test_what_is_added_to_a_dataset_has_its_sizes_however_few_do(tmp_path):
    record_episodes(tmp_path / "mixed", [make_episode(9), make_episode(8, observations=np.zeros((8, 6)), length=7)])
    record_episodes(tmp_path / "wide", [make_episode(7, observations=np.zeros((8, 6)))])
    make_dataset().save(tmp_path / "dataset")
    with pytest.raises(BagError, match=r"size \(6, 2\), the dataset has \(5, 2\)"):
        ingest([tmp_path / "wide"], tmp_path / "dataset", append=True)
    assert EpisodeDataset.load(tmp_path / "dataset").digest == make_dataset().digest
    report = ingest([tmp_path / "mixed", tmp_path / "wide"], tmp_path / "dataset", append=True)
    assert [list(bag.refused) for bag in report.bags] == [["walk-008"], ["walk-007"]] and report.episodes == 6


def test_a_bag_of_ever_new_sizes_costs_no_more_files_than_some(tmp_path):
    odd = [make_episode(number, length=1, observations=np.zeros((2, number))) for number in range(10, 20)]
    record_episodes(tmp_path / "odd", [*odd, make_episode(1)])
    report = ingest([tmp_path / "odd"], tmp_path / "dataset")
    assert report.episodes == 1
    told = list(report.bags[0].refused.values())
    assert len(told) == 10 and sum("another size than those of 8 before" in why for why in told) == 3


class RefusesOne(ContractTranslation):
    """Of a bag whose observations a safeguard of its contract does not fit, for instance."""

    def begin_bag(self, bag_id):
        super().begin_bag(bag_id)
        if bag_id == "odd":
            raise ContractError("cost of contract 'drive': the safeguard reads 14 values, there are 15", "Correct it")


@pytest.mark.parametrize("processes", [1, 2])
def test_a_bag_that_its_contract_does_not_fit_does_not_hold_up_the_others(tmp_path, processes):
    bags = [write_bag(tmp_path / name, drive_stream(seconds=2.0)) for name in ("odd", "even")]
    make = partial(RefusesOne, contract(DRIVE))
    report = ingest(bags, tmp_path / "dataset", make_translation=make, processes=processes)
    assert [(bag.bag_id, bag.status) for bag in report.bags] == [("odd", "failed"), ("even", "complete")]
    assert "the safeguard reads 14 values, there are 15" in report.bags[0].problems[0]


def test_a_bag_whose_messages_have_another_size_than_its_contract_says_is_told_with_the_source(tmp_path):
    content = yaml.safe_load(DRIVE.read_text())
    (goal,) = (source for source in content["sources"].values() if source["topic"] == "/goal_in_base")
    goal |= {"fields": ["data[0:3]"], "scale": [1.0, 2.0]}
    (tmp_path / "drive.yaml").write_text(yaml.safe_dump(content))
    even = drive_stream(seconds=2.0)
    odd = [m._replace(data=floats([3.0, 0.0, 0.0])) if m.topic == "/goal_in_base" else m for m in even]
    bags = [write_bag(tmp_path / "odd", odd), write_bag(tmp_path / "even", even)]
    make = partial(ContractTranslation, contract(tmp_path / "drive.yaml"))
    report = ingest(bags, tmp_path / "dataset", make_translation=make)
    assert [(bag.bag_id, bag.status) for bag in report.bags] == [("odd", "failed"), ("even", "complete")]
    assert report.bags[0].ticks.reasons.keys() == {"goal: wrong size"}


def test_a_disk_that_refuses_a_part_is_no_fault_of_its_bag(tmp_path, monkeypatch):
    record_episodes(tmp_path / "demo", EPISODES)
    record_episodes(tmp_path / "more", [make_episode(7)])
    make_dataset().save(tmp_path / "dataset")
    append, parts = ColumnFile.append, set()

    def full(self, values):
        place = Path(self._file.name)
        if ".ingest-dataset" in place.parts:
            parts.add(place.parent)
            if len(parts) == 2:
                raise OSError(28, "No space left on device")
        append(self, values)

    monkeypatch.setattr(ColumnFile, "append", full)
    with pytest.raises(DatasetError, match="No space left"):
        ingest([tmp_path / "demo", tmp_path / "more"], tmp_path / "dataset")
    monkeypatch.undo()
    assert EpisodeDataset.load(tmp_path / "dataset").digest == make_dataset().digest
    assert ingest([tmp_path / "demo", tmp_path / "more"], tmp_path / "dataset").episodes == 4, "there is room again"


def test_incomplete_episodes_are_named_with_the_reason(tmp_path):
    record(tmp_path / "demo", received([*stream(EPISODES[0])[3:], *stream(EPISODES[1], first_sequence=50)]))
    report = ingest([tmp_path / "demo"], tmp_path / "dataset")
    assert report.episodes == 1
    assert list(report.bags[0].incomplete) == ["walk-000"]
    assert "step 0 was never seen" in report.bags[0].incomplete["walk-000"]


@pytest.mark.parametrize(
    ("spoil", "left", "message"),
    [
        (lambda bag: (bag / "metadata.yaml").unlink(), 3, "has no metadata.yaml"),
        (lambda bag: (bag / "metadata.yaml").write_text("{"), 3, "cannot be understood"),
        (lambda bag: (bag / "metadata.yaml").write_text("a: 1"), 3, "cannot be understood"),
        (lambda bag: (bag / "metadata.yaml").write_bytes(b"\xff\xfe\x00"), 3, "cannot be understood"),
        (lambda bag: (bag / "demo_1.mcap").unlink(), 2, "demo_1.mcap is missing"),
        (lambda bag: (bag / "demo_1.mcap").write_bytes(b""), 2, "demo_1.mcap, byte 0"),
        (lambda bag: (bag / "demo_1.mcap").write_bytes(b"not an mcap file"), 2, "does not begin as an MCAP file"),
        (lambda bag: shutil.copy(bag / "demo_0.mcap", bag / "demo_1.mcap"), 2, "does not hold what was recorded"),
        (lambda bag: (bag / "manifest.json").write_text("[]"), 3, "manifest.json cannot be read"),
    ],
)
def test_what_is_left_of_a_damaged_bag_is_taken_and_what_is_wrong_is_told(tmp_path, spoil, left, message):
    record_episodes(tmp_path / "demo", EPISODES)
    spoil(tmp_path / "demo")
    report = ingest([tmp_path / "demo"], tmp_path / "dataset")
    assert report.status == report.bags[0].status == "partial"
    told = [*report.bags[0].problems, *report.bags[0].refused.values()]
    assert any(re.search(message, text) for text in told), told
    dataset = EpisodeDataset.load(tmp_path / "dataset")
    assert [dataset.episode(number) for number in range(left)] == (
        [EPISODES[0], EPISODES[2]] if left == 2 else EPISODES
    )
    if left == 2:
        assert report.bags[0].missing_episodes == ("walk-001",), "the manifest says what should be there"


def test_where_nothing_is_left_the_dataset_stays(tmp_path):
    record_episodes(tmp_path / "demo", EPISODES[:1])
    make_dataset().save(tmp_path / "dataset")
    (tmp_path / "demo" / "demo_0.mcap").write_bytes(b"")
    with pytest.raises(BagError, match=r"not one usable episode in 1 bags: demo_0\.mcap"):
        ingest([tmp_path / "demo"], tmp_path / "dataset")
    with pytest.raises(BagError, match="there is no bag"):
        ingest([tmp_path / "nothing"], tmp_path / "dataset")
    assert EpisodeDataset.load(tmp_path / "dataset").digest == make_dataset().digest


def test_a_bag_that_cannot_be_read_does_not_hold_up_the_others(tmp_path):
    record_episodes(tmp_path / "demo", EPISODES)
    foreign_bag(tmp_path / "chat", [], {"/chatter": "std_msgs/msg/String"})
    report = ingest([tmp_path / "chat", tmp_path / "demo"], tmp_path / "dataset")
    assert [bag.status for bag in report.bags] == ["failed", "complete"] and report.status == "partial"
    assert "/chatter (std_msgs/msg/String)" in report.bags[0].problems[0]


def test_a_file_that_is_cut_at_any_byte_gives_what_is_whole_in_it(tmp_path):
    """Of a recorded episode: as far as it goes, truncated there, and never said to be complete."""
    episode = make_episode(0, bag_id="demo", length=2)
    writer = record_episodes(tmp_path / "demo", [episode])
    path = writer.folder / "demo_0.mcap"
    whole = path.read_bytes()
    messages = list(McapScan(path).messages())
    lengths = set()
    for length in reversed(range(len(whole))):
        os.truncate(path, length)
        scan = McapScan(path)
        found = list(scan.messages())
        assert found == messages[: len(found)] and scan.damage
        if length % 11:  # the rest of the way costs more, and depends on the messages alone
            continue
        content = read_bag_content(writer.folder)
        assert not content.complete and content.problems
        for found in content.episodes:
            lengths.add(found.length)
            assert np.array_equal(found.observations, episode.observations[: found.length + 1])
            assert np.array_equal(found.actions, episode.actions[: found.length])
        # Where all messages were found, only the end of the file is missing; otherwise they are counted.
        assert content.lost == 5 - content.messages
    assert lengths == {1, 2}


def test_no_flipped_bit_changes_an_episode_unnoticed(tmp_path):
    episode = make_episode(0, bag_id="demo", length=1, policy_ids=("a1",))
    writer = record_episodes(tmp_path / "demo", [episode])
    path = writer.folder / "demo_0.mcap"
    whole = path.read_bytes()
    noticed = 0
    for where in range(0, len(whole), 3):
        with open(path, "r+b") as file:
            os.pwrite(file.fileno(), bytes([whole[where] ^ 1 << where % 8]), where)
            content = read_bag_content(writer.folder)
            os.pwrite(file.fileno(), whole[where : where + 1], where)
        assert content.episodes in ((episode,), ()), where
        noticed += not content.complete
    # What is left are indexes and the like, which reading from the first byte to the last does without.
    assert noticed > len(whole) / 3 / 2


@pytest.mark.parametrize("storage", [StoragePlugin.SQLITE3, StoragePlugin.MCAP])
def test_bags_of_other_topics_are_named(tmp_path, storage):
    folder = foreign_bag(tmp_path / "chat", [], {"/chatter": "std_msgs/msg/String"}, storage)
    with pytest.raises(BagError, match=r"it holds /chatter \(std_msgs/msg/String\)"):
        ingest([folder], tmp_path / "dataset")


def test_two_robots_in_one_bag_are_not_mixed(tmp_path):
    raw = received(stream(EPISODES[0]))
    types = {**OUR_TYPES, "/leg/observation": OBSERVATION_TYPE}
    foreign_bag(tmp_path / "demo", [*raw, raw[0]._replace(topic="/leg/observation")], types)
    with pytest.raises(BagError, match=r"two topics of type .*'/arm/observation' and '/leg/observation'"):
        read_bag(tmp_path / "demo")


def test_another_version_of_our_messages_is_refused(tmp_path):
    topics = loop_topics(OBSERVATION_TOPIC, ACTION_TOPIC)
    text = topics[0].definition.text.replace("float32 reward", "float64 reward")
    older = replace(topics[0], definition=replace(topics[0].definition, text=text))
    writer = BagWriter(tmp_path / "demo", [older, topics[1]])
    writer.write_episode(received(stream(EPISODES[0])), {})
    with pytest.raises(BagError, match=r"in another version.*float64 reward"):
        read_bag(writer.folder)


def test_no_bags_and_empty_bags_are_refused(tmp_path):
    with pytest.raises(BagError, match="no bag was named"):
        ingest([], tmp_path / "dataset")
    BagWriter(tmp_path / "demo", loop_topics())
    with pytest.raises(BagError, match="not one usable episode in 1 bags: they hold no messages"):
        ingest([tmp_path / "demo"], tmp_path / "dataset")
    assert not (tmp_path / "dataset").exists()


def test_a_recording_in_which_nothing_happened_loses_nothing(tmp_path):
    BagWriter(tmp_path / "idle", loop_topics())
    record_episodes(tmp_path / "demo", EPISODES)
    report = ingest([tmp_path / "idle", tmp_path / "demo"], tmp_path / "dataset")
    assert report.complete and report.episodes == len(EPISODES)
    assert report.bags[0].status is Status.COMPLETE and report.bags[0].problems == ("it holds no messages",)


# Seals one episode after the other, and says which are sealed.
RECORDER = """
from dataset_samples import make_episode
from recording_samples import record_episodes
import saferule_ros.recording.bag_writer as bag_writer
write_episode = bag_writer.BagWriter.write_episode
def acknowledging(self, messages, facts):
    write_episode(self, messages, facts)
    print(facts["digest"], flush=True)
bag_writer.BagWriter.write_episode = acknowledging
episodes = [make_episode(number) for number in range(3)]
def prepare(folder):
    pass
def change(folder):
    record_episodes(folder, episodes)
"""


def test_killed_at_any_step_of_sealing_no_acknowledged_episode_is_lost(tmp_path):
    seen = []
    for bag, said in killed_at_each_step(RECORDER, tmp_path):
        acknowledged = said.split()
        if (bag / "metadata.yaml").exists():
            found = [episode.digest for episode in read_bag_content(bag).episodes]
            assert found[: len(acknowledged)] == acknowledged
            assert len(found) - len(acknowledged) in (0, 1)
        else:
            assert acknowledged == []
        seen.append(len(acknowledged))
    # Making the bag takes 6 steps (the folder above is asked for, too), each episode 6: file, rename, then metadata and
    # manifest, each with a rename.
    assert seen == [0] * 12 + [1] * 6 + [2] * 6 + [3]


def test_the_summary_counts_per_bag(tmp_path):
    record_episodes(tmp_path / "demo", EPISODES)
    record_episodes(tmp_path / "more", [make_episode(7)])
    ingest([tmp_path / "demo", tmp_path / "more"], tmp_path / "dataset")
    summary = summarize(EpisodeDataset.load(tmp_path / "dataset"))
    assert (summary.observation_size, summary.action_size) == (5, 2)
    assert [(part.name, part.episodes, part.transitions) for part in summary.bags] == [("demo", 3, 15), ("more", 1, 7)]
    assert (summary.whole.terminated, summary.whole.truncated) == (2, 2)
    assert summary.whole.policy_ids == ("a1", "b2")
    assert summary.whole.fallbacks == 0 + 1 + 2 + 7
    costs = sorted(episode.episode_cost for episode in [*EPISODES, make_episode(7)])
    spread = summary.whole.episode_cost
    assert (spread.lowest, spread.highest) == (costs[0], costs[-1])
    assert spread.median == pytest.approx((costs[1] + costs[2]) / 2)
    assert spread.mean == pytest.approx(sum(costs) / 4)


def test_unnamed_files_of_a_killed_recorder_are_read(tmp_path):
    writer = record_episodes(tmp_path / "demo", EPISODES)
    path = writer.folder / "metadata.yaml"
    metadata = yaml.safe_load(path.read_text())
    metadata["rosbag2_bagfile_information"]["relative_file_paths"].pop()
    path.write_text(yaml.safe_dump(metadata))
    (writer.folder / ".writing-0123-demo_3.mcap").write_bytes(b"half")
    assert read_bag(writer.folder) == EPISODES


def test_files_are_read_in_the_order_of_their_numbers_whatever_else_looks_like_one(tmp_path):
    """In a bag without metadata: a superscript is a digit to Unicode, and none to int()."""
    for number in range(3):
        record_episodes(tmp_path / f"{number}" / "demo", [EPISODES[number]])
    (tmp_path / "demo").mkdir()
    for number, name in enumerate(("1²9.mcap", "1²10.mcap", "11.mcap")):
        shutil.copy(tmp_path / f"{number}" / "demo" / "demo_0.mcap", tmp_path / "demo" / name)
    assert [episode.id for episode in read_bag_content(tmp_path / "demo").episodes] == [
        "walk-000", "walk-001", "walk-002",
    ]  # fmt: skip


def test_encoded_samples_are_what_the_tests_mean():
    assert len(encode(OBSERVATION_TYPE, observation(EPISODES[0], 0))) > 4 * 5
