"""Where episodes of a contract begin and end: live one message at a time, and from a bag."""

import numpy as np
import pytest
from contract_samples import (
    MS,
    START,
    TOPICS,
    TYPES,
    boolean,
    contract,
    drive_stream,
    encoded,
    imu,
    imu_drive,
    in_order,
    odometry,
    twist,
    write_bag,
)

from saferule_ros.contract.check import check_contract
from saferule_ros.contract.model import Contract
from saferule_ros.contract.translation import NEW_EPISODE, ContractTranslation
from saferule_ros.recording.errors import BagError
from saferule_ros.recording.messages import ObservationMessage, RawMessage
from saferule_ros.recording.reader import read_bag_content
from saferule_ros.recording.scan import TopicInfo

RESET = 250  # [ms]


def played(translation: ContractTranslation, messages: list[RawMessage]) -> list[ObservationMessage]:
    """The observations that messages give, one after the other as they come on a robot."""
    topics = TOPICS | {NEW_EPISODE: TopicInfo("std_msgs/msg/Empty")}
    made = [one for message in messages for one in translation.take([message], topics)]
    return [one for one in [*made, *translation.finish()] if isinstance(one, ObservationMessage)]


def pressed(*until: float, seconds: float = 6.0) -> list[RawMessage]:
    """The drive, its bumper pressed from the beginning, and then at each of these times [s] the other way round."""
    others = [message for message in drive_stream(seconds=seconds) if message.topic != "/bumper"]
    times = [0, *(round(time * 1000) for time in until)]
    bumper = [RawMessage("/bumper", boolean(k % 2 == 0), START + time * MS) for k, time in enumerate(times)]
    return sorted([*bumper, *others], key=lambda message: message.log_time)


def test_a_robot_that_stands_at_an_end_begins_no_episode_until_it_is_over(tmp_path):
    messages = pressed(3.05)
    translation = ContractTranslation(contract())
    parked = played(translation, [one for one in messages if one.log_time < START + 3000 * MS])
    assert parked == [] and translation.runner.counts["over_already"] == 29
    assert "terminated" in translation.runner.resting and not translation.runner.problem
    translation = ContractTranslation(contract())
    found = played(translation, messages)
    assert (found[0].stamp, found[0].step) == (START + 3100 * MS, 0)
    assert len({one.episode_id for one in found}) == 1 and not any(one.terminated for one in found)
    assert translation.ticks.lost == 0 and not translation.runner.resting
    content = read_bag_content(write_bag(tmp_path / "bag", messages), ContractTranslation(contract()))
    assert content.complete and not content.incomplete
    assert [episode.length for episode in content.episodes] == [len(found) - 1]


def test_after_an_end_that_lasts_the_next_episode_begins_when_it_is_over():
    found = played(ContractTranslation(contract()), pressed(0.01, 2.05, 4.05))
    ends = [one for one in found if one.terminated or one.truncated]
    begins = [one.stamp for one in found if one.step == 0]
    assert [(one.stamp, one.terminated) for one in ends] == [(START + 2100 * MS, True)]
    assert begins[1:] == [START + 4100 * MS]


def test_an_end_on_a_topic_before_an_episode_begins_none():
    made = contract()
    made = made.model_copy(update={"episode": made.episode.model_copy(update={"end_on": ["bumper"]})})
    found = played(ContractTranslation(made), pressed(0.01))
    assert found[0].step == 0 and not found[0].truncated
    assert found[1].episode_id == found[0].episode_id


def test_a_check_says_that_a_recording_holds_nothing_but_an_end(tmp_path):
    (problem,) = check_contract(contract(), write_bag(tmp_path / "bag", pressed(seconds=2.0))).problems
    assert "not one observation" in problem.what
    assert "terminated or truncated holds before an episode begins (19 ticks)" in problem.hint


def reset_while_a_tick_waits(topic: str, clock: int = 0) -> list[RawMessage]:
    """Odometry at 10 Hz, 1 before the robot was reset at 250 ms and 100 after it. The tick of 200 ms is made at 280 ms.

    Args:
        topic: where the reset is told.
        clock: how far ahead stamps are of reception [ns].
    """
    events = [(RESET, topic, b"" if topic == NEW_EPISODE else encoded(TYPES["/reset"]))]
    for k in range(8):
        stamp = START + clock + k * 100 * MS
        events.append((k * 100 + 5, "/odom", odometry(stamp, 1.0 if k * 100 < RESET else 100.0, 0.0)))
        events.append((k * 100 + 80, "/wrist_imu", imu(stamp + 60 * MS, [0.0, 0.0, 0.0])))
        events.append((k * 100 + 90, "/cmd_vel", twist(0.1, 0.0)))
    return [RawMessage(topic, data, START + time * MS) for time, topic, data in sorted(events, key=lambda one: one[0])]


@pytest.mark.parametrize("topic", ["/reset", NEW_EPISODE])
def test_a_tick_that_waited_while_an_episode_was_asked_for_belongs_to_the_one_before(topic):
    messages = reset_while_a_tick_waits(topic)
    translation = ContractTranslation(imu_drive(begin_on=["reset"]))
    found = played(translation, messages)
    assert [(one.step, one.data[0]) for one in found][:5] == [(0, 1), (1, 1), (0, 100), (1, 100), (2, 100)]
    assert (found[2].stamp, translation.ticks.lost) == (START + 300 * MS, 0)


def test_a_tick_that_waited_while_the_end_was_told_is_not_the_last():
    found = played(ContractTranslation(imu_drive(end_on=["reset"])), reset_while_a_tick_waits("/reset"))
    assert [one.stamp for one in found if one.truncated] == [START + 300 * MS]


@pytest.mark.parametrize("clock", [-3600 * 10**9, 0])
def test_where_ticks_have_a_clock_of_their_own_the_reset_counts_from_when_they_were_heard(clock):
    """As in the recording of a simulation: the reset has no stamp."""
    found = played(ContractTranslation(imu_drive(begin_on=["reset"])), reset_while_a_tick_waits("/reset", clock))
    assert [(one.step, one.data[0]) for one in found][:4] == [(0, 1), (1, 1), (0, 100), (1, 100)]


def test_an_end_that_a_lost_tick_reached_does_not_end_the_episode_after_it():
    messages = reset_while_a_tick_waits("/reset")
    row = next(row for row, one in enumerate(messages) if one.topic == "/odom" and one.log_time > START + RESET * MS)
    messages[row] = messages[row]._replace(data=odometry(START + 300 * MS, np.nan, 0.0))
    found = played(ContractTranslation(imu_drive(end_on=["reset"])), messages)
    assert not any(one.truncated for one in found)
    assert [one.stamp for one in found if one.step == 0] == [START + 100 * MS, START + 400 * MS]


def test_with_a_clock_that_has_not_begun_no_tick_is_late_when_it_does():
    translation = ContractTranslation(contract())
    assert [*translation.runner.advance(0), *translation.runner.advance(START)] == []
    assert translation.ticks.lost == 0
    assert [one.step for one in played(translation, drive_stream(seconds=1.0))][:2] == [0, 1]


def boundaries(*namespaces: str) -> tuple[dict[str, TopicInfo], list[RawMessage]]:
    """The drive's topics and three seconds of it; a bridge in each of these namespaces said once where one begins."""
    topics = TOPICS | {f"{space}{NEW_EPISODE}": TopicInfo("std_msgs/msg/Empty") for space in namespaces}
    said = [f"{space}{NEW_EPISODE}" for space in namespaces]
    beginnings = [RawMessage(topic, b"", START + (9 + 5 * k) * 100 * MS) for k, topic in enumerate(said)]
    return topics, sorted([*drive_stream(seconds=3.0), *beginnings], key=lambda message: message.log_time)


def begun(translation: ContractTranslation, topics: dict[str, TopicInfo], messages: list[RawMessage]) -> int:
    """How many episodes these messages give."""
    made = [*translation.take(messages, topics), *translation.finish()]
    return sum(isinstance(one, ObservationMessage) and one.step == 0 for one in made)


def test_another_robots_bridge_begins_no_episode_of_this_one():
    alone = begun(ContractTranslation(contract()), *boundaries())
    assert begun(ContractTranslation(contract()), *boundaries("/base")) == alone + 1
    left = contract().model_copy(update={"action": contract().action.model_copy(update={"topic": "/left/cmd_vel"})})
    for namespaces in (("/left", "/right"), ("/right", "/left"), ("/left/base", "/right")):
        topics, messages = boundaries(*namespaces)
        messages = [m._replace(topic=left.action.topic) if m.topic == "/cmd_vel" else m for m in messages]
        assert begun(ContractTranslation(left), topics, messages) == alone + 1


def test_where_it_cannot_be_told_whose_episodes_begin_a_bag_is_refused():
    with pytest.raises(BagError, match="/left/robot_bridge/new_episode, /right/robot_bridge/new_episode"):
        begun(ContractTranslation(contract()), *boundaries("/left", "/right"))


def joined(*times: float, **episode) -> list[list[float]]:
    """Times of the observations [s] of each episode, for ticks at these times."""
    made = imu_drive(**episode).model_dump(mode="json", by_alias=True)
    made["sources"] = {"odom": made["sources"]["odom"]}
    made["episode"] |= {"begin_on": []}
    events = [(round(time * 1000), odometry(START + round(time * 1000) * MS, 1.0, 0.0)) for time in times]
    messages = [RawMessage("/odom", data, START + time * MS) for time, data in events]
    found = played(ContractTranslation(Contract.model_validate(made)), messages)
    ids = list(dict.fromkeys(one.episode_id for one in found))
    return [[(one.stamp - START) / 1e9 for one in found if one.episode_id == id] for id in ids]


@pytest.mark.parametrize(
    ("episode", "episodes"),
    [
        ({}, [[0, 0.1, 0.2], [3600, 3600.1, 3601]]),
        ({"gap": 0.5}, [[0, 0.1, 0.2], [3600, 3600.1], [3601]]),
        ({"gap": 3600.0}, [[0, 0.1, 0.2, 3600, 3600.1, 3601]]),
    ],
)
def test_an_episode_ends_where_the_source_of_its_ticks_falls_silent(episode, episodes):
    assert joined(0, 0.1, 0.2, 3600, 3600.1, 3601, **episode) == episodes


def test_each_of_two_silences_with_a_single_tick_between_ends_an_episode():
    assert joined(0, 0.1, 0.2, 600, 1200, 1200.1) == [[0, 0.1, 0.2], [600], [1200, 1200.1]]
    assert joined(0, 0.1, 600, 1200, 1200.1) == [[0, 0.1], [600], [1200, 1200.1]]
    assert joined(0, 0.1, 0.2, 3, 6, 9, 12, 15) == [[0, 0.1, 0.2], [3], [6], [9, 12, 15]], "slow for good"


def test_slow_ticks_are_no_gap():
    assert joined(0, 2, 4, 6, 15, 24) == [[0, 2, 4, 6, 15, 24]]
    assert joined(0, 2, 4, 6, 17) == [[0, 2, 4, 6], [17]], "over five times the distance"
    assert joined(0, 2, 4, 4.001, 6, 8) == [[0, 2, 4, 4.001, 6, 8]], "two at once say nothing of the others"
    assert joined(0, 2, 4, 6, gap=5.0) == [[0, 2, 4, 6]]
    assert joined(0, 2, 4, 6, gap=1.0) == [[0], [2], [4], [6]]


def test_a_perfect_bag_with_slow_ticks_is_complete_with_all_its_transitions(tmp_path):
    made = imu_drive().model_dump(mode="json", by_alias=True)
    made["sources"] = {"odom": made["sources"]["odom"]}
    times = [k * 2000 * MS for k in range(8)]
    events = [(time, "/odom", odometry(START + time, 1.0, 0.0)) for time in times]
    events += [(time + 20 * MS, "/cmd_vel", twist(0.1, 0.0)) for time in times]
    bag = write_bag(tmp_path / "bag", in_order(events))
    content = read_bag_content(bag, ContractTranslation(Contract.model_validate(made)))
    assert content.complete and not content.incomplete
    assert [episode.length for episode in content.episodes] == [7]
