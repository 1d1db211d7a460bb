"""What the real recorder writes, feature by feature, built with the means at hand; all of it is read.

Sources: ros2/rosbag2: rosbag2_storage_mcap, rosbag2_storage_sqlite3, rosbag2_compression, rosbag2_cpp.
"""

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
import zstandard
from contract_samples import DRIVE, MS, START, STORE, TYPES, contract, drive_stream, write_bag
from hypothesis import given, settings
from hypothesis import strategies as st
from mcap.writer import CompressionType, IndexType, Writer
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin

from saferule_ros.contract.check import check_contract
from saferule_ros.contract.model import Contract
from saferule_ros.contract.translation import ContractTranslation
from saferule_ros.recording import reception_order, scan, sqlite_scan
from saferule_ros.recording.bag_files import find_bag, open_scan
from saferule_ros.recording.errors import BagError
from saferule_ros.recording.messages import RawMessage
from saferule_ros.recording.reader import BagContent, read_bag_content
from saferule_ros.recording.reception_order import SPAN, ReceptionOrder
from saferule_ros.recording.sqlite_scan import SqliteScan

STREAM = drive_stream(seconds=2.0)


def through(bag: Path) -> BagContent:
    return read_bag_content(bag, ContractTranslation(contract()))


def digests(content: BagContent) -> list[str]:
    """Of its episodes, whatever they are called: that depends on the bag's name."""
    return [replace(episode, id="any").digest for episode in content.episodes]


def raw_messages(bag: Path) -> list[RawMessage]:
    found = []
    for path in find_bag(bag).files:
        with open_scan(path) as one:
            found += one.messages()
            assert one.damage == []
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> BagContent:
    """What the contract makes of the messages in their order."""
    content = through(write_bag(tmp_path_factory.mktemp("whole") / "bag", STREAM, storage_plugin=StoragePlugin.SQLITE3))
    assert content.complete and content.episodes
    return content


def definition(topic: str) -> str:
    text, _ = STORE.generate_msgdef(TYPES[topic], ros_version=2)
    return text


# Presets of the real recorder, and what else its storage configuration allows.
PRESETS = {
    "fastwrite": {"use_chunking": False, "enable_crcs": False, "compression": CompressionType.NONE},
    "zstd_fast": {"compression": CompressionType.ZSTD, "enable_crcs": False, "chunk_size": 2**16},
    "zstd_small": {"compression": CompressionType.ZSTD, "chunk_size": 4 * 2**20},
    "lz4": {"compression": CompressionType.LZ4, "chunk_size": 2**14},
    "no index, no summary": {
        "index_types": IndexType.NONE, "repeat_channels": False, "repeat_schemas": False, "use_statistics": False,
        "use_summary_offsets": False,
    },
    "checksum of all data": {"enable_data_crcs": True},
}  # fmt: skip


def write_mcap(folder: Path, messages: list[RawMessage], encoding="ros2msg", serialization="cdr", **options) -> Path:
    """As rosbag2_storage_mcap writes: metadata records, channels with QoS and hash, sequence 0, a publish time."""
    folder.mkdir(parents=True)
    with open(folder / "bag_0.mcap", "wb") as file:
        writer = Writer(file, **options)
        writer.start(profile="ros2", library="libmcap 1.4.0")
        writer.add_metadata("rosbag2", {"ROS_DISTRO": "jazzy", "serialized_metadata": "version: 9\n"})
        channels = {}
        for topic in dict.fromkeys(message.topic for message in messages):
            text = {"ros2msg": definition(topic), "ros2idl": "struct Name { double x; };"}.get(encoding, "")
            channels[topic] = writer.register_channel(
                topic, serialization, writer.register_schema(TYPES[topic], encoding, text.encode()),
                {"offered_qos_profiles": "- history: 1\n  depth: 10\n", "topic_type_hash": "RIHS01_0"},
            )  # fmt: skip
        for message in messages:
            writer.add_message(
                channels[message.topic], message.log_time, message.data, max(0, message.log_time - MS), 0
            )
        writer.finish()
    return folder


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_of_the_mcap_storage_is_read(tmp_path, whole, preset):
    bag = write_mcap(tmp_path / "bag", STREAM, **PRESETS[preset])
    assert raw_messages(bag) == STREAM
    assert digests(through(bag / "bag_0.mcap")) == digests(whole)


@pytest.mark.parametrize("encoding", ["ros2idl", "unknown", ""])
def test_without_a_definition_in_msg_form_the_installed_one_counts(tmp_path, whole, encoding):
    bag = write_mcap(tmp_path / "bag", STREAM, encoding)
    assert digests(through(bag / "bag_0.mcap")) == digests(whole)


# Tables as the storage plugin made them: schema 1, 2 with QoS, 3 with metadata, 4 with definitions and hashes.
TOPIC_COLUMNS = {1: "", 2: ", offered_qos_profiles TEXT", 3: ", offered_qos_profiles TEXT",
                 4: ", offered_qos_profiles TEXT, type_description_hash TEXT"}  # fmt: skip


def write_sqlite(folder: Path, messages: list[RawMessage], schema: int = 4, serialization="cdr", bare=False) -> Path:
    folder.mkdir(parents=True)
    with sqlite3.connect(folder / "bag_0.db3") as database:
        more = TOPIC_COLUMNS[schema]
        database.execute(
            f"CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT NOT NULL, type TEXT NOT NULL, "
            f"serialization_format TEXT NOT NULL{more})"
        )
        database.execute(
            "CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER NOT NULL, timestamp INTEGER NOT NULL, "
            "data BLOB NOT NULL)"
        )
        database.execute("CREATE INDEX timestamp_idx ON messages (timestamp ASC)")
        if schema >= 3:
            database.execute("CREATE TABLE schema(schema_version INTEGER PRIMARY KEY, ros_distro TEXT NOT NULL)")
            database.execute("INSERT INTO schema VALUES (?, 'jazzy')", (schema,))
            database.execute("CREATE TABLE metadata(id INTEGER PRIMARY KEY, metadata_version INTEGER, metadata TEXT)")
        if schema >= 4:
            database.execute(
                "CREATE TABLE message_definitions(id INTEGER PRIMARY KEY, topic_type TEXT, encoding TEXT, "
                "encoded_message_definition TEXT, type_description_hash TEXT)"
            )
        numbers = {}
        for number, topic in enumerate(dict.fromkeys(message.topic for message in messages), start=1):
            numbers[topic] = number
            row = (number, topic.lstrip("/") if bare else topic, TYPES[topic], serialization, *[""] * more.count(","))
            database.execute(f"INSERT INTO topics VALUES (?{', ?' * (len(row) - 1)})", row)
            if schema >= 4:
                row = (TYPES[topic], "ros2msg", definition(topic))
                database.execute("INSERT INTO message_definitions VALUES (NULL, ?, ?, ?, '')", row)
        database.executemany(
            "INSERT INTO messages(topic_id, timestamp, data) VALUES (?, ?, ?)",
            ((numbers[message.topic], message.log_time, message.data) for message in messages),
        )
    database.close()
    return folder


@pytest.mark.parametrize("schema", TOPIC_COLUMNS)
def test_every_schema_of_the_sqlite_storage_is_read(tmp_path, whole, schema):
    bag = write_sqlite(tmp_path / "bag", STREAM, schema)
    assert raw_messages(bag) == STREAM
    assert digests(through(bag / "bag_0.db3")) == digests(whole)


def test_topics_without_their_leading_slash_are_found(tmp_path, whole):
    """Programs that write bags through rosbag2's API, without a node, leave it out."""
    bag = write_sqlite(tmp_path / "bag", STREAM, bare=True)
    assert digests(through(bag / "bag_0.db3")) == digests(whole)


def describe(bag: Path, version: int, files: dict[str, int], written: int, names: list[str] | None = None) -> None:
    """metadata.yaml of a version, with what each brought."""
    qos = [{"history": "keep_last", "depth": 10}]
    topics = [
        {
            "topic_metadata": {
                "name": topic, "type": TYPES[topic], "serialization_format": "cdr",
                "offered_qos_profiles": qos if version >= 9 else yaml.dump(qos),
            },
            "message_count": 0,
        }
        for topic in ("/odom", "/scan")
    ]  # fmt: skip
    content = {
        "version": version, "storage_identifier": "sqlite3", "duration": {"nanoseconds": 1},
        "starting_time": {"nanoseconds_since_epoch": START}, "message_count": written,
        "topics_with_message_count": topics, "compression_format": "", "compression_mode": "",
        "relative_file_paths": names or list(files),
    }  # fmt: skip
    if version >= 5:
        content["files"] = [
            {"path": name, "starting_time": {"nanoseconds_since_epoch": START}, "duration": {"nanoseconds": 1},
             "message_count": count}
            for name, count in files.items()
        ]  # fmt: skip
    content |= {"custom_data": None} if version >= 6 else {}
    content |= {"ros_distro": "jazzy"} if version >= 8 else {}
    (bag / "metadata.yaml").write_text(yaml.dump({"rosbag2_bagfile_information": content}))


@pytest.mark.parametrize("version", range(3, 10))
def test_every_version_of_the_metadata_is_read_and_tells_what_is_missing(tmp_path, whole, version):
    bag = write_sqlite(tmp_path / "bag", STREAM)
    describe(bag, version, {"bag_0.db3": len(STREAM)}, len(STREAM), names=["bag/bag_0.db3"] if version < 4 else None)
    content = through(bag)
    assert content.complete and len(content.episodes) == len(whole.episodes)
    describe(bag, version, {"bag_0.db3": len(STREAM) + 7}, len(STREAM) + 7)
    assert through(bag).lost == 7


def test_a_file_that_was_compressed_is_counted_by_its_name_before(tmp_path):
    """Of a bag that is compressed by file, only relative_file_paths gets the new names."""
    bag = write_sqlite(tmp_path / "bag", STREAM)
    (bag / "bag_0.db3.zstd").write_bytes(zstandard.compress((bag / "bag_0.db3").read_bytes()))
    (bag / "bag_0.db3").unlink()
    describe(bag, 9, {"bag_0.db3": len(STREAM) + 5}, len(STREAM) + 5, names=["bag_0.db3.zstd"])
    assert through(bag).lost == 5


def test_what_the_recorder_received_and_did_not_write_is_told_as_such(tmp_path):
    """Its count of a file includes what a full cache dropped, and all that was not part of a snapshot."""
    bag = write_sqlite(tmp_path / "bag", STREAM)
    describe(bag, 9, {"bag_0.db3": len(STREAM) + 40}, len(STREAM))
    content = through(bag)
    assert content.lost == 40 and not content.complete
    assert "40 messages that its recorder received and never wrote" in content.problems[0]


@pytest.mark.parametrize("storage", [StoragePlugin.SQLITE3, StoragePlugin.MCAP])
def test_messages_that_several_threads_compressed_are_put_back_in_the_order_of_reception(tmp_path, whole, storage):
    """Compressed one by one, each is written when it is ready."""
    overtaken = [message for begin in range(0, len(STREAM), 8) for message in reversed(STREAM[begin : begin + 8])]
    zstd = (CompressionMode.MESSAGE, CompressionFormat.ZSTD) if storage is StoragePlugin.SQLITE3 else None
    bag = write_bag(tmp_path / "bag", overtaken, compression=zstd, storage_plugin=storage)
    content = through(bag)
    assert content.complete, content.ticks
    assert digests(content) == digests(whole)


def test_the_order_of_reception_reaches_across_the_files_of_a_split_bag(tmp_path, whole):
    half = len(STREAM) // 2
    late = next(one for one in STREAM if one.topic == "/cmd_vel" and one.log_time > START + 500 * MS)
    bag = write_sqlite(tmp_path / "bag", [message for message in STREAM[:half] if message is not late])
    write_sqlite(tmp_path / "other", [late, *STREAM[half:]])
    (tmp_path / "other" / "bag_0.db3").rename(bag / "bag_1.db3")
    describe(bag, 9, {"bag_0.db3": half - 1, "bag_1.db3": len(STREAM) - half + 1}, len(STREAM))
    assert digests(through(bag)) == digests(whole)


@settings(max_examples=100, deadline=None)
@given(delays=st.lists(st.integers(0, SPAN // 2), min_size=1, max_size=60), step=st.integers(1, SPAN))
def test_whatever_comes_late_by_less_than_the_span_is_put_in_its_place(delays, step):
    sent = [RawMessage("/odom", b"", START + number * step) for number in range(len(delays))]
    written = sorted(sent, key=lambda message: message.log_time + delays[sent.index(message)])
    order = ReceptionOrder()
    assert [*order.sort(written), *order.rest()] == sent


def test_a_clock_that_is_set_back_or_wrong_for_one_message_holds_nothing_up():
    hour = 3600 * 10**9
    before = [RawMessage("/odom", b"before", START + number * 100 * MS) for number in range(50)]
    after = [RawMessage("/odom", b"after", START - hour + number * MS) for number in range(5000)]
    order = ReceptionOrder()
    assert list(order.sort([*before, *after]))[:50] == before
    assert [*order.rest()] == after[-2001:]
    wild = RawMessage("/odom", b"", 2**63)
    given = [*order.sort([before[0], wild, *before[1:]])]
    assert given == before and [*order.rest()] == [wild]


def test_images_of_a_bag_do_not_fill_the_memory(tmp_path, monkeypatch):
    """What is held at a time is bounded in bytes, not only in messages."""
    monkeypatch.setattr(reception_order, "MOST_BYTES", 10**6)
    monkeypatch.setattr(scan, "BATCH_BYTES", 10**6)
    monkeypatch.setattr(sqlite_scan, "BATCH_BYTES", 10**6)
    images = [RawMessage("/odom", bytes(10**5), START + number) for number in range(300)]
    bag = write_sqlite(tmp_path / "bag", images)
    order, one, taken, given = ReceptionOrder(), SqliteScan(bag / "bag_0.db3"), 0, 0

    def counted():
        nonlocal taken
        for message in one.messages():
            taken += 1
            yield message

    most = 0
    for batch in scan.batches(order.sort(counted())):
        given += len(batch)
        most = max(most, taken - given, len(batch))
    assert 5 <= most <= 20
    assert given + len(list(order.rest())) == len(images)
    with sqlite3.connect(bag / "bag_0.db3") as database:
        rows, at_end, error = sqlite_scan._rows_after(database, 0)
    assert len(rows) == 10 and not at_end and error is None
    monkeypatch.setattr(reception_order, "MOST_BYTES", 10**4)
    assert list(ReceptionOrder().sort(images)) == images, "one alone may be larger"


@pytest.mark.parametrize("write", [write_mcap, write_sqlite])
def test_another_serialization_than_cdr_is_named_and_not_decoded(tmp_path, write):
    bag = write(tmp_path / "bag", STREAM, serialization="protobuf")
    content_of = check_contract(contract(), next(bag.iterdir()))
    assert any("nav_msgs/msg/Odometry (protobuf)" in problem.what for problem in content_of.problems)


def test_a_check_against_a_damaged_bag_says_that_it_is(tmp_path):
    bag = write_mcap(tmp_path / "bag", STREAM) / "bag_0.mcap"
    assert check_contract(contract(), bag).problems == []
    bag.write_bytes(bag.read_bytes()[:-400])
    (problem,) = check_contract(contract(), bag).problems
    assert problem.where == "bag" and "cut" in problem.what


@pytest.mark.parametrize("time", [0, 2**63 - 1, 2**63, 2**64 - 1])
def test_times_that_no_clock_shows_do_no_more_than_lose_their_ticks(tmp_path, time):
    bag = write_mcap(tmp_path / "bag", [*STREAM[:60], STREAM[60]._replace(log_time=time), *STREAM[61:]])
    content = through(bag)
    assert content.episodes and sum(episode.length for episode in content.episodes) > 15


def test_a_check_tells_of_commands_that_are_missing_as_ingest_does(tmp_path):
    made = Contract.model_validate(yaml.safe_load(DRIVE.read_text()) | {"history": {}})
    sent = [row for row, message in enumerate(STREAM) if message.topic == "/cmd_vel"]
    pause = STREAM[: sent[8]] + [message for message in STREAM[sent[8] :] if message.topic != "/cmd_vel"]
    pause += [message for message in drive_stream(seconds=2.0) if message.log_time > STREAM[sent[12]].log_time]
    bag = write_sqlite(tmp_path / "bag", sorted(set(pause), key=lambda message: message.log_time)) / "bag_0.db3"
    result = check_contract(made, bag)
    (problem,) = result.problems
    assert problem.where == "action" and "ticks were answered by no command" in problem.what
    content = read_bag_content(bag, ContractTranslation(made))
    assert not content.complete and result.episodes == [episode.length for episode in content.episodes]


def test_a_check_names_stamps_of_another_clock(tmp_path):
    """As a simulation has them, recorded without use_sim_time."""
    hour = 3600 * 10**9
    bag = write_sqlite(tmp_path / "bag", [one._replace(log_time=one.log_time + hour) for one in STREAM]) / "bag_0.db3"
    problems = {problem.where: problem for problem in check_contract(contract(), bag).problems}
    assert "-3600 s away" in problems["source velocity"].what and "time: received" in problems["source velocity"].hint
    assert "source goal" not in problems, "it has no stamps"


def test_a_folder_of_bags_is_not_taken_for_a_bag(tmp_path):
    """`ros2 bag record -o walk.mcap` makes a folder of that name."""
    bag = write_mcap(tmp_path / "day" / "walk.mcap", STREAM)
    assert raw_messages(bag) == STREAM
    with pytest.raises(BagError, match="holds no storage file"):
        find_bag(tmp_path / "day")


@pytest.mark.parametrize("packed", [False, True])
def test_of_a_page_that_is_cut_nothing_is_made_up(tmp_path, packed):
    """SQLite takes the rest of it as zeros, without a word."""
    path = write_sqlite(tmp_path / "bag", STREAM) / "bag_0.db3"
    content, whole = path.read_bytes(), set(STREAM)
    least = len(STREAM)
    for length in range(len(content) - 1, len(content) // 3, -1499):
        path.write_bytes(content[:length])
        if packed:
            path.with_name("bag_0.db3.zstd").write_bytes(zstandard.compress(content[:length]))
        with open_scan(path.with_name("bag_0.db3.zstd") if packed else path) as one:
            found = list(one.messages())
        assert set(found) <= whole and one.damage
        least = min(least, len(found))
        assert path.stat().st_size == length, "the file itself is left as it is"
    assert least < len(STREAM)


@pytest.mark.parametrize("preset", PRESETS)
def test_of_every_preset_a_recording_that_is_cut_gives_its_beginning(tmp_path, preset):
    path = write_mcap(tmp_path / "bag", STREAM, **PRESETS[preset]) / "bag_0.mcap"
    content, most = path.read_bytes(), 0
    for length in range(0, len(content), len(content) // 23):
        path.write_bytes(content[:length])
        with open_scan(path) as one:
            found = list(one.messages())
        assert found == STREAM[: len(found)] and one.damage
        assert len(found) >= most, "the more is left, the more is found"
        most = len(found)
    assert most > len(STREAM) / 2


def test_a_single_files_bag_is_called_like_the_file_with_its_dots(tmp_path):
    path = write_sqlite(tmp_path / "bag", STREAM) / "bag_0.db3"
    for name in ("walk.2026.db3", "walk.2027.db3"):
        assert find_bag(path.rename(path.with_name(name))).bag_id == name[:-4]
        path = path.with_name(name)


def test_a_killed_recorder_with_the_resilient_preset_leaves_its_newest_messages_in_a_journal(tmp_path):
    half = len(STREAM) // 2
    path = write_sqlite(tmp_path / "bag", STREAM[:half]) / "bag_0.db3"
    killed = tmp_path / "killed"
    killed.mkdir()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA journal_mode=WAL")
        numbers = {name: number for number, name in database.execute("SELECT id, name FROM topics")}
        for message in STREAM[half:]:
            row = (numbers[message.topic], message.log_time, message.data)
            database.execute("INSERT INTO messages(topic_id, timestamp, data) VALUES (?, ?, ?)", row)
            database.commit()
        for file in path.parent.iterdir():  # what is on the disk while it still writes
            (killed / file.name).write_bytes(file.read_bytes())
    database.close()
    journal = killed / "bag_0.db3-wal"
    content, seen = journal.read_bytes(), set()
    before = {file.name: file.read_bytes() for file in killed.iterdir()}
    assert raw_messages(killed) == STREAM
    assert {file.name: file.read_bytes() for file in killed.iterdir()} == before, "nothing is played back in place"
    for length in range(len(content), 0, -len(content) // 7):
        journal.write_bytes(content[:length])
        found = raw_messages(killed)
        assert found == STREAM[: len(found)] and len(found) >= half
        seen.add(len(found))
    assert len(seen) > 4
