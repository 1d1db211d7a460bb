"""What is left of a recording is taken, whatever happened to it, and nothing that is not true: kills, cuts, noise."""

import dataclasses
import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from contract_samples import arm_stream, contract, drive_stream, write_bag
from dataset_samples import make_episode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recording_samples import ACTION_TOPIC, OBSERVATION_TOPIC, action, received, record_episodes, stream
from rosbags.rosbag2 import CompressionFormat, CompressionMode, Reader, StoragePlugin

from saferule_ros.contract.translation import ContractTranslation
from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.nodes.recording import Recording
from saferule_ros.recording import open_episode, overflow
from saferule_ros.recording.bag_writer import BagWriter, SplitLimits, loop_topics
from saferule_ros.recording.errors import BagError
from saferule_ros.recording.ingest import ingest
from saferule_ros.recording.manifest import MANIFEST_NAME, read_manifest
from saferule_ros.recording.mcap_scan import McapScan
from saferule_ros.recording.reader import BagReading, read_bag, read_bag_content
from saferule_ros.recording.sqlite_scan import SqliteScan
from saferule_ros.signing import KeyFolder, PrivateKey

DEADLINE = 60.0  # of anything at all [s]
EPISODES = [make_episode(number, bag_id="demo", length=4 + number) for number in range(3)]


def open_recording(folder: Path, limits: SplitLimits | None = None, **options) -> tuple[Recording, list]:
    sealed: list = []
    writer = BagWriter(folder, loop_topics(OBSERVATION_TOPIC, ACTION_TOPIC), "test", "jazzy", limits=limits)
    return Recording(writer, sealed.append, **options), sealed


def feed(recording: Recording, messages) -> None:
    for raw in received(messages):
        (recording.observation if raw.topic == OBSERVATION_TOPIC else recording.action)(raw)


def test_the_open_episode_of_a_killed_recorder_is_recovered_and_truncated(tmp_path):
    recording, sealed = open_recording(tmp_path / "demo")
    feed(recording, [*stream(EPISODES[0]), *stream(EPISODES[1], first_sequence=50)[:7]])
    while not sealed:  # by a thread of its own
        time.sleep(0.01)
    recording.tend()
    assert [e.id for e in read_bag_content(tmp_path / "demo").episodes] == ["walk-000"], "its recorder lives"
    shutil.copytree(tmp_path / "demo", tmp_path / "killed")  # what a kill at this moment leaves
    content = read_bag_content(tmp_path / "killed")
    first, second = content.episodes
    assert first == EPISODES[0]
    assert (second.id, second.length, second.truncated, second.terminated) == ("walk-001", 3, True, False)
    assert np.array_equal(second.observations, EPISODES[1].observations[:4])
    assert content.recovered_episodes == ("walk-001",) and not content.complete
    recording.close()
    assert not list((tmp_path / "demo").glob(".*")), "all is sealed: nothing is left of the journal"
    assert read_bag_content(tmp_path / "demo").recovered_episodes == ()


def test_what_could_not_be_sealed_stays_in_the_journal(tmp_path, monkeypatch):
    recording, sealed = open_recording(tmp_path / "demo")
    monkeypatch.setattr(BagWriter, "_write_file", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    feed(recording, stream(EPISODES[0]))
    wait_for(lambda: sealed)
    recording.tend()
    before = sizes(tmp_path / "demo")
    feed(recording, [action(EPISODES[1], step, first_sequence=50) for step in range(4)])
    recording.tend()
    assert sizes(tmp_path / "demo") == before, "commands of no open episode are not kept with it"
    recording.close()
    assert "No space left" in sealed[0].error
    content = read_bag_content(tmp_path / "demo")
    assert list(content.episodes) == [EPISODES[0]] and content.recovered_episodes == ("walk-000",)


def test_a_disk_that_is_nearly_full_ends_the_taking_of_episodes_and_nothing_is_deleted(tmp_path):
    recording, sealed = open_recording(tmp_path / "demo", min_free=2**62)
    recording._free, recording._looked = 2**63, 1e18  # there is room now
    feed(recording, stream(EPISODES[0])[:4])
    recording._free = 0
    feed(recording, [*stream(EPISODES[0])[4:], *stream(EPISODES[1], first_sequence=50)])
    assert "nearly full" in recording.disk_problem and recording.not_taken == 1
    recording._free = 2**63
    feed(recording, stream(EPISODES[2], first_sequence=90))
    recording.close()
    assert [one.assembled.episode_id for one in sealed] == ["walk-000", "walk-002"], (
        "what had begun is taken to its end"
    )
    assert read_bag(tmp_path / "demo") == [EPISODES[0], EPISODES[2]]


def test_between_episodes_and_on_a_full_disk_nothing_is_written(tmp_path):
    recording, sealed = open_recording(tmp_path / "demo", min_free=2**62)
    recording._free, recording._looked = 2**63, 1e18  # there is room now
    feed(recording, stream(EPISODES[0]))
    wait_for(lambda: sealed)
    recording.tend()
    before = sizes(tmp_path / "demo")
    assert not list((tmp_path / "demo").glob(".open-*")), "the newest file goes, too, when its episode is sealed"
    recording._free = 0
    for number in range(20):  # a robot that goes on, with observations out of the middle first
        refused = stream(make_episode(number, id=f"refused-{number}"), first_sequence=100 + 50 * number)
        feed(recording, [*refused[2:], *refused[:2]])
    recording.tend()
    assert sizes(tmp_path / "demo") == before and recording.not_taken == 20
    recording.close()
    assert read_bag(tmp_path / "demo") == [EPISODES[0]]


def sizes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.iterdir()}


def wait_for(condition) -> None:
    """By a thread of its own."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_a_command_that_overtook_the_first_observation_is_recovered_with_its_episode(tmp_path):
    """It came while no episode was open, or while the one before was, whose journal is gone."""
    for name, before in (("nothing", []), ("another", stream(EPISODES[0])[:-1])):
        recording, sealed = open_recording(tmp_path / name)
        feed(recording, stream(EPISODES[2]))  # recording begins with an episode
        ahead = stream(EPISODES[1], first_sequence=50)
        ahead[0], ahead[1] = ahead[1], ahead[0]
        last = stream(EPISODES[0], first_sequence=20)
        feed(recording, [*last[:-1], ahead[0], last[-1], *ahead[1:7]] if before else ahead[:7])
        wait_for(lambda sealed=sealed, count=1 + bool(before): len(sealed) == count)
        recording.tend()
        shutil.copytree(tmp_path / name, tmp_path / f"{name}-killed")
        content = read_bag_content(tmp_path / f"{name}-killed")
        assert content.recovered_episodes == ("walk-001",) and content.episodes[-1].length == 3
        recording.close()


def test_a_folder_that_is_gone_is_a_full_disk_and_not_the_recorders_end(tmp_path):
    recording, sealed = open_recording(tmp_path / "bags" / "demo")
    (tmp_path / "bags").rename(tmp_path / "aside")
    feed(recording, stream(EPISODES[0]))
    assert "not known how much" in recording.disk_problem and recording.not_taken == 1
    recording.close()
    assert not sealed


def test_long_episodes_are_split_by_size_and_time_and_read_as_one(tmp_path):
    episode = make_episode(1, bag_id="demo", length=40)
    for name, limits in (("demo", SplitLimits(size=1500)), ("time", SplitLimits(time=20_000))):
        recording_ = BagWriter(tmp_path / name, loop_topics(OBSERVATION_TOPIC, ACTION_TOPIC), "me", limits=limits)
        from recording_samples import EpisodeAssembler, decode_action, decode_observation

        assembler = EpisodeAssembler(name)
        finished = []
        for raw in received(stream(episode)):
            take, decode = (
                (assembler.observation, decode_observation)
                if raw.topic == OBSERVATION_TOPIC
                else (assembler.action, decode_action)
            )
            finished += take(decode(raw.data), raw)
        recording_.write_episode(finished[0].messages, finished[0].facts)
        files = sorted((tmp_path / name).glob("*.mcap"))
        assert len(files) > 3
        (found,) = read_bag(tmp_path / name)
        assert found.digest == episode.digest
        with Reader(tmp_path / name) as reader:
            assert reader.message_count == 81
        (promised,) = read_manifest(tmp_path / name, None).manifest.episodes
        assert set(promised.files) == {path.name for path in files}
        files[1].unlink()
        content = read_bag_content(tmp_path / name)
        assert not content.complete and all(one.digest != episode.digest for one in content.episodes)


def test_a_long_episode_is_recorded_and_read_through_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(open_episode, "UNSETTLED", 40)
    monkeypatch.setattr(open_episode, "_BATCH", 8)
    monkeypatch.setattr(overflow, "BATCH", 16)
    monkeypatch.setattr(overflow, "_PIECE", 1000)
    episode = make_episode(1, bag_id="demo", length=400)
    messages = stream(episode)
    messages[200], messages[201] = messages[201], messages[200]  # a command before the observation that it answers
    recording, sealed = open_recording(tmp_path / "demo", limits=SplitLimits(size=30_000))
    for number, raw in enumerate(received(messages)):
        (recording.observation if raw.topic == OBSERVATION_TOPIC else recording.action)(raw)
        assert recording.held < 150, number
    recording.close()
    assert sealed[0].error == "" and list((tmp_path / "demo").glob(".*")) == []
    assert len(list((tmp_path / "demo").glob("*.mcap"))) > 2 and read_bag(tmp_path / "demo") == [episode]
    with Reader(tmp_path / "demo") as reader:
        assert [bytes(data) for *_, data in reader.messages()] == [raw.data for raw in received(messages)]
    ingest([tmp_path / "demo"], tmp_path / "dataset")
    assert EpisodeDataset.load(tmp_path / "dataset").episode(0).digest == episode.digest


def test_counts_of_each_topic_are_stored_with_the_episode(tmp_path):
    messages = stream(make_episode(0, length=6))
    late = messages.pop(3)  # the command of step 1
    messages.insert(6, late)  # comes after observation 2
    overtaken = messages.pop(8)  # observation 4
    messages.insert(10, overtaken)
    del messages[-2]  # the command of step 5 is dropped
    messages.append(messages[0])  # and observation 0 comes twice, alike
    recording, _ = open_recording(tmp_path / "demo")
    feed(recording, messages)
    recording.close()
    scan = McapScan(tmp_path / "demo" / "demo_0.mcap")
    assert list(scan.messages())
    counts = json.loads(scan.records["saferule_ros.episode"]["topics"])
    assert counts["action"]["received"] == 5 and counts["action"]["dropped"] == 1 and counts["action"]["late"] >= 1
    assert counts["observation"]["out_of_order"] >= 1 and counts["observation"]["dropped"] == 0
    assert counts["observation"]["duplicated"] == 1


def test_manifests_are_signed_and_say_what_must_be_there(tmp_path):
    keys = KeyFolder(tmp_path / "keys")
    writer = BagWriter(
        tmp_path / "demo", loop_topics(OBSERVATION_TOPIC, ACTION_TOPIC), "me", "jazzy", "c0ffee", keys.own()
    )
    facts = {"episode_id": "walk-000", "digest": EPISODES[0].digest, "length": "4", "return": "1.5", "cost": "0.25",
             "policy_ids": "a1 b2"}  # fmt: skip
    writer.write_episode(received(stream(EPISODES[0])), facts)
    check = read_manifest(tmp_path / "demo", keys.trusted())
    assert (check.signed_by, check.problem) == ("own", "")
    assert check.manifest.contract == "c0ffee" and check.manifest.software.startswith("saferule_ros ")
    (episode,) = check.manifest.episodes
    assert (episode.digest, episode.policy_ids, episode.files) == (EPISODES[0].digest, ("a1", "b2"), ("demo_0.mcap",))
    report = ingest([tmp_path / "demo"], tmp_path / "dataset", trusted=keys.trusted())
    assert report.complete and report.bags[0].signed_by == "own"
    path = tmp_path / "demo" / MANIFEST_NAME
    path.write_text(path.read_text().replace("c0ffee", "decade"))
    report = ingest([tmp_path / "demo"], tmp_path / "dataset", trusted=keys.trusted())
    assert report.status == "partial" and "is not of this bag-manifest" in report.bags[0].problems[0]
    with pytest.raises(BagError, match="not signed with a trusted key"):
        ingest([tmp_path / "demo"], tmp_path / "dataset", trusted=keys.trusted(), only_signed=True)
    stranger = KeyFolder(tmp_path / "other")
    stranger.own()
    shutil.rmtree(tmp_path / "demo")
    writer = BagWriter(tmp_path / "demo", loop_topics(), "me", key=PrivateKey.generate())
    assert "not trusted" in read_manifest(tmp_path / "demo", stranger.trusted()).problem


def test_ingest_goes_on_where_it_was_stopped_and_sees_bags_that_changed(tmp_path, monkeypatch):
    for number in range(3):
        record_episodes(tmp_path / f"bag{number}", [make_episode(number)])
    bags = [tmp_path / f"bag{number}" for number in range(3)]
    read, began = BagReading.episodes, []

    def stopped(self):
        began.append(self.bag_id)
        if len(began) == 3:
            raise KeyboardInterrupt
        return read(self)

    monkeypatch.setattr(BagReading, "episodes", stopped)
    with pytest.raises(KeyboardInterrupt):
        ingest(bags, tmp_path / "dataset")
    os.utime(tmp_path / "bag1" / "metadata.yaml", (1, 1))
    assert ingest(bags, tmp_path / "dataset").episodes == 3
    assert began == ["bag0", "bag1", "bag2", "bag1", "bag2"], "the first was not read again, the second had changed"


def test_bags_are_added_to_a_dataset(tmp_path):
    for number in range(3):
        record_episodes(tmp_path / f"bag{number}", [make_episode(number), make_episode(10 + number)])
    ingest([tmp_path / "bag0"], tmp_path / "dataset")
    report = ingest([tmp_path / "bag0", tmp_path / "bag1"], tmp_path / "dataset", append=True)
    assert (report.episodes, report.duplicates) == (4, 2)
    report = ingest([tmp_path / "bag2"], tmp_path / "dataset", append=True)
    whole = ingest([tmp_path / f"bag{number}" for number in range(3)], tmp_path / "other")
    assert EpisodeDataset.load(tmp_path / "dataset").digest == report.dataset_digest == whole.dataset_digest


OPTIONS = {
    "mcap": {"storage_plugin": StoragePlugin.MCAP},
    "mcap-zstd": {"storage_plugin": StoragePlugin.MCAP,
                  "compression": (CompressionMode.STORAGE, CompressionFormat.ZSTD)},
    "sqlite": {"storage_plugin": StoragePlugin.SQLITE3},
    "sqlite-file": {"storage_plugin": StoragePlugin.SQLITE3,
                    "compression": (CompressionMode.FILE, CompressionFormat.ZSTD)},
    "sqlite-message": {"storage_plugin": StoragePlugin.SQLITE3,
                       "compression": (CompressionMode.MESSAGE, CompressionFormat.ZSTD)},
}  # fmt: skip


@pytest.fixture(scope="module")
def foreign(tmp_path_factory) -> dict[str, Path]:
    """One recording in every form."""
    folder = tmp_path_factory.mktemp("foreign")
    messages = drive_stream(seconds=1.0)
    return {name: write_bag(folder / name / "bag", messages, **options) for name, options in OPTIONS.items()}


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("with_metadata", [True, False])
def test_bags_of_the_real_recorder_that_are_cut_anywhere_give_a_beginning(tmp_path, foreign, name, with_metadata):
    bag = shutil.copytree(foreign[name], tmp_path / "bag")
    whole = {episode.id: episode for episode in read_bag_content(bag, ContractTranslation(contract())).episodes}
    if not with_metadata:
        (bag / "metadata.yaml").unlink()
    (path,) = (path for path in bag.iterdir() if path.suffix != ".yaml")
    size = path.stat().st_size
    seen = set()
    for length in sorted({int(share * size / 7) for share in range(7)} | {size - 1, size - 9, 1}, reverse=True):
        os.truncate(path, length)
        content = read_bag_content(bag, ContractTranslation(contract()))
        assert not content.complete
        for found in content.episodes:
            assert np.array_equal(found.observations, whole[found.id].observations[: found.length + 1])
            seen.add(found.length)
    if name in ("mcap", "sqlite", "sqlite-message"):
        assert len(seen) > 1, "the less is left, the shorter"


@pytest.mark.parametrize("name", OPTIONS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_noise_in_a_bag_never_does_more_than_lose_some_of_it(tmp_path, foreign, name, data):
    bag = tmp_path / "bag"
    shutil.rmtree(bag, ignore_errors=True)
    shutil.copytree(foreign[name], bag)
    victim = data.draw(st.sampled_from(sorted(bag.iterdir())))
    content = bytearray(victim.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        where = data.draw(st.integers(0, len(content) - 1))
        content[where : where + 4] = data.draw(st.binary(max_size=8))
    victim.write_bytes(content)
    try:
        read_bag_content(bag, ContractTranslation(contract()))
    except BagError as error:
        assert error.hint


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(noise=st.binary(max_size=400), head=st.sampled_from([b"", b"\x89MCAP0\r\n", b"SQLite format 3\x00"]))
def test_files_of_noise_give_nothing(tmp_path, noise, head):
    for kind, name in ((McapScan, "x.mcap"), (SqliteScan, "x.db3")):
        path = tmp_path / name
        path.write_bytes(head + noise)
        scan = kind(path)
        assert list(scan.messages()) == [] and scan.damage


def test_a_damaged_chunk_costs_what_is_in_it_and_no_more(tmp_path):
    from mcap.writer import CompressionType, Writer

    whole = received(stream(make_episode(0, length=60)))
    path = tmp_path / "demo.mcap"
    topics = {topic.name: topic.definition for topic in loop_topics(OBSERVATION_TOPIC, ACTION_TOPIC)}
    with open(path, "wb") as file:
        writer = Writer(file, chunk_size=2000, compression=CompressionType.LZ4)
        writer.start(profile="ros2")
        channels = {
            name: writer.register_channel(
                name, "cdr", writer.register_schema(about.type, "ros2msg", about.text.encode())
            )
            for name, about in topics.items()
        }  # fmt: skip
        for raw in whole:
            writer.add_message(channels[raw.topic], raw.log_time, raw.data, raw.log_time)
        writer.finish()
    assert list(McapScan(path).messages()) == whole
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0xFF
    path.write_bytes(content)
    scan = McapScan(path)
    found = list(scan.messages())
    assert len(whole) - 40 < len(found) < len(whole) and len(scan.damage) == 1
    assert scan.expected == len(whole) and scan.lost == len(whole) - len(found)
    assert [raw for raw in whole if raw in found] == found
    # Where even the length of a record is damaged, the way is found again by the index.
    second = content.index(b"\x06", len(content) // 2)
    content[second + 1 : second + 9] = b"\xff" * 8
    path.write_bytes(content)
    assert list(McapScan(path).messages())[-1] == whole[-1]


def test_an_index_that_is_damaged_as_well_leads_nowhere(tmp_path, foreign):
    path = tmp_path / "bag.mcap"
    content = bytearray(next(foreign["mcap"].glob("*.mcap")).read_bytes())
    summary = int.from_bytes(content[-28:-20], "little")
    assert content[summary] == 3, "the index begins with a schema: its number, then the length of its name"
    content[summary + 11 : summary + 15] = b"\xff" * 4
    at = 8  # the first chunk, whose length is damaged too
    while content[at] != 6:
        at += 9 + int.from_bytes(content[at + 1 : at + 9], "little")
    content[at + 1 : at + 9] = b"\xff" * 8
    path.write_bytes(content)
    scan = McapScan(path)
    list(scan.messages())
    assert "the file is cut there" in scan.damage[0]


def test_a_bag_may_be_a_single_file_and_several_robots_have_their_own_contracts(tmp_path):
    bag = write_bag(tmp_path / "bag", arm_stream(seconds=1.0), storage_plugin=StoragePlugin.MCAP)
    from contract_samples import ARM

    (file,) = bag.glob("*.mcap")
    one = read_bag_content(file, ContractTranslation(contract(ARM)))
    both = read_bag_content(bag, ContractTranslation(contract(ARM)))
    assert [dataclasses.replace(e, bag_id="") for e in one.episodes] == [
        dataclasses.replace(e, bag_id="") for e in both.episodes
    ]
