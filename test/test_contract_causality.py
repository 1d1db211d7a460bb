"""No effect comes before its cause: a command that was sent after a state had been measured did not lead to it."""

import pytest
from cli_process import saferule
from contract_samples import MS, START, imu, imu_drive, odometry, twist, write_bag

from saferule_ros.contract.check import check_contract
from saferule_ros.contract.translation import ContractTranslation
from saferule_ros.recording.messages import RawMessage
from saferule_ros.recording.reader import BagContent, read_bag_content

LATE = "action: it came after the next tick"


def recorded(imu_after: int, heard_after: int = 3, sent_after: int = 50, clock: int = 0) -> list[RawMessage]:
    """Odometry at 10 Hz; what the imu says of its instant, and the command that follows, so many ms after each.

    Args:
        imu_after: the imu is heard; the ticks wait for it [ms].
        heard_after: odometry is heard [ms].
        sent_after: a command is sent [ms]; its value is the number of the tick / 100.
        clock: how far ahead stamps are of reception [ns].
    """
    events = []
    for k in range(40):
        stamp = START + clock + k * 100 * MS
        events.append((k * 100 + heard_after, "/odom", odometry(stamp, k, 0.0)))
        events.append((k * 100 + imu_after, "/wrist_imu", imu(stamp, [k, 0.0, 0.0])))
        events.append((k * 100 + sent_after, "/cmd_vel", twist(k / 100, 0.0)))
    return [RawMessage(topic, data, START + time * MS) for time, topic, data in sorted(events, key=lambda one: one[0])]


def read(folder, messages) -> BagContent:
    return read_bag_content(write_bag(folder / "bag", messages), ContractTranslation(imu_drive()))


@pytest.mark.parametrize("clock", [0, -3600 * 10**9])
def test_commands_that_come_before_the_next_tick_lead_to_it(tmp_path, clock):
    content = read(tmp_path, recorded(imu_after=20, clock=clock))
    (episode,) = content.episodes
    assert content.complete and episode.length == 39
    assert episode.observations[:39, 0] == pytest.approx(100 * episode.actions[:, 0])


@pytest.mark.parametrize("clock", [0, -3600 * 10**9])
def test_an_answer_to_an_observation_that_was_made_late_makes_no_transition(tmp_path, clock):
    content = read(tmp_path, recorded(imu_after=350, clock=clock))
    assert content.episodes == () and not content.complete
    assert set(content.ticks.reasons) == {LATE} and content.ticks.lost >= 15
    assert content.ticks.lost + content.ticks.made + content.ticks.unfinished == 40


def test_an_answer_that_comes_before_a_tick_is_heard_of_but_after_it_was_measured_is_late_too(tmp_path):
    content = read(tmp_path, recorded(imu_after=40, heard_after=30, sent_after=20))
    assert content.episodes == () and set(content.ticks.reasons) == {LATE}


def test_one_late_answer_costs_one_tick(tmp_path):
    messages = recorded(imu_after=20)
    at = next(row for row, one in enumerate(messages) if one.topic == "/cmd_vel" and one.log_time > START + 1000 * MS)
    messages[at] = messages[at]._replace(log_time=START + 1115 * MS)
    content = read(tmp_path, sorted(messages, key=lambda one: one.log_time))
    assert content.ticks.reasons == {LATE: 1}
    assert [episode.length for episode in content.episodes] == [10, 27]


def test_a_robot_in_lock_step_answers_a_command_before_a_recorder_has_it(tmp_path):
    content = read(tmp_path, recorded(imu_after=20, heard_after=12, sent_after=109))
    assert content.complete and [episode.length for episode in content.episodes] == [39]


def test_check_says_how_late_observations_are_made_and_warns_beyond_a_period(tmp_path):
    (tmp_path / "contract.yaml").write_text(imu_drive().model_dump_json(by_alias=True))
    late = write_bag(tmp_path / "late", recorded(imu_after=350))
    result = check_contract(imu_drive(), late)
    assert (result.delay.period, result.delay.median, result.delay.worst) == pytest.approx((0.1, 0.35, 0.35))
    shown = saferule("contract", "check", tmp_path / "contract.yaml", "--bag", late, workspace=tmp_path / "robot")
    assert "made late by" in shown.stdout and "median 0.350 s, worst 0.350 s" in shown.stdout
    assert "are made later than one period" in shown.stderr and "Tick more slowly" in shown.stderr
    in_time = check_contract(imu_drive(), write_bag(tmp_path / "in_time", recorded(imu_after=20)))
    assert not in_time.warnings and not in_time.problems
    assert (in_time.delay.period, in_time.delay.median, in_time.delay.worst) == pytest.approx((0.1, 0.02, 0.02))
    assert in_time.to_dict()["tick_delay"]["beyond"] == 0
