"""dataset_recorder as a process over DDS: what is acknowledged is on disk, what was lost is visible."""
# ruff: noqa: F811  (a fixture and the arguments that ask for it)

import os
import signal
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.duration import Duration
from ros_helpers import DEADLINE, READY, Ros, ros  # noqa: F401
from saferule_ros.msg import Action, Episode, Observation
from saferule_ros.srv import StartRecording, StopRecording

from saferule_ros.nodes import qos
from saferule_ros.nodes.dataset_recorder import has_waited_enough
from saferule_ros.nodes.runner import NodeProcess
from saferule_ros.recording.reader import read_bag

pytestmark = pytest.mark.ros

OBSERVATION_SIZE, ACTION_SIZE = 12, 2
NAME = "dataset_recorder"
KILLS = 4  # each takes a node's start, and at most 1.5 s of recording


class Robot:
    """Publishes episodes as a robot's tick would, with values that depend on the sequence number alone."""

    def __init__(self, ros: Ros) -> None:
        self.observations = ros.probe.publisher(Observation, "observation")
        self.actions = ros.probe.publisher(Action, "action")
        self.sequence = 0
        self.commands = 0

    def observe(self, episode_id: str, step: int, truncated: bool = False) -> None:
        self.sequence += 1
        self.observations.publish(
            Observation(
                sequence=self.sequence,
                episode_id=episode_id,
                step=step,
                data=vector(self.sequence, OBSERVATION_SIZE),
                reward=float(step > 0),
                cost=float(step % 3 == 2),
                truncated=truncated,
            )
        )

    def act(self, sequence: int | None = None) -> None:
        self.commands += 1
        answered = self.sequence if sequence is None else sequence
        self.actions.publish(
            Action(
                sequence=self.commands,
                observation_sequence=answered,
                data=vector(answered, ACTION_SIZE),
                policy_id="0123456789abcdef",
            )
        )

    def run(self, episode_id: str, length: int) -> None:
        for step in range(length):
            self.observe(episode_id, step)
            self.act()
        self.observe(episode_id, length, truncated=True)

    def all_arrived(self) -> None:
        """Returns when the recorder has everything in its queue: what is still on the way when it ends is lost."""
        for publisher in (self.observations, self.actions):
            assert publisher.wait_for_all_acked(Duration(seconds=READY))


def vector(sequence: int, size: int) -> np.ndarray:
    return np.random.default_rng(sequence).normal(size=size).astype(np.float32)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    return tmp_path / "robot"


def start_node(ros: Ros, workspace: Path, **parameters: object) -> NodeProcess:
    node = ros.runner.start(NAME, parameters={"workspace": str(workspace), **parameters})
    ros.runner.wait_ready(READY)
    return node


@pytest.fixture
def node(ros: Ros, workspace: Path) -> NodeProcess:
    return start_node(ros, workspace)


@pytest.fixture
def sealed(ros: Ros) -> Iterator[list[Episode]]:
    return ros.probe.record(Episode, f"{NAME}/episodes", qos.EPISODES)


def begin(ros: Ros, bag_id: str = "monday") -> StartRecording.Response:
    return ros.probe.call(StartRecording, f"{NAME}/start", StartRecording.Request(bag_id=bag_id, recorded_by="me"))


def end(ros: Ros) -> StopRecording.Response:
    return ros.probe.call(StopRecording, f"{NAME}/stop", StopRecording.Request())


def test_episodes_are_acknowledged_when_they_are_on_disk_and_read_back_alike(
    ros: Ros,
    node: NodeProcess,
    sealed: list[Episode],
    workspace: Path,
) -> None:
    assert begin(ros).success
    robot = Robot(ros)
    for number, length in enumerate((5, 3, 8)):
        robot.run(f"walk-{number}", length)
        acknowledged = ros.probe.wait_for(lambda n=number: len(sealed) > n and sealed[n], "the episode is sealed")
        # At this very moment, while the recording goes on, the bag holds it.
        stored = read_bag(workspace / "bags" / "monday")[number]
        assert (stored.id, stored.digest) == (acknowledged.episode_id, acknowledged.digest)
    assert [(e.episode_id, e.length, e.lost, e.message) for e in sealed] == [
        ("walk-0", 5, 0, ""), ("walk-1", 3, 0, ""), ("walk-2", 8, 0, ""),
    ]  # fmt: skip
    assert sealed[2].episode_return == 8.0 and sealed[2].episode_cost == 3.0
    assert sealed[2].truncated and not sealed[2].terminated
    assert list(sealed[0].policy_ids) == ["0123456789abcdef"]
    stopped = end(ros)
    assert (stopped.success, stopped.bag_id, stopped.episodes, stopped.transitions) == (True, "monday", 3, 16)
    assert Path(stopped.path) == workspace / "bags" / "monday"
    second = read_bag(stopped.path)[1]
    assert np.array_equal(second.observations[0], vector(7, OBSERVATION_SIZE))
    assert np.array_equal(second.actions[2], vector(9, ACTION_SIZE))


def test_late_joiners_see_the_sealed_episodes(ros: Ros, node: NodeProcess, sealed: list[Episode]) -> None:
    begin(ros)
    robot = Robot(ros)
    for number in range(4):
        robot.run(f"walk-{number}", 2)
    ros.probe.wait_for(lambda: len(sealed) == 4, "all are sealed")
    late = ros.probe.record(Episode, f"{NAME}/episodes", qos.EPISODES)
    ros.probe.wait_for(lambda: len(late) == 4, "the late joiner has them too")
    assert [e.episode_id for e in late] == [f"walk-{number}" for number in range(4)]


def test_recording_begins_with_the_next_episode_that_begins(
    ros: Ros,
    node: NodeProcess,
    sealed: list[Episode],
) -> None:
    robot = Robot(ros)
    for step in range(4):
        robot.observe("half", step)
        robot.act()
    robot.all_arrived()
    begin(ros)
    robot.observe("half", 4)
    robot.act()
    robot.observe("half", 5, truncated=True)
    robot.run("whole", 3)
    stopped = end(ros)
    assert (stopped.episodes, stopped.transitions) == (1, 3)
    ros.probe.wait_for(lambda: sealed, "the episode is announced")
    assert [e.episode_id for e in sealed] == ["whole"]


@pytest.mark.long
def test_stop_truncates_the_open_episode_and_loses_none_that_was_published(
    ros: Ros,
    workspace: Path,
    sealed: list[Episode],
) -> None:
    start_node(ros, workspace, diagnostics_period=0.1, command_patience=4.0)
    health = ros.probe.record(DiagnosticArray, "/diagnostics", qos.REPORTS)
    begin(ros)
    robot = Robot(ros)
    robot.run("first", 1)
    ros.probe.wait_for(lambda: sealed, "both topics are connected in both directions")
    robot.observe("cut", 0)
    robot.act()
    ros.probe.wait_for(lambda: health and "cut" in str(health[-1].status[0].values), "the episode is open")
    for step in range(1, 900):  # published at once: most still wait in the middleware when the request comes
        robot.observe("cut", step)
        robot.act()
    robot.all_arrived()
    stopped = end(ros)
    assert (stopped.success, stopped.episodes, stopped.transitions) == (True, 2, 900)
    ros.probe.wait_for(lambda: len(sealed) == 2, "the episode is announced")
    assert sealed[1].truncated and not sealed[1].terminated
    _, stored = read_bag(stopped.path)
    assert stored.length == 899 and stored.truncated


@pytest.mark.parametrize(
    ("waited", "silence", "is_open", "enough"),
    [
        (4.9, 4.9, True, False),  # what was lost at the end of a burst may still be repaired
        (5.1, 5.1, True, True),
        (0.1, 0.1, False, False),
        (0.3, 0.3, False, True),  # nothing is open that could lack something
        (9.9, 0.0, True, False),
        (10.1, 0.0, True, True),  # messages go on, and none proves that all came: its publisher's clock is behind
        (10.1, 0.0, False, True),
    ],
)
def test_a_stop_waits_as_long_as_something_can_still_come_and_not_for_ever(
    waited: float, silence: float, is_open: bool, enough: bool
) -> None:
    assert has_waited_enough(waited, silence, is_open, patience=5.0) is enough


def test_a_lost_tick_cuts_the_episode_and_is_counted(ros: Ros, node: NodeProcess, sealed: list[Episode]) -> None:
    begin(ros)
    robot = Robot(ros)
    for step in range(10):
        if step == 6:
            robot.sequence += 1  # this observation never arrives
            continue
        robot.observe("gap", step)
        robot.act()
    robot.observe("gap", 10, truncated=True)
    message = ros.probe.wait_for(lambda: sealed and sealed[0], "the episode is sealed")
    assert message.lost == 1 and message.length == 5 and message.truncated
    assert "step 6" in message.message


def test_a_missing_last_command_does_not_hold_the_episode_back(
    ros: Ros,
    workspace: Path,
    sealed: list[Episode],
) -> None:
    start_node(ros, workspace, command_patience=0.1)
    begin(ros)
    robot = Robot(ros)
    for step in range(4):
        robot.observe("mute", step)
        if step < 3:
            robot.act()
    robot.observe("mute", 4, truncated=True)
    message = ros.probe.wait_for(lambda: sealed and sealed[0], "the episode is sealed all the same")
    assert message.length == 3 and message.lost >= 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_seals_the_open_episode(
    ros: Ros,
    node: NodeProcess,
    sealed: list[Episode],
    workspace: Path,
    number: int,
) -> None:
    begin(ros)
    robot = Robot(ros)
    robot.run("whole", 4)
    ros.probe.wait_for(lambda: sealed, "both topics are connected in both directions")
    for step in range(6):
        robot.observe("open", step)
        robot.act()
    robot.all_arrived()
    node.signal(number)
    assert node.wait(READY) == 0, node.log_tail()
    assert [(e.id, e.length, e.truncated) for e in read_bag(workspace / "bags" / "monday")] == [
        ("whole", 4, True), ("open", 5, True),
    ]  # fmt: skip


def test_a_killed_recorder_keeps_all_it_acknowledged(
    ros: Ros,
    node: NodeProcess,
    sealed: list[Episode],
    workspace: Path,
) -> None:
    begin(ros)
    robot = Robot(ros)
    robot.run("first", 5)
    robot.run("second", 5)
    ros.probe.wait_for(lambda: len(sealed) == 2, "both are acknowledged")
    robot.observe("third", 0)
    node.signal(signal.SIGKILL)
    node.wait(READY)
    assert [(e.id, e.digest) for e in read_bag(workspace / "bags" / "monday")] == [
        (e.episode_id, e.digest) for e in sealed
    ]


@pytest.mark.long
def test_no_acknowledged_episode_is_lost_by_kills_at_random_moments(tmp_path: Path) -> None:
    """A few of them, each node in the workspace of those before; benchmarks/recorder_kills.py does hundreds."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
    import recorder_kills

    outcomes = recorder_kills.run(KILLS, seed=3, folder=tmp_path)
    assert [(one.lost, one.damaged) for one in outcomes] == [(0, 0)] * KILLS
    assert all(one.acknowledged for one in outcomes) and any(one.recovered for one in outcomes)


def test_autostart_records_from_the_start_on(ros: Ros, workspace: Path, sealed: list[Episode]) -> None:
    start_node(ros, workspace, autostart=True, recorded_by="robot 7")
    Robot(ros).run("walk", 3)
    message = ros.probe.wait_for(lambda: sealed and sealed[0], "the episode is sealed")
    (bag,) = (workspace / "bags").iterdir()
    assert message.bag_id == bag.name
    assert "robot 7" in (bag / "metadata.yaml").read_text()


def test_autostart_goes_on_in_the_next_bag_after_so_many_episodes(
    ros: Ros, workspace: Path, sealed: list[Episode]
) -> None:
    start_node(ros, workspace, autostart=True, max_bag_episodes=2)
    robot = Robot(ros)
    for number in range(5):
        robot.run(f"walk-{number}", 3)
    ros.probe.wait_for(lambda: len(sealed) == 5, "all are sealed")
    stopped = end(ros)
    assert stopped.success and stopped.episodes == 1 and "in the last of 3 bags" in stopped.message
    bags = sorted((workspace / "bags").iterdir())  # named by the time
    assert [episode.id for bag in bags for episode in read_bag(bag)] == [f"walk-{number}" for number in range(5)]
    assert [episode.bag_id for episode in sealed] == [bags[number // 2].name for number in range(5)]
    assert begin(ros).success
    for number in range(5, 8):
        robot.run(f"walk-{number}", 3)
    assert end(ros).episodes == 3, "a bag with a name is one bag"


def test_autostart_waits_for_room_and_says_so(ros: Ros, workspace: Path, sealed: list[Episode]) -> None:
    health = ros.probe.record(DiagnosticArray, "/diagnostics", qos.REPORTS)
    workspace.mkdir()
    (workspace / "keys").touch()  # no place for a key, until it is made
    start_node(ros, workspace, autostart=True)
    ros.probe.wait_for(
        lambda: health and health[-1].status[0].level == DiagnosticStatus.ERROR
        and "recording cannot begin" in health[-1].status[0].message,
        "diagnostics tell why",
    )  # fmt: skip
    (workspace / "keys").unlink()
    ros.probe.wait_for(lambda: health[-1].status[0].message.startswith("recording bag-"), "recording has begun")
    Robot(ros).run("walk", 3)
    ros.probe.wait_for(lambda: sealed, "the episode is sealed")


@pytest.mark.parametrize("asks", ["stop", "start"])
def test_autostart_that_waits_gives_way_to_whoever_asks(ros: Ros, workspace: Path, asks: str) -> None:
    start_node(ros, workspace, autostart=True, min_free_space=100_000_000)
    refused = end(ros) if asks == "stop" else begin(ros)
    assert not refused.success and "nearly full" in refused.message
    assert ("It is not tried again" in refused.message) is (asks == "stop")
    if asks == "stop":
        assert "nearly full" not in end(ros).message
    assert not list((workspace / "bags").iterdir()), "nothing is left of what could not begin"


def test_a_full_disk_is_reported_and_does_not_end_the_recording(
    ros: Ros,
    node: NodeProcess,
    sealed: list[Episode],
    workspace: Path,
) -> None:
    begin(ros)
    robot = Robot(ros)
    robot.run("first", 3)
    ros.probe.wait_for(lambda: len(sealed) == 1, "the first is sealed")
    health = ros.probe.record(DiagnosticArray, "/diagnostics", qos.REPORTS)
    bag = workspace / "bags" / "monday"
    with unwritable(bag):
        robot.run("second", 3)
        failed = ros.probe.wait_for(lambda: len(sealed) == 2 and sealed[1], "the second has failed")
        assert failed.episode_id == "second" and not failed.digest
        assert str(bag) in failed.message
        ros.probe.wait_for(
            lambda: any(m.status[0].level == DiagnosticStatus.ERROR and str(bag) in m.status[0].message
                        for m in health),
            "diagnostics tell the error",
        )  # fmt: skip
    robot.run("third", 3)
    ros.probe.wait_for(lambda: len(sealed) == 3, "the third is sealed")
    stopped = end(ros)
    assert not stopped.success and stopped.episodes == 2 and "1 episode" in stopped.message
    assert [e.id for e in read_bag(bag)] == ["first", "third"]


class unwritable:
    """A folder that refuses new files, to root as well: its place is taken by a file meanwhile."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.aside = folder.with_name(folder.name + ".aside")

    def __enter__(self) -> None:
        self.folder.rename(self.aside)
        self.folder.touch(stat.S_IRUSR)

    def __exit__(self, *_: object) -> None:
        self.folder.unlink()
        self.aside.rename(self.folder)


@pytest.mark.parametrize(
    ("bag_id", "message"),
    [("../outside", "../outside"), ("taken", "is there already"), ("a/b", "a/b")],
)
def test_a_bad_bag_id_is_refused_with_its_value(
    ros: Ros,
    node: NodeProcess,
    workspace: Path,
    bag_id: str,
    message: str,
) -> None:
    (workspace / "bags" / "taken").mkdir(parents=True, exist_ok=True)
    response = begin(ros, bag_id)
    assert not response.success and message in response.message
    assert begin(ros, "good").success


def test_starting_twice_and_stopping_without_start_are_refused(ros: Ros, node: NodeProcess) -> None:
    assert "nothing is being recorded" in end(ros).message
    assert begin(ros, "one").success
    second = begin(ros, "two")
    assert not second.success and "'one'" in second.message
    assert end(ros).success
    assert not end(ros).success


def test_a_missing_workspace_parameter_ends_the_node_with_a_reason(ros: Ros) -> None:
    node = ros.runner.start(NAME)
    assert node.wait(READY) == 2
    assert "workspace" in node.log_tail()


def test_a_workspace_that_cannot_be_made_ends_the_node_with_a_reason(ros: Ros, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    node = ros.runner.start(NAME, parameters={"workspace": str(tmp_path / "file" / "robot")})
    assert node.wait(READY) == 2
    assert os.fspath(tmp_path / "file" / "robot") in node.log_tail()
