"""robot_bridge as a process over DDS: what it observes live is what a bag of the same topics gives, to the bit."""
# ruff: noqa: F811  (a fixture and the arguments that ask for it)

import signal
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from contract_samples import ARM, DRIVE, JOINTS, write_bag
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from nav_msgs.msg import Odometry
from rclpy.serialization import serialize_message
from rclpy.time import Time
from ros_helpers import READY, Ros, ros  # noqa: F401
from rosgraph_msgs.msg import Clock
from safeguard_samples import safeguard_file
from saferule_ros.msg import Action, Observation
from sensor_msgs.msg import JointState, LaserScan
from std_msgs.msg import Bool, Float32MultiArray, Header
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from saferule_ros.contract.model import load_contract
from saferule_ros.contract.translation import ContractTranslation
from saferule_ros.nodes import qos
from saferule_ros.nodes.node_process import NodeProcess
from saferule_ros.recording.messages import RawMessage
from saferule_ros.recording.reader import read_bag_content

pytestmark = pytest.mark.ros

COMMANDS = "/arm_controller/joint_trajectory"
SECOND = 10**9


class Arm:
    """The robot: publishes joint states, and remembers everything that was said as a recorder would."""

    def __init__(self, ros: Ros, contract: Path) -> None:
        self.ros = ros
        self.node: NodeProcess = ros.runner.start("robot_bridge", parameters={"contract": str(contract)})
        ros.runner.wait_ready(READY)
        self.log: list[RawMessage] = []
        self.observations = ros.probe.record(Observation, "observation")
        self.commands = ros.probe.record(JointTrajectory, COMMANDS, qos.COMMANDS)
        self.states = ros.probe.publisher(JointState, "/joint_states")
        self.targets = ros.probe.publisher(Float32MultiArray, "/target")
        self.actions = ros.probe.publisher(Action, "action")
        ros.probe.wait_for(
            lambda: ros.probe.node.count_publishers("observation") and ros.probe.node.count_publishers(COMMANDS),
            "the bridge is there",
        )
        self.rng = np.random.default_rng()
        self.connect()

    def connect(self) -> None:
        """A message that is published before its reader has met the writer is lost: until one comes through, and then
        a fresh start."""

        def observed() -> bool:
            self.targets.publish(Float32MultiArray(data=np.zeros(7, np.float32)))
            self.publish_state(range(7))
            return bool(self.observations)

        self.ros.probe.wait_for(observed, "the topics are connected")
        self.act(self.observations[-1], np.zeros(7, np.float32))  # an episode begins with the last action of before
        assert self.ros.probe.call(Trigger, "robot_bridge/new_episode", Trigger.Request()).success
        time.sleep(0.2)  # what was said last has arrived
        for said in (self.log, self.observations, self.commands):
            said.clear()
        self.rng = np.random.default_rng(0)  # however often was tried: what is said from here on is always the same

    def say(self, publisher, topic: str, message) -> None:
        self.log.append(RawMessage(topic, serialize_message(message), time.time_ns()))
        publisher.publish(message)

    def state(self, order=range(7)) -> Observation:
        seen = len(self.observations)
        self.publish_state(order)
        return self.ros.probe.wait_for(
            lambda: len(self.observations) > seen and self.observations[-1], "it is observed"
        )

    def publish_state(self, order, spoilt: float = 0.0) -> None:
        message = JointState(
            name=[JOINTS[n] for n in order],
            position=self.rng.normal(size=7) + spoilt,
            velocity=self.rng.normal(size=7),
        )
        message.header.stamp = self.ros.probe.node.get_clock().now().to_msg()
        self.say(self.states, "/joint_states", message)

    def act(self, observation: Observation, data=None) -> JointTrajectory:
        data = self.rng.normal(size=7).astype(np.float32) if data is None else data
        seen = len(self.commands)
        self.actions.publish(Action(observation_sequence=observation.sequence, data=data))
        command = self.ros.probe.wait_for(lambda: len(self.commands) > seen and self.commands[-1], "it is commanded")
        self.log.append(RawMessage(COMMANDS, serialize_message(command), time.time_ns()))
        return command


@pytest.fixture
def contract(tmp_path: Path) -> Path:
    """The ready one without the imu, whose message would come in its own time, and never in silence."""
    content = yaml.safe_load(ARM.read_text())
    del content["sources"]["tool"]
    content["cost"] = "1 if max(abs(velocity)) > 1.5 else 0"
    content["sources"]["target"]["max_age"] = None
    content["action"]["timeout"] = 600.0
    path = tmp_path / "contract.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def guarded(contract: Path) -> None:
    """Its cost by a safeguard that lies beside it: fast for two ticks, or an action that is large, is unsafe."""
    safeguard = safeguard_file(
        (28, 7), {"fast": "max(abs(velocity)) > 0.7", "large": "abs(first) > 1"}, ("wild",),
        ("clear", "large", "wild"), ("clear", "fast", "quick"), ("quick", "not fast", "clear"),
        ("quick", "True", "wild", 2), ("wild", "not fast and not large", "clear"),
        inputs={"velocity": "observation[7:14]", "first": "action[0]"},
    )  # fmt: skip
    safeguard["states"]["wild"]["entry_cost"] = 2
    (contract.parent / "guard.yaml").write_text(yaml.safe_dump(safeguard))
    contract.write_text(yaml.safe_dump(yaml.safe_load(contract.read_text()) | {"cost": {"safeguard": "guard.yaml"}}))


def test_what_is_observed_live_is_what_a_bag_of_the_same_topics_gives_to_the_bit(
    ros: Ros, tmp_path: Path, contract: Path
) -> None:
    guarded(contract)
    arm = Arm(ros, contract)
    arm.say(arm.targets, "/target", Float32MultiArray(data=arm.rng.normal(size=7).astype(np.float32)))
    time.sleep(0.1)  # the target's time of reception must lie before the first stamp
    for step in range(40):
        arm.act(arm.state(arm.rng.permutation(7) if step % 3 else range(7)))
    arm.state()
    write_bag(tmp_path / "bag", arm.log)
    content = read_bag_content(tmp_path / "bag", ContractTranslation(load_contract(contract)))
    assert content.complete
    (episode,) = content.episodes
    name, token, begun = arm.observations[0].episode_id.split("-")
    assert episode.length == 40 and episode.id == f"{name}-bag-{begun}" and len(token) == 8
    live = np.stack([np.frombuffer(message.data, np.float32) for message in arm.observations])
    assert live.tobytes() == episode.observations.tobytes()
    assert [np.float32(message.reward) for message in arm.observations[1:]] == list(episode.rewards)
    assert [np.float32(message.cost) for message in arm.observations[1:]] == list(episode.costs)
    assert {0.0, 1.0, 3.0} == set(episode.costs), "of the safeguard: safe, unsafe, newly so"
    assert np.array_equal(live[1:, -7:], episode.actions), "the last action is part of the observation"
    limits = load_contract(contract).action
    assert all(limits.low[0] <= command.points[0].positions[0] <= limits.high[0] for command in arm.commands)
    assert arm.commands[0].joint_names == JOINTS and arm.commands[0].points[0].time_from_start.nanosec == 10**8


@pytest.mark.long
def test_diagnostics_count_the_ticks_that_cannot_be_made_as_ingest_does(
    ros: Ros, tmp_path: Path, contract: Path
) -> None:
    arm = Arm(ros, contract)
    health = ros.probe.record(DiagnosticArray, "/diagnostics", qos.REPORTS)

    def counted() -> dict[str, int]:
        """The counts of ticks in a statement that was made from now on."""
        seen = len(health)
        ros.probe.wait_for(lambda: len(health) > seen, "the bridge tells its health")
        values = {entry.key: entry.value for entry in health[-1].status[0].values}
        return {key: int(value) for key, value in values.items() if key.startswith("ticks, ")}

    before = counted()
    arm.say(arm.targets, "/target", Float32MultiArray(data=np.zeros(7, np.float32)))
    time.sleep(0.1)  # the target's time of reception must lie before the first stamp
    for _ in range(3):
        arm.act(arm.state())
    for bad in (np.nan, np.inf):
        arm.publish_state(range(7), bad)
    for _ in range(3):
        arm.act(arm.state())
    arm.state()
    after = counted()
    write_bag(tmp_path / "bag", arm.log)
    content = read_bag_content(tmp_path / "bag", ContractTranslation(load_contract(contract)))
    assert not content.complete and content.ticks.reasons == {"position: non-finite": 2}
    live = {key.removeprefix("ticks, "): count - before.get(key, 0) for key, count in after.items()}
    assert {key: count for key, count in live.items() if count} == {
        key: count for key, count in content.ticks.values.items() if count
    }


def test_bad_actions_silence_and_the_end_stop_the_robot_and_a_service_begins_an_episode(
    ros: Ros, contract: Path
) -> None:
    change(contract, stop=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
    arm = Arm(ros, contract)
    about = load_contract(contract).action
    stop = list(np.array(about.stop) + about.offset)
    arm.say(arm.targets, "/target", Float32MultiArray(data=np.zeros(7, np.float32)))
    time.sleep(0.1)
    first = arm.state()
    assert list(arm.act(first).points[0].positions) != stop
    for bad in (np.full(7, np.nan, np.float32), np.zeros(3, np.float32)):
        assert list(arm.act(arm.state(), bad).points[0].positions) == stop
    assert ros.probe.call(Trigger, "robot_bridge/new_episode", Trigger.Request()).success
    after = arm.state()
    assert after.step == 0 and after.episode_id != first.episode_id and after.sequence == first.sequence + 3
    arm.act(after)
    seen = len(arm.commands)
    arm.node.signal(signal.SIGTERM)
    assert arm.node.wait(READY) == 0, arm.node.log_tail()
    ros.probe.wait_for(lambda: len(arm.commands) > seen, "the last command came")
    assert list(arm.commands[-1].points[0].positions) == stop


def end(contract: Path, **rules) -> None:
    """Its episodes end so."""
    content = yaml.safe_load(contract.read_text())
    contract.write_text(yaml.safe_dump(content | {"episode": rules}))


def test_at_the_end_of_an_episode_stop_is_sent_at_once(ros: Ros, contract: Path) -> None:
    change(contract, stop=[0.1] * 7)
    end(contract, terminated="target[0] > 5")
    arm = Arm(ros, contract)
    arm.say(arm.targets, "/target", Float32MultiArray(data=np.zeros(7, np.float32)))
    time.sleep(0.1)
    arm.act(arm.state())
    commanded = len(arm.commands)
    arm.say(arm.targets, "/target", Float32MultiArray(data=np.full(7, 9.0, np.float32)))
    time.sleep(0.1)
    assert arm.state().terminated
    ros.probe.wait_for(lambda: len(arm.commands) > commanded, "stop is sent, though the timeout is 600 s")
    offset = load_contract(contract).action.offset
    assert list(arm.commands[-1].points[0].positions) == list(np.full(7, 0.1) + offset)
    assert not ros.probe.becomes(lambda: len(arm.commands) > commanded + 1, 0.5), "once"


@pytest.mark.long
def test_a_robot_that_goes_on_is_not_stopped_where_a_number_of_steps_cuts_its_episodes(
    ros: Ros, contract: Path
) -> None:
    change(contract, stop=[0.1] * 7)
    end(contract, max_steps=3)
    arm = Arm(ros, contract)
    arm.say(arm.targets, "/target", Float32MultiArray(data=np.zeros(7, np.float32)))
    time.sleep(0.1)
    for _ in range(3):
        arm.act(arm.state())
    commanded = len(arm.commands)
    assert arm.state().truncated
    assert not ros.probe.becomes(lambda: len(arm.commands) > commanded, 0.5)
    assert arm.state().step == 0


@pytest.mark.long
def test_another_node_that_commands_the_same_robot_is_told(ros: Ros, contract: Path) -> None:
    health = ros.probe.record(DiagnosticArray, "/diagnostics", qos.REPORTS)

    def told(text: str) -> bool:
        return any(text in status.message for said in list(health) for status in said.status)

    Arm(ros, contract)
    ros.probe.wait_for(lambda: len(health) > 2, "the bridge tells its health")
    assert not told("commanded by")
    second = {"name": "bridge_too", "namespace": "/second"}
    ros.runner.start("robot_bridge", parameters={"contract": str(contract)}, **second)
    ros.runner.wait_ready(READY)
    ros.probe.wait_for(lambda: told(f"{COMMANDS} is commanded by /second/bridge_too, too"), "the first one tells")
    ros.probe.wait_for(lambda: told(f"{COMMANDS} is commanded by /robot_bridge, too"), "the second one tells")


def test_a_bridge_that_never_commanded_sends_no_stop_either(ros: Ros, contract: Path) -> None:
    change(contract, stop=[0.1] * 7)
    commands = ros.probe.record(JointTrajectory, COMMANDS, qos.COMMANDS)
    bridge = ros.runner.start("robot_bridge", parameters={"contract": str(contract)})
    ros.runner.wait_ready(READY)
    ros.probe.wait_for(lambda: ros.probe.node.count_publishers(COMMANDS), "the bridge may command")
    bridge.signal(signal.SIGTERM)
    assert bridge.wait(READY) == 0, bridge.log_tail()
    assert not ros.probe.becomes(lambda: commands, 0.5)


def change(contract: Path, **action) -> None:
    """The file says these things of its action."""
    content = yaml.safe_load(contract.read_text())
    content["action"] |= action
    contract.write_text(yaml.safe_dump(content))


@pytest.mark.parametrize("stop", ["hold", [0.1] * 7])
@pytest.mark.long
def test_in_silence_stop_is_sent_once_or_the_last_command_is_held(
    ros: Ros, tmp_path: Path, contract: Path, stop: str | list[float]
) -> None:
    change(contract, timeout=0.2, stop=stop)
    arm = Arm(ros, contract)
    arm.say(arm.targets, "/target", Float32MultiArray(data=np.zeros(7, np.float32)))
    time.sleep(0.1)
    commanded = arm.act(arm.state()).points[0].positions
    seen = len(arm.commands)
    sent = ros.probe.wait_for(lambda: len(arm.commands) > seen and arm.commands[-1], "something is sent in silence")
    offset = load_contract(contract).action.offset
    assert list(sent.points[0].positions) == list(commanded if stop == "hold" else np.array(stop) + offset)
    assert not ros.probe.becomes(lambda: len(arm.commands) > seen + 1, 0.6)


@pytest.mark.long
def test_that_the_robot_does_something_else_than_the_policy_said_is_told_once(ros: Ros, contract: Path) -> None:
    arm = Arm(ros, contract)
    health = ros.probe.record(DiagnosticArray, "/diagnostics", qos.REPORTS)
    arm.say(arm.targets, "/target", Float32MultiArray(data=np.zeros(7, np.float32)))
    about, told = load_contract(contract).action, "the contract's low, high or max_rate held the command to"
    arm.act(arm.state(), np.zeros(7, np.float32))
    assert told not in arm.node.log_tail(), "this one was not held"
    for _ in range(3):
        command = arm.act(arm.state(), np.full(7, 9.0, np.float32))
    assert (np.array(command.points[0].positions) - about.offset <= about.high).all()

    def counted() -> bool:
        values = {entry.key: entry.value for entry in health[-1].status[0].values} if health else {}
        return values.get("held_actions") == "3"

    ros.probe.wait_for(counted, "diagnostics count them")
    assert "action[0] was 9, " in arm.node.log_tail() and arm.node.log_tail().count(told) == 1


class Drive:
    """The drive of the ready contract, as it is: odometry, a laser and a goal by the clock that it is given [ns]."""

    def __init__(self, ros: Ros) -> None:
        self.ros = ros
        self.observations = ros.probe.record(Observation, "observation")
        self.health = ros.probe.record(DiagnosticArray, "/diagnostics", qos.REPORTS)
        node = ros.probe.node
        self.odometry = node.create_publisher(Odometry, "/odom", qos.DATA)
        self.scans = node.create_publisher(LaserScan, "/scan", qos.DATA)
        self.goals = node.create_publisher(Float32MultiArray, "/goal_in_base", qos.DATA)
        self.clock = node.create_publisher(Clock, "/clock", qos.CLOCK)

    def start(self, **parameters) -> NodeProcess:
        """The bridge, ready."""
        bridge = self.ros.runner.start("robot_bridge", parameters={"contract": str(DRIVE), **parameters})
        self.ros.runner.wait_ready(READY)
        return bridge

    def say(self, now: int) -> None:
        """All its sensors once, at this time."""
        stamp = Time(nanoseconds=now).to_msg()
        self.clock.publish(Clock(clock=stamp))
        self.goals.publish(Float32MultiArray(data=[3.0, 4.0]))
        self.scans.publish(LaserScan(header=Header(stamp=stamp), ranges=[4.0] * 360))
        self.odometry.publish(Odometry(header=Header(stamp=stamp)))

    def told(self, text: str) -> bool:
        """Whether diagnostics warned of this."""
        found = [status for said in list(self.health) for status in said.status if status.level != DiagnosticStatus.OK]
        return any(text in status.message for status in found)


@pytest.mark.long
def test_after_a_simulator_began_anew_an_episode_does_too_and_diagnostics_tell(ros: Ros) -> None:
    bumper = ros.probe.node.create_publisher(Bool, "/bumper", qos.LATCHED)
    bumper.publish(Bool(data=False))
    drive = Drive(ros)
    bridge = drive.start(use_sim_time=True)
    now = 100 * SECOND

    def goes_on(count: int) -> bool:
        nonlocal now
        now += SECOND // 10
        drive.say(now)
        return len(drive.observations) >= count

    ros.probe.wait_for(lambda: goes_on(20), "it is observed")
    before, now = len(drive.observations), SECOND
    ros.probe.wait_for(lambda: goes_on(before + 10), "it is observed again")
    after = [one for one in drive.observations if Time.from_msg(one.header.stamp).nanoseconds < 100 * SECOND]
    assert len(after) >= 10 and after[0].step == 0
    assert after[0].episode_id not in {one.episode_id for one in drive.observations[:before]}
    # Of the bumper nothing was said again.
    ros.probe.wait_for(lambda: goes_on(0) and drive.told("the clock was set back by"), "diagnostics tell it")
    assert "the clock was set back by" in bridge.log_tail()


def test_what_was_published_once_before_the_bridge_began_is_heard_where_the_contract_says_latched(ros: Ros) -> None:
    bumper = ros.probe.node.create_publisher(Bool, "/bumper", qos.LATCHED)
    bumper.publish(Bool(data=False))
    drive = Drive(ros)
    drive.start()

    def observed() -> bool:
        drive.say(time.time_ns())
        return len(drive.observations) >= 5

    ros.probe.wait_for(observed, "it is observed")


@pytest.mark.long
def test_a_robot_that_stands_against_something_is_observed_in_no_episode_and_diagnostics_say_why(ros: Ros) -> None:
    bumper = ros.probe.node.create_publisher(Bool, "/bumper", qos.LATCHED)
    bumper.publish(Bool(data=True))
    drive = Drive(ros)
    drive.start()

    def said() -> bool:
        drive.say(time.time_ns())
        found = [status for one in list(drive.health) for status in one.status]
        return any(
            status.level == DiagnosticStatus.OK and "no episode begins: it would be over already" in status.message
            for status in found
        )

    ros.probe.wait_for(said, "diagnostics say it, and do not warn of it")
    assert not drive.observations
    bumper.publish(Bool(data=False))

    def observed() -> bool:
        drive.say(time.time_ns())
        return bool(drive.observations)

    ros.probe.wait_for(observed, "it is observed again")
    assert drive.observations[0].step == 0 and not drive.observations[0].terminated


def test_a_publisher_that_keeps_nothing_is_named_where_the_contract_says_latched(ros: Ros) -> None:
    bumper = ros.probe.node.create_publisher(Bool, "/bumper", qos.DATA)
    bumper.publish(Bool(data=False))
    drive = Drive(ros)
    bridge = drive.start()
    what = "/bumper: a publisher's DURABILITY does not match what the contract asks for"

    def told() -> bool:
        """Twice, and so not only in the moment when it was found."""
        drive.say(time.time_ns())
        return sum(what in status.message for said in list(drive.health) for status in said.status) >= 2

    ros.probe.wait_for(told, "diagnostics name it")
    assert what in bridge.log_tail() and not drive.observations


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda c: c["action"].update(fields=["points[0].place"]),
            "no trajectory_msgs/msg/JointTrajectory can be made",
        ),
        (lambda c: c["action"].update(type="none_msgs/msg/Thing"), "is not installed"),
        (
            lambda c: c["action"].update(
                type="std_msgs/msg/Int16MultiArray", fields=["data"], joints=[], constants={}, offset=0.0, scale=15000.0
            ),
            "int16 holds -32768 to 32767",
        ),
        (lambda c: c.update(tick={}), "give either source or rate"),
    ],
)
def test_a_contract_that_cannot_work_ends_the_node_with_a_reason(ros: Ros, contract: Path, spoil, message) -> None:
    content = yaml.safe_load(contract.read_text())
    spoil(content)
    contract.write_text(yaml.safe_dump(content))
    node = ros.runner.start("robot_bridge", parameters={"contract": str(contract)})
    assert node.wait(READY) == 2
    assert message in node.log_tail()
