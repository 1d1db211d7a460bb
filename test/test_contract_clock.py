"""A clock that is set back, and stamps that are of the future, end an episode at most: observations go on."""

import numpy as np
import pytest
import yaml
from contract_samples import (
    ARM,
    DRIVE,
    MS,
    START,
    TOPICS,
    arm_stream,
    contract,
    drive_stream,
    joint_state,
    odometry,
    write_bag,
)

from saferule_ros.contract.check import check_contract
from saferule_ros.contract.model import Contract
from saferule_ros.contract.silence import Silence
from saferule_ros.contract.translation import ContractTranslation
from saferule_ros.recording.messages import ActionMessage, ObservationMessage, RawMessage
from saferule_ros.recording.reader import read_bag_content

STREAMS = {DRIVE: drive_stream, ARM: arm_stream}
SECOND = 10**9
DAY = 86_400 * SECOND


def played(translation: ContractTranslation, messages: list[RawMessage]) -> list[ObservationMessage]:
    """The observations that messages give, one after the other as they come on a robot."""
    made = [one for message in messages for one in translation.take([message], TOPICS)]
    return [one for one in made if isinstance(one, ObservationMessage)]


def joints_only(**tick) -> Contract:
    """The arm with joint states alone, all of it stamped by one clock."""
    content = yaml.safe_load(ARM.read_text())
    sources = {name: content["sources"][name] | tick for name in ("position", "velocity")}
    return Contract.model_validate(content | {"sources": sources, "reward": "0", "cost": "0", "episode": {}})


def states(received: list[int], stamps: list[int]) -> list[RawMessage]:
    """Joint states and the commands that answer them."""
    command = next(m.data for m in arm_stream(seconds=0.1) if m.topic == "/arm_controller/joint_trajectory")
    rng = np.random.default_rng(0)
    found = []
    for time, stamp in zip(received, stamps, strict=True):
        data = joint_state(stamp, rng.normal(size=7), rng.normal(size=7))
        found.append(RawMessage("/joint_states", data, time))
        found.append(RawMessage("/arm_controller/joint_trajectory", command, time + MS))
    return found


@pytest.mark.parametrize("path", STREAMS)
def test_after_a_clock_was_set_back_all_is_observed_as_if_it_had_begun_then(tmp_path, path):
    before = STREAMS[path](seconds=3.0, start=START + 60 * SECOND)
    after = STREAMS[path](seed=1, seconds=3.0)
    alone = played(ContractTranslation(contract(path)), after)
    translation = ContractTranslation(contract(path), "bag")
    first = played(translation, before)
    second = played(translation, after)
    assert len(first) >= 29 and len(second) == len(alone) >= 29
    for one, expected in zip(second, alone, strict=True):
        assert one.data.tobytes() == expected.data.tobytes()
        assert (one.stamp, one.step, one.reward, one.cost) == (
            expected.stamp, expected.step, expected.reward, expected.cost,
        )  # fmt: skip
    assert translation.runner.counts["clock_set_back"] == 1
    assert "the clock was set back by 6" in translation.runner.notice and not translation.runner.problem
    assert translation.ticks.lost == 0
    content = read_bag_content(write_bag(tmp_path / "bag", [*before, *after]), ContractTranslation(contract(path)))
    assert content.complete and not content.incomplete
    ids = [one.episode_id for one in (*first, *second) if one.step == 0]
    assert [episode.id for episode in content.episodes] == ids
    assert sum(episode.length + 1 for episode in content.episodes) == len(first) + len(second)


def test_an_episode_never_reaches_across_the_moment_and_no_name_comes_twice():
    twice = drive_stream(seconds=2.0)
    translation = ContractTranslation(contract())
    found = [played(translation, twice) for _ in range(3)]
    ids = [{one.episode_id for one in part} for part in found]
    assert all(ids) and not ids[0] & ids[1] and not ids[1] & ids[2] and not ids[0] & ids[2]
    assert [part[0].step for part in found] == [0, 0, 0]
    sequences = [one.sequence for part in found for one in part]
    assert sequences == sorted(set(sequences)), "the count goes on"
    assert all(id.startswith("drive-") for part in ids for id in part)


def test_a_command_after_the_moment_answers_nothing_of_before():
    translation = ContractTranslation(contract())
    messages = drive_stream(seconds=2.0, start=START + 60 * SECOND)
    last = max(row for row, message in enumerate(messages) if message.topic == "/cmd_vel")
    played(translation, [message for row, message in enumerate(messages) if row < last])
    late = messages[last]._replace(log_time=START)
    assert not [one for one in translation.take([late], TOPICS) if isinstance(one, ActionMessage)]


def test_what_is_published_when_it_changes_still_holds_after_the_clock_was_set_back():
    after = [message for message in drive_stream(seed=1, seconds=1.0) if message.topic != "/bumper"]
    translation = ContractTranslation(contract())
    played(translation, drive_stream(seconds=1.0, start=START + 60 * SECOND))
    assert len(played(translation, after)) == 9
    assert not played(ContractTranslation(contract()), after), "of which nothing was ever heard it is not made up"


def test_ticks_that_wait_when_the_clock_is_set_back_are_lost_and_counted():
    messages = arm_stream(seconds=1.0, start=START + 60 * SECOND)
    last = max(row for row, message in enumerate(messages) if message.topic == "/joint_states")
    translation = ContractTranslation(contract(ARM))
    played(translation, messages[: last + 1])  # the imu's next reading is still to come
    assert len(played(translation, arm_stream(seed=1, seconds=1.0))) == 50
    assert translation.ticks.reasons == {"clock: it was set back": 1}


def test_a_clock_that_is_a_little_behind_is_waited_for_and_told():
    translation = ContractTranslation(contract())
    first = played(translation, drive_stream(seconds=3.0))
    runner = translation.runner
    assert runner.advance(START + 2100 * MS) == [] and runner.counts["clock_set_back"] == 0
    assert "the clock is 0.8" in runner.problem and "until it has caught up" in runner.problem
    later = [m for m in drive_stream(seconds=4.0) if m.log_time > START + 2950 * MS]
    second = played(translation, later)
    assert second[0].episode_id == first[-1].episode_id and not runner.problem


@pytest.mark.parametrize("path", STREAMS)
def test_one_stamp_of_the_future_is_refused_and_counted_and_what_follows_is_observed(path):
    messages = STREAMS[path](seconds=2.0)
    whole = played(ContractTranslation(contract(path)), messages)
    topic, ahead = {
        DRIVE: ("/odom", odometry(START + DAY, 1.0, 1.0)),
        ARM: ("/joint_states", joint_state(START + DAY, np.zeros(7), np.zeros(7))),
    }[path]
    at = next(row for row, m in enumerate(messages) if m.topic == topic and m.log_time > START + SECOND)
    translation = ContractTranslation(contract(path))
    found = played(translation, [*messages[:at], RawMessage(topic, ahead, messages[at].log_time), *messages[at:]])
    assert [one.stamp for one in found] == [one.stamp for one in whole]
    for name in {DRIVE: ["velocity"], ARM: ["position", "velocity"]}[path]:
        assert translation.runner.streams[name].counts["ahead of the clock"] == 1
    assert translation.runner.counts["clock_set_back"] == 0
    ticking = {"position: its stamp is ahead of the clock": 1}
    assert translation.ticks.reasons == (ticking if path == ARM else {}), "a tick is lost where it made the ticks"


def test_a_refused_stamp_is_told_with_its_value_and_the_hint_of_check_names_the_setting(tmp_path):
    translation = ContractTranslation(contract(ARM))
    played(translation, [RawMessage("/joint_states", joint_state(START + DAY, np.zeros(7), np.zeros(7)), START)])
    assert "its stamp is ahead of the clock: 86400.000 s, allowed 1 s" in translation.runner.problem
    messages = states([START + k * 20 * MS for k in range(20)], [START + DAY + k * 20 * MS for k in range(20)])
    bag = write_bag(tmp_path / "bag", messages)
    told = check_contract(joints_only(), bag).problems
    assert any("20 of 20 messages: ahead of the clock" in one.what and "max_ahead: null" in one.hint for one in told)
    assert not check_contract(joints_only(max_ahead=None), bag).problems, "stamps of a clock of its own"


def test_where_the_clock_of_the_ticks_own_stamps_is_set_back_one_tick_is_lost():
    received = [START + k * 20 * MS for k in range(60)]
    stamps = [START - DAY + (k if k < 30 else k - 500) * 20 * MS for k in range(60)]  # a simulator that began anew
    translation = ContractTranslation(joints_only())
    found = played(translation, states(received, stamps))
    assert translation.ticks.reasons == {"overtaken by a later one": 1}
    assert [one.stamp for one in found] == [*stamps[:30], *stamps[31:]]
    assert found[30].step == 0 and found[30].episode_id != found[29].episode_id


def test_one_message_that_was_held_up_for_long_is_no_clock_that_was_set_back():
    times = [START + k * 20 * MS for k in range(200)]
    stamps = [*times[:150], times[20] + MS, *times[151:180], times[22] + MS, *times[181:]]
    translation = ContractTranslation(joints_only())
    before = states(times, stamps)
    assert len(played(translation, before[: 2 * 151])) == 150
    assert "position: a message was overtaken by one that is 2.5" in translation.runner.problem
    assert len(played(translation, before[2 * 151 :])) == 48
    assert translation.ticks.reasons == {"overtaken by a later one": 2} and not translation.runner.problem
    assert translation.runner.counts["clock_set_back"] == 0


def test_that_no_tick_comes_is_told_until_one_does():
    translation = ContractTranslation(joints_only())
    runner = translation.runner
    runner.advance(START)
    runner.advance(START + 900 * MS)
    assert not runner.problem
    runner.advance(START + 1100 * MS)
    assert runner.problem == "position: no message for 1.1 s, so no tick"
    times = [START + 2 * SECOND + k * 20 * MS for k in range(5)]
    assert len(played(translation, states(times, times))) == 5 and not runner.problem
    runner.advance(times[-1] + 1500 * MS)
    assert "no message for 1.5 s" in runner.problem
    runner.advance(START - DAY)
    assert "the clock was set back by 86403" in runner.problem
    runner.advance(START - DAY + 1100 * MS)
    assert "no message for 1.1 s" in runner.problem, "counted from the new time"


def test_a_second_silence_is_told_as_soon_as_the_first():
    silence = Silence()
    for time in (0, SECOND // 10, 600 * SECOND):
        silence.heard(time)
    assert silence.seconds(602 * SECOND) == 2.0


def test_slow_ticks_are_no_silence():
    silence = Silence()
    silence.heard(0)
    silence.heard(2 * SECOND)
    assert silence.seconds(11 * SECOND) == 0.0
    assert silence.seconds(13 * SECOND) == 11.0
