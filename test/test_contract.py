"""A contract gives the same vectors live and from a bag, to the bit; fills nothing in; and is checked with words."""

from functools import partial

import numpy as np
import pytest
import yaml
from contract_samples import (
    ARM,
    DRIVE,
    JOINTS,
    MS,
    START,
    TOPICS,
    arm_stream,
    boolean,
    contract,
    drive_stream,
    floats,
    joint_state,
    odometry,
    scan,
    twist,
    write_bag,
)
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin
from safeguard_samples import safeguard_file

from saferule_ros.cli.robot import robot
from saferule_ros.contract.alignment import Stream, Unusable
from saferule_ros.contract.check import check_contract
from saferule_ros.contract.command import Command
from saferule_ros.contract.decoding import Sample
from saferule_ros.contract.errors import ContractError
from saferule_ros.contract.model import Contract, load_contract
from saferule_ros.contract.translation import ContractTranslation
from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.errors import SettingsError
from saferule_ros.recording.errors import BagError
from saferule_ros.recording.ingest import ingest
from saferule_ros.recording.messages import ActionMessage, ObservationMessage, RawMessage
from saferule_ros.recording.reader import read_bag_content
from saferule_ros.safeguard.labelling import audit_dataset

GUARD = DRIVE.parent.parent / "safeguards" / DRIVE.name
GUARDED = "drive with a safeguard"
STREAMS = {DRIVE: drive_stream, ARM: arm_stream, GUARDED: drive_stream}


def live(translation: ContractTranslation, messages: list[RawMessage]) -> list[ObservationMessage | ActionMessage]:
    """One message after the other, as they come on a robot."""
    made = [one for message in messages for one in translation.take([message], TOPICS)]
    return [*made, *translation.finish()]


def same(one, other) -> bool:
    return all(
        a.tobytes() == b.tobytes() if isinstance(a, np.ndarray) else a == b for a, b in zip(one, other, strict=True)
    )


def changed(path, **changes) -> Contract:
    """A ready contract with other words: {"tick": {"rate": 5}}, {"sources.scan.max_age": None}."""
    content = yaml.safe_load(path.read_text())
    for key, value in changes.items():
        *way, last = key.split("__")
        place = content
        for step in way:
            place = place[step]
        place[last] = value
    return Contract.model_validate(content)


def made_of(path) -> Contract:
    """A ready contract; or that of the drive, with reward and cost by a safeguard."""
    by_safeguard = {"safeguard": str(GUARD)}
    return changed(DRIVE, reward=by_safeguard, cost=by_safeguard) if path == GUARDED else contract(path)


@pytest.mark.parametrize("size", [1, 7, 100, 10_000])
@pytest.mark.parametrize("path", STREAMS)
def test_however_many_messages_are_decoded_at_once_the_vectors_are_the_same_to_the_bit(path, size):
    messages = STREAMS[path]()
    expected = live(ContractTranslation(made_of(path)), messages)
    translation = ContractTranslation(made_of(path))
    batches = [messages[at : at + size] for at in range(0, len(messages), size)]
    found = [one for batch in batches for one in translation.take(batch, TOPICS)]
    found += translation.finish()
    assert len(found) == len(expected) > 100
    assert all(map(same, found, expected))


@pytest.mark.parametrize(
    "options",
    [
        {"storage_plugin": StoragePlugin.MCAP},
        {"storage_plugin": StoragePlugin.SQLITE3},
        {"storage_plugin": StoragePlugin.SQLITE3, "compression": (CompressionMode.FILE, CompressionFormat.ZSTD)},
        {"storage_plugin": StoragePlugin.SQLITE3, "compression": (CompressionMode.MESSAGE, CompressionFormat.ZSTD)},
        {"storage_plugin": StoragePlugin.MCAP, "compression": (CompressionMode.STORAGE, CompressionFormat.ZSTD)},
    ],
    ids=["mcap", "sqlite", "sqlite-file-zstd", "sqlite-message-zstd", "mcap-zstd"],
)
@pytest.mark.parametrize("path", STREAMS)
def test_a_bag_gives_what_the_robot_saw_live_to_the_bit(tmp_path, path, options):
    messages = STREAMS[path]()
    made = live(ContractTranslation(made_of(path), "bag"), messages)
    observations = [one for one in made if isinstance(one, ObservationMessage)]
    actions = {one.observation_sequence: one for one in made if isinstance(one, ActionMessage)}
    write_bag(tmp_path / "bag", messages, **options)
    content = read_bag_content(tmp_path / "bag", ContractTranslation(made_of(path)))
    assert content.complete and len(content.episodes) == 2
    for episode in content.episodes:
        mine = [one for one in observations if one.episode_id == episode.id][: episode.length + 1]
        assert np.stack([one.data for one in mine]).tobytes() == episode.observations.tobytes()
        answers = np.stack([actions[one.sequence].data for one in mine[:-1]])
        assert answers.tobytes() == episode.actions.tobytes()
        assert [np.float32(one.reward) for one in mine[1:]] == list(episode.rewards)
        assert [np.float32(one.cost) for one in mine[1:]] == list(episode.costs)
        assert [one.stamp for one in mine[:-1]] == list(episode.stamps)


def test_costs_by_a_safeguard_are_those_of_an_audit_of_the_dataset_and_end_with_the_episodes(tmp_path):
    write_bag(tmp_path / "bag", drive_stream(seconds=12.0))
    file = safeguard_file(
        (34, 2), {"pushing": "action[0] > 0.8", "near": "min(scan) < 0.2"}, ("broken",), ("clear", "near", "near"),
        ("near", "not near", "clear"), ("near", "pushing", "broken"), inputs={"scan": "observation[2:14]"},
    )  # fmt: skip
    made = changed(DRIVE, reward={"safeguard": file}, cost={"safeguard": file})
    content = read_bag_content(tmp_path / "bag", ContractTranslation(made))
    dataset = EpisodeDataset.from_episodes(content.episodes)
    audit = audit_dataset(made.safeguards["cost"], dataset)
    assert audit.differing_episodes == () and audit.entered["broken"] == dataset.episodes >= 2
    assert all(dataset.costs[record.start] == 0 for record in dataset.records), "broken for the rest of each episode"
    assert np.array_equal(dataset.rewards, -dataset.costs)
    other = yaml.safe_load(GUARD.read_text())
    other["states"]["collision"]["cost"] = 2
    assert changed(DRIVE, cost={"safeguard": other}).digest != changed(DRIVE, cost={"safeguard": str(GUARD)}).digest


def test_a_safeguard_is_found_beside_its_contract_and_must_be_of_this_robot(tmp_path):
    content = yaml.safe_load(DRIVE.read_text())
    guard = yaml.safe_load(GUARD.read_text())
    folder = tmp_path / "robot"
    folder.mkdir()

    def check(size=34, actions=2, file="guard.yaml"):
        guard["observation_size"], guard["action_size"] = size, actions
        (folder / "guard.yaml").write_text(yaml.safe_dump(guard))
        (folder / "drive.yaml").write_text(yaml.safe_dump(content | {"cost": {"safeguard": file}}))
        return check_contract(load_contract(folder / "drive.yaml"))

    assert check().problems == []
    (problem,) = check(size=35).problems
    assert problem.where == "cost" and "is for observations of 35 numbers" in problem.what
    with pytest.raises(ContractError, match=r"cost of contract 'drive': .* this contract has 34 and 2"):
        live(ContractTranslation(load_contract(folder / "drive.yaml")), drive_stream(seconds=1.0))
    with pytest.raises(SettingsError, match="is for actions of 3 numbers, this robot's have 2"):
        check(actions=3)
    with pytest.raises(SettingsError, match=r"guardian\.yaml' cannot be read"):
        check(file="guardian.yaml")


def test_ingest_takes_a_contract_and_several_processes_and_goes_on_after_a_kill(tmp_path):
    made = contract()
    for number in range(3):
        shifted = [m._replace(log_time=m.log_time + number * 3600 * 10**9) for m in arm_stream(number, 1.5)]
        write_bag(tmp_path / f"bag{number}", shifted)
    made = changed(ARM, sources__position__time="received", sources__velocity__time="received",
                   sources__tool__time="received")  # fmt: skip
    bags = [tmp_path / f"bag{number}" for number in range(3)]
    make = partial(ContractTranslation, made)
    one = ingest(bags, tmp_path / "one", make_translation=make, translation_id=made.digest)
    two = ingest(bags, tmp_path / "two", make_translation=make, translation_id=made.digest, processes=2)
    assert one.dataset_digest == two.dataset_digest and one.episodes >= 3
    dataset = EpisodeDataset.load(tmp_path / "two")
    assert dataset.digest == one.dataset_digest
    assert not (tmp_path / ".ingest-two").exists()
    assert (dataset.stamps > START - 10**9).all()


def test_observation_reward_cost_and_history_are_what_the_contract_says():
    before = START - 20 * MS
    messages = [
        RawMessage("/bumper", boolean(False), before), RawMessage("/goal_in_base", floats([3.0, 4.0]), before),
        RawMessage("/odom", odometry(before, 0.5, 1.0), before),
        RawMessage("/scan", scan(before, np.full(360, np.inf)), before),
        RawMessage("/cmd_vel", twist(0.25, 0.6), START + 10 * MS),
        RawMessage("/odom", odometry(START + 90 * MS, -1.0, 2.0), START + 90 * MS),
        RawMessage("/scan", scan(START + 90 * MS, np.full(360, 0.2)), START + 95 * MS),
        RawMessage("/cmd_vel", twist(0.0, 0.0), START + 110 * MS),
    ]  # fmt: skip
    first, answer, second, _ = live(ContractTranslation(contract()), messages)
    assert (first.step, first.reward, first.cost) == (0, 0.0, 0.0)
    newest = [0.5, 0.5, *[1.0] * 12, 3.0, 4.0]
    assert first.data == pytest.approx([*newest, *newest, 0.0, 0.0]), "an episode begins with copies and `stop`"
    assert answer.data == pytest.approx([0.5, 0.5]), "commands are read back in the policy's units"
    assert answer.observation_sequence == first.sequence
    assert second.data == pytest.approx([-1.0, 1.0, *[0.04] * 12, 3.0, 4.0, *newest, 0.5, 0.5], rel=1e-6)
    assert (second.step, second.stamp, second.episode_id) == (1, START + 100 * MS, first.episode_id)
    assert second.reward == pytest.approx(-1.0 * 3.0 / 5.0) and second.cost == 1.0


def test_joints_are_found_by_name_in_whatever_order_they_come():
    made = changed(ARM, sources={"position": yaml.safe_load(ARM.read_text())["sources"]["position"]}, reward="0",
                   cost="0", episode={}, history={}, tick={"source": "position"})  # fmt: skip
    values = np.arange(7.0)
    backwards = joint_state(START + MS, values[::-1], values, JOINTS[::-1])
    more = joint_state(START + 2 * MS, [9.0, *values], [0.0, *values], ["gripper", *JOINTS])
    fewer = joint_state(START + 3 * MS, values[:6], values[:6], JOINTS[:6])
    translation = ContractTranslation(made)
    found = live(translation, [RawMessage("/joint_states", data, START) for data in (backwards, more, fewer)])
    assert [list(one.data) for one in found] == [list(values), list(values)]
    assert "joint 'joint_7' is not in the message" in translation.runner.problem


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda m: m._replace(data=odometry(START + 200 * MS, np.nan, 0.0)), "velocity: non-finite"),
        (lambda m: m._replace(data=m.data[:-5]), "velocity: malformed"),
        (lambda m: m._replace(data=odometry(0, 1.0, 0.0)), "its stamp is 0"),
    ],
)
def test_what_is_unusable_ends_the_episode_and_is_never_filled_in(spoil, why):
    made = changed(DRIVE, sources__velocity__max_age=0.03, history={})
    messages = drive_stream(seconds=2.0)
    odom = [row for row, message in enumerate(messages) if message.topic == "/odom"]
    tick = next(row for row in odom if messages[row].log_time > START + 590 * MS)
    whole = live(ContractTranslation(made), messages)
    for row in odom[odom.index(tick) - 1 : odom.index(tick) + 2]:  # all that could be taken at that tick
        messages[row] = spoil(messages[row])._replace(log_time=messages[row].log_time)
    translation = ContractTranslation(made)
    spoilt = live(translation, messages)
    ids = {one.episode_id for one in spoilt if isinstance(one, ObservationMessage)}
    assert len(ids) == len({one.episode_id for one in whole if isinstance(one, ObservationMessage)}) + 1
    assert translation.ticks.lost == 1 == sum(translation.ticks.reasons.values())
    told = " ".join(translation.ticks.reasons) + " ".join(translation.runner.streams["velocity"].counts)
    assert why.split(": ")[-1] in told


def test_a_source_that_falls_silent_is_stale_and_not_repeated():
    messages = [m for m in drive_stream(seconds=3.0) if m.topic != "/scan" or not 1 < (m.log_time - START) / 1e9 < 2]
    translation = ContractTranslation(contract())
    found = live(translation, messages)
    stamps = [(one.stamp - START) / 1e9 for one in found if isinstance(one, ObservationMessage)]
    assert not [stamp for stamp in stamps if 1.35 < stamp < 1.95]
    assert translation.ticks.reasons == {"scan: stale": translation.ticks.lost} and translation.ticks.lost >= 5


def test_what_a_contract_cannot_make_is_counted_and_makes_an_ingest_partial(tmp_path):
    def read(messages, name):
        bag = write_bag(tmp_path / name, messages)
        make = partial(ContractTranslation, contract())
        return ingest([bag], tmp_path / f"{name}-data", make_translation=make)

    whole = read(drive_stream(seconds=3.0), "whole")
    assert whole.status == "complete" and whole.ticks.lost == 0
    # Its ticks begin with the first message, when not every source was heard: outside of what was recorded.
    assert whole.ticks.early == whole.bags[0].ticks.early == 1
    silent = [m for m in drive_stream(seconds=3.0) if m.topic != "/scan" or not 1 < (m.log_time - START) / 1e9 < 2]
    told = read(silent, "silent")
    assert told.status == told.bags[0].status == "partial"
    assert told.ticks.reasons == {"scan: stale": told.ticks.lost}
    assert told.ticks.made + told.ticks.lost == whole.ticks.made
    assert "scan: stale" in str(told.ticks) and told.to_dict()["ticks"]["lost"] == told.ticks.lost
    never = [m for m in drive_stream(seconds=1.0) if m.topic != "/scan"]
    with pytest.raises(BagError, match="10 ticks, but not all sources were ever heard"):
        read(never, "never")


def test_ticks_that_are_skipped_overtaken_or_cut_off_by_the_end_are_counted():
    made = changed(DRIVE, history={})
    later = [m._replace(log_time=m.log_time + 300 * 10**9) for m in drive_stream(seconds=1.0)]
    translation = ContractTranslation(made)
    live(translation, [*drive_stream(seconds=1.0), *later])
    assert translation.ticks.reasons["nothing was heard for long"] > 2900
    made = changed(ARM, history={}, reward="0", cost="0", episode={})
    stream = [m for m in arm_stream(seconds=1.0) if m.topic != "/reset"]
    rows = [row for row, message in enumerate(stream) if message.topic == "/joint_states"]
    stream[rows[5]], stream[rows[6]] = (
        stream[rows[6]]._replace(log_time=stream[rows[5]].log_time),
        stream[rows[5]]._replace(log_time=stream[rows[6]].log_time),
    )
    stream.insert(rows[9], stream[rows[9]])
    last = max(row for row, message in enumerate(stream) if message.topic == "/joint_states")
    translation = ContractTranslation(made)
    live(translation, [m for row, m in enumerate(stream) if row <= last])
    assert translation.ticks.reasons == {"overtaken by a later one": 1}
    assert translation.runner.counts["duplicated"] == 1, "the same tick again is no other tick"
    assert translation.ticks.unfinished == 1, "the imu's next reading, which the last tick needs, is not there"


def test_interpolation_lies_on_the_line_between_two_messages_and_waits_for_the_second():
    made = changed(ARM, sources__target__max_age=None, history={}, reward="0", cost="0", episode={})
    stream = [m for m in arm_stream(seconds=0.5) if m.topic != "/reset"]
    found = [one for one in live(ContractTranslation(made), stream) if isinstance(one, ObservationMessage)]
    translation = ContractTranslation(made)
    without = [m for m in stream if m.topic != "/wrist_imu" or m.log_time < START + 100 * MS]
    fewer = [one for one in live(translation, without) if isinstance(one, ObservationMessage)]
    assert len(fewer) < len(found) and translation.ticks.reasons["tool: nothing came in time"]
    decoded = {}
    for message in stream:
        if message.topic == "/wrist_imu":
            time = int.from_bytes(message.data[4:8], "little") * 10**9 + int.from_bytes(message.data[8:12], "little")
            decoded[time] = np.frombuffer(message.data[-9 * 8 - 24 :][:24], np.float64)
    for one in found[1:6]:
        before = max(time for time in decoded if time <= one.stamp)
        after = min(time for time in decoded if time >= one.stamp)
        share = (one.stamp - before) / max(after - before, 1)
        expected = 0.1 * (decoded[before] * (1 - share) + decoded[after] * share)
        assert one.data[14:17] == pytest.approx(expected, abs=1e-6)


def test_episodes_begin_and_end_where_the_contract_says():
    made = changed(DRIVE, episode={"max_steps": 7, "gap": 2.0})
    found = [
        one for one in live(ContractTranslation(made), drive_stream(seconds=3.0)) if isinstance(one, ObservationMessage)
    ]
    assert [one.truncated for one in found if one.step == 7] == [True] * (len(found) // 8)
    later = [m._replace(log_time=m.log_time + 10**10) for m in drive_stream(seconds=1.0)]
    made = changed(DRIVE, episode={"gap": 2.0}, sources__velocity__time="received", sources__scan__time="received")
    found = [one for one in live(ContractTranslation(made), [*drive_stream(seconds=1.0), *later])
             if isinstance(one, ObservationMessage)]  # fmt: skip
    assert len({one.episode_id for one in found}) == 2 and not any(one.truncated or one.terminated for one in found)
    terminated = [
        one for one in live(ContractTranslation(contract()), drive_stream()) if getattr(one, "terminated", False)
    ]
    assert len(terminated) == 1, "the bumper"


def test_an_exact_source_gives_the_message_of_the_ticks_own_time_or_none():
    source = contract(ARM).sources["velocity"].model_copy(update={"tolerance": 0.002})
    stream = Stream(source)
    for time in (0, 10, 11, 20):
        stream.add(Sample(time * MS, np.array([float(time)])))
    assert [stream.at(time * MS) for time in (10, 12, 19)] == [[10.0], [11.0], [20.0]], "the nearest within 2 ms"
    with pytest.raises(Unusable, match="no message has the tick's time"):
        stream.at(15 * MS)
    assert stream.at(23 * MS) is None, "it may still come"


def test_a_message_on_a_topic_ends_the_episode_with_the_next_tick_or_begins_one():
    def steps(**episode):
        made = changed(DRIVE, episode=episode)
        found = live(ContractTranslation(made), drive_stream(seconds=3.0))
        ticks = [one for one in found if isinstance(one, ObservationMessage)]
        return ticks, [number for number, one in enumerate(ticks) if one.step == 0 and number]

    after = START + 2200 * MS  # the first tick after the bumper is hit, and released
    ticks, begun = steps(end_on=["bumper"])
    ended = [one.stamp for one in ticks if one.truncated and one.stamp > START + 200 * MS]
    assert ended == [after] and not any(one.terminated for one in ticks)
    assert [ticks[number].stamp for number in begun][-1] == after + 100 * MS
    ticks, begun = steps(begin_on=["bumper"])
    assert [ticks[number].stamp for number in begun] == [after]
    assert not any(one.truncated or one.terminated for one in ticks)


def test_commands_are_held_to_bounds_and_rate_and_read_back():
    command = Command(contract().action)
    last = np.zeros(2)
    held = command.held(np.array([5.0, -0.1], np.float32), last, since=100 * MS)
    assert held == pytest.approx([0.2, -0.1]), "2 per second for 0.1 s; within its reach"
    assert command.held(np.array([5.0, -5.0]), last, since=10**10) == pytest.approx([1.0, -1.0])
    assert command.held(np.array([0.4, -0.4]), last, since=-(10**10)) == pytest.approx([0.0, 0.0]), "a clock set back"
    outside = np.array([-20.0, 1.5])
    assert command.held(np.array([0.4, 0.4]), outside, since=100 * MS) == pytest.approx([-1.0, 1.0]), "the bounds hold"
    assert command.values(np.array([1.0, -1.0])) == pytest.approx([0.5, -1.2])
    assert command.action(command.values(np.array([0.3, 0.7]))) == pytest.approx([0.3, 0.7])


def test_where_there_is_no_command_stop_is_sent_or_the_last_one_is_held_or_nothing():
    last = np.array([0.3, 0.4])
    stops, holds = Command(contract().action), Command(changed(DRIVE, action__stop="hold").action)
    assert stops.stop(last) == pytest.approx([0.0, 0.0]) and stops.stop(None) == pytest.approx([0.0, 0.0])
    assert holds.stop(last) == pytest.approx(last)
    assert holds.stop(None) is None, "nothing was commanded yet: there is nothing to hold"
    assert holds.first == pytest.approx([0.0, 0.0])


@pytest.mark.parametrize("path", [DRIVE, ARM])
def test_the_ready_contracts_are_right_with_and_without_a_bag(tmp_path, path):
    write_bag(tmp_path / "bag", STREAMS[path]())
    without = check_contract(contract(path))
    assert without.problems == []
    result = check_contract(contract(path), tmp_path / "bag")
    assert result.problems == [] and len(result.episodes) >= 2
    assert result.observation_size == without.observation_size == {DRIVE: 34, ARM: 31}[path]
    assert result.topics[contract(path).action.topic].rate > 5


def test_the_ready_robot_file_is_of_the_ready_contract():
    of = contract(DRIVE)
    spec, limits = robot("", DRIVE.parent.parent / "robots" / DRIVE.name)
    assert (spec.observation_size, spec.action_size) == (check_contract(of).observation_size, of.action_size)
    assert (list(spec.action_low), list(spec.action_high)) == (of.action.low, of.action.high)
    assert spec.control_rate == of.tick.rate and limits.horizon == of.episode.max_steps


@pytest.mark.parametrize(
    ("changes", "where", "what", "hint"),
    [
        ({"sources__scan__topic": "/scam"}, "source scan", "no topic '/scam'", "Did you mean '/scan'"),
        ({"sources__scan__fields": ["range"]}, "source scan", "no field 'range'", "Did you mean 'ranges"),
        (
            {"sources__scan__type": "sensor_msgs/msg/Imu"},
            "source scan",
            "has type 'sensor_msgs/msg/LaserScan'",
            "Correct",
        ),
        ({"sources__scan__size": 13}, "source scan", "size is 13, its fields have 12", "Correct"),
        ({"sources__velocity__scale": [1.0]}, "source velocity", "scale has 1 numbers for 2 values", "Give"),
        ({"sources__velocity__fields": ["child_frame_id"]}, "source velocity", "is a text", "Give a number"),
        ({"reward": "scan"}, "reward", "gives 12 values", "Take an entry"),
        ({"action__fields": ["linear.x"]}, "action", "its fields have 1 numbers, low and high 2", "Make them fit"),
        ({"sources__scan__clip": None}, "source scan", "non-finite", "clip"),
    ],
)
def test_check_tells_what_is_wrong_with_a_suggestion(tmp_path, changes, where, what, hint):
    write_bag(tmp_path / "bag", drive_stream(seconds=1.0))
    result = check_contract(changed(DRIVE, **changes), tmp_path / "bag")
    found = [problem for problem in result.problems if problem.where == where]
    assert found and what in found[0].what and hint in found[0].hint, result.problems


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(tick={"rate": 10, "source": "scan"}), "give either source or rate"),
        (lambda c: c.update(tick={"source": "scam"}), "unknown source 'scam'"),
        (lambda c: c.update(cost="min(scam) < 1"), "Did you mean 'scan'"),
        (lambda c: c.update(cost="__import__('os')"), "is not allowed"),
        (lambda c: c["action"].update(stop=[0.0]), "low has 2 numbers, stop 1"),
        (lambda c: c["action"].update(stop=[0.0, 3.0]), "are not in this order"),
        (lambda c: c["action"].update(stop="held"), "action.stop"),
        (lambda c: c["action"].update(max_rate=[1.0, 0.0]), "action.max_rate"),
        (lambda c: c["action"].update(max_rate=[-1.0, 1.0]), "action.max_rate"),
        (lambda c: c["action"].update(max_rate=[float("nan"), 1.0]), "action.max_rate"),
        (lambda c: c["action"].update(low=[0.1, -1.0], stop=[0.2, 0.0]), "0, policy_server's last resort, is not in"),
        (lambda c: c["sources"]["scan"].update(fields=["ranges[::0]"]), "has step 0"),
        (lambda c: c["sources"]["bumper"].update(reliable=False), "latched is true and reliable false"),
        (lambda c: c["sources"]["bumper"].pop("max_age"), "latched is true: say how old it may be with max_age"),
        (lambda c: c["sources"]["scan"].update(fields=["ranges]["]), "is no field path"),
        (lambda c: c["sources"]["scan"].update(maxage=3), "maxage"),
        (lambda c: c.update(schema="other/1"), "schema"),
    ],
)
def test_a_file_that_is_no_contract_is_refused_with_words(tmp_path, change, message):
    content = yaml.safe_load(DRIVE.read_text())
    change(content)
    (tmp_path / "contract.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(SettingsError) as error:
        load_contract(tmp_path / "contract.yaml")
    assert message in str(error.value)


def test_a_latched_source_is_reliable_and_survives_being_written_and_read_again():
    made = contract()
    assert made.sources["bumper"].latched and made.sources["bumper"].reliable
    again = Contract.model_validate(made.model_dump(mode="json", by_alias=True))
    assert again == made and again.digest == made.digest


def test_a_bag_without_the_contracts_topics_is_named(tmp_path):
    write_bag(tmp_path / "bag", arm_stream(seconds=0.2))
    with pytest.raises(BagError, match="it has no topic '/odom'"):
        read_bag_content(tmp_path / "bag", ContractTranslation(contract()))
