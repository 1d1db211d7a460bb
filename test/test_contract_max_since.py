"""`align: max_since`: what came and went between two ticks is not lost."""

import numpy as np
import pytest
import yaml
from contract_samples import (
    DRIVE,
    MS,
    START,
    TOPICS,
    TYPES,
    boolean,
    drive_stream,
    imu_drive,
    in_order,
    odometry,
    twist,
    write_bag,
)

from saferule_ros.contract.alignment import Stream, Unusable
from saferule_ros.contract.decoding import Sample
from saferule_ros.contract.model import Contract, Source
from saferule_ros.contract.translation import ContractTranslation
from saferule_ros.recording.messages import ObservationMessage, RawMessage
from saferule_ros.recording.reader import read_bag_content


def stream(max_age: float | None = None) -> Stream:
    """Of a force with two numbers."""
    return Stream(Source(topic="/force", type=TYPES["/target"], fields=["data"], align="max_since", max_age=max_age))


def said(of: Stream, *samples: tuple[int, float, float]) -> None:
    for time, *values in samples:
        of.add(Sample(time * MS, np.array(values)))


@pytest.mark.parametrize("held", [10, 60, 90, 140])
def test_a_bumper_that_is_hit_for_less_than_a_tick_ends_the_episode_and_costs(tmp_path, held):
    others = [message for message in drive_stream(seconds=4.0) if message.topic != "/bumper"]
    far = Contract.model_validate(yaml.safe_load(DRIVE.read_text()) | {"cost": "1 if bumper[0] > 0 else 0"})
    hits = [(0, False), (2005, True), (2005 + held, False)]
    messages = [*others, *(RawMessage("/bumper", boolean(on), START + time * MS) for time, on in hits)]
    bag = write_bag(tmp_path / "bag", sorted(messages, key=lambda message: message.log_time))
    first, second = read_bag_content(bag, ContractTranslation(far)).episodes
    assert first.terminated and (first.length, first.episode_cost) == (20, 1.0)
    assert not second.terminated and second.episode_cost == 0.0


def test_it_is_the_largest_since_the_tick_before_number_by_number():
    force = stream()
    said(force, (0, 1, 5), (10, 9, -2), (20, 3, 1))
    assert list(force.at(50 * MS)) == [9, 5]
    force.forget(50 * MS)
    assert list(force.at(100 * MS)) == [3, 1], "where nothing came since, the newest"
    force.forget(100 * MS)
    said(force, (110, -4, -7), (160, 8, 8))
    assert list(force.at(150 * MS)) == [-4, -7], "what held before the tick before is over"
    force.forget(150 * MS)
    assert list(force.at(200 * MS)) == [8, 8]


def test_what_was_held_up_until_after_its_tick_counts_for_the_next():
    force = stream()
    said(force, (0, 0, 0), (40, 1, 1))
    assert list(force.at(50 * MS)) == [1, 1]
    force.forget(50 * MS)
    said(force, (49, 7, 0), (60, 0, 0))
    assert list(force.at(100 * MS)) == [7, 0]


def test_what_cannot_be_used_is_not_left_out_of_the_largest():
    force = stream(max_age=0.1)
    said(force, (0, 1, 1))
    force.add(Sample(20 * MS, None, "non-finite"))
    said(force, (30, 2, 2))
    with pytest.raises(Unusable, match="non-finite"):
        force.at(50 * MS)
    force.forget(50 * MS)
    assert list(force.at(100 * MS)) == [2, 2]
    with pytest.raises(Unusable, match="stale"):
        force.at(150 * MS)


def test_after_the_clock_was_set_back_only_what_holds_counts():
    force = stream()
    said(force, (1000, 9, 9), (1010, 1, 1))
    force.set_back(1000 * MS)
    assert list(force.at(50 * MS)) == [1, 1]
    force.forget(50 * MS)
    assert list(force.at(1005 * MS)) == [1, 1], "not what the same time brought before"


def pressed_while(stale: int, terminated: str = "False") -> tuple[list[tuple], ContractTranslation]:
    """Time [ms], step and numbers of each observation: a bumper is hit from 430 to 460 ms, the tick at `stale` lost."""
    made = imu_drive().model_dump(mode="json", by_alias=True)
    bumper = {"topic": "/bumper", "type": TYPES["/bumper"], "fields": ["data"], "align": "max_since", "max_age": None}
    made |= {"sources": {"odom": made["sources"]["odom"], "bumper": bumper}}
    made["episode"] |= {"begin_on": [], "terminated": terminated}
    events = [(0, "/bumper", boolean(False)), (430, "/bumper", boolean(True)), (460, "/bumper", boolean(False))]
    for time in range(5, 805, 100):
        events.append((time, "/odom", odometry(START + time * MS, np.nan if time == stale else 1.0, 0.0)))
        events.append((time + 15, "/cmd_vel", twist(0.1, 0.0)))
    translation = ContractTranslation(Contract.model_validate(made))
    messages = in_order([(time * MS, topic, data) for time, topic, data in events])
    found = [one for message in messages for one in translation.take([message], TOPICS)]
    observed = [one for one in [*found, *translation.finish()] if isinstance(one, ObservationMessage)]
    return [((one.stamp - START) // MS, one.step, one.data.tolist()) for one in observed], translation


def test_a_hit_that_a_lost_tick_would_have_seen_meets_the_next_one():
    found, translation = pressed_while(stale=0)
    assert [time for time, _, numbers in found if numbers == [1.0, 1.0]] == [505] and translation.ticks.lost == 0
    found, translation = pressed_while(stale=505)
    assert found[5:] == [(605, 0, [1.0, 1.0]), (705, 1, [1.0, 0.0])] and translation.ticks.lost == 1


def test_a_hit_that_cannot_be_judged_costs_one_tick_and_not_all_that_follow():
    found, translation = pressed_while(stale=0, terminated="1 / (1 - bumper[0]) > 1")
    assert [time for time, _, _ in found] == [5, 105, 205, 305, 405, 605, 705] and translation.ticks.lost == 1


def test_of_what_no_tick_saw_the_largest_that_can_be_used_is_kept():
    force = stream()
    said(force, (0, 1, 5), (10, 9, -2))
    force.forget(50 * MS, seen=False)
    force.add(Sample(60 * MS, None, "non-finite"))
    said(force, (70, 0, 0))
    with pytest.raises(Unusable, match="non-finite"):
        force.at(100 * MS)
    force.forget(100 * MS, seen=False)
    said(force, (110, 2, 2))
    assert list(force.at(150 * MS)) == [9, 5]
    force.forget(150 * MS)
    assert list(force.at(200 * MS)) == [2, 2]


def test_a_size_that_changes_between_two_ticks_costs_no_more_than_one():
    force = stream()
    said(force, (0, 1, 5))
    force.forget(50 * MS, seen=False)
    force.add(Sample(60 * MS, np.array([3.0])))
    with pytest.raises(Unusable, match="wrong size"):
        force.at(100 * MS)
    force.forget(100 * MS, seen=False)
    assert list(force.at(150 * MS)) == [3]
