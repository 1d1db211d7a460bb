"""Two robots' topics for tests of contracts: messages made by an encoder that is not ours (rosbags)."""

from pathlib import Path

import numpy as np
from rosbags.rosbag2 import Writer
from rosbags.typesys import Stores, get_typestore

from saferule_ros.contract.model import Contract, load_contract
from saferule_ros.recording.messages import RawMessage
from saferule_ros.recording.scan import TopicInfo

STORE = get_typestore(Stores.ROS2_JAZZY)
CONTRACTS = Path(__file__).parent.parent / "config" / "contracts"
DRIVE, ARM = CONTRACTS / "differential_drive.yaml", CONTRACTS / "arm.yaml"
START = 1_700_000_000 * 10**9
MS = 10**6  # ns

JOINTS = [f"joint_{number}" for number in range(1, 8)]


def contract(path: Path = DRIVE) -> Contract:
    return load_contract(path)


def imu_drive(**episode) -> Contract:
    """Ticks at odometry; the imu's readings around them come later, so that ticks wait."""
    return Contract.model_validate({
        "name": "slow", "tick": {"source": "odom"}, "episode": episode,
        "sources": {
            "odom": {"topic": "/odom", "type": TYPES["/odom"], "fields": ["twist.twist.linear.x"]},
            "imu": {"topic": "/wrist_imu", "type": TYPES["/wrist_imu"], "fields": ["linear_acceleration.x"],
                    "align": "interpolate"},
            "reset": {"topic": "/reset", "type": TYPES["/reset"], "observe": False},
        },
        "action": {"topic": "/cmd_vel", "type": TYPES["/cmd_vel"], "fields": ["linear.x"], "low": [-1.0],
                   "high": [1.0], "stop": [0.0]},
    })  # fmt: skip


def encoded(kind: str, **fields) -> bytes:
    return bytes(STORE.serialize_cdr(make(kind, **fields), kind))


def make(kind: str, **fields):
    """A message with these fields; the rest is zero and empty."""
    values = {}
    for name, about in STORE.get_msgdef(kind).fields:
        values[name] = fields[name] if name in fields else empty(about)
    return STORE.types[kind](**values)


def empty(about):
    node, inner = about
    if node.name == "BASE":
        return {"string": "", "bool": False}.get(inner[0], 0.0 if inner[0].startswith("float") else 0)
    if node.name == "NAME":
        return make(inner)
    (kind, base), size = inner
    if kind.name == "BASE" and base[0] != "string":
        return np.zeros(size if node.name == "ARRAY" else 0, base[0])
    return []


def header(time: int):
    stamp = STORE.types["builtin_interfaces/msg/Time"](sec=time // 10**9, nanosec=time % 10**9)
    return STORE.types["std_msgs/msg/Header"](stamp=stamp, frame_id="base")


def vector(x: float, y: float = 0.0, z: float = 0.0):
    return STORE.types["geometry_msgs/msg/Vector3"](x=x, y=y, z=z)


def odometry(time: int, forward: float, turn: float) -> bytes:
    twist = make("geometry_msgs/msg/Twist", linear=vector(forward), angular=vector(0.0, 0.0, turn))
    stamped = make("geometry_msgs/msg/TwistWithCovariance", twist=twist, covariance=np.zeros(36))
    pose = make("geometry_msgs/msg/PoseWithCovariance", covariance=np.zeros(36))
    return encoded("nav_msgs/msg/Odometry", header=header(time), child_frame_id="wheels", twist=stamped, pose=pose)


def scan(time: int, ranges: np.ndarray) -> bytes:
    return encoded("sensor_msgs/msg/LaserScan", header=header(time), ranges=ranges.astype(np.float32))


def twist(forward: float, turn: float) -> bytes:
    return encoded("geometry_msgs/msg/Twist", linear=vector(forward), angular=vector(0.0, 0.0, turn))


def floats(values) -> bytes:
    layout = make("std_msgs/msg/MultiArrayLayout")
    return encoded("std_msgs/msg/Float32MultiArray", layout=layout, data=np.array(values, np.float32))


def boolean(value: bool) -> bytes:
    return encoded("std_msgs/msg/Bool", data=value)


def joint_state(time: int, position, velocity, names=None) -> bytes:
    return encoded(
        "sensor_msgs/msg/JointState", header=header(time), name=list(names or JOINTS),
        position=np.array(position), velocity=np.array(velocity),
    )  # fmt: skip


def imu(time: int, acceleration) -> bytes:
    return encoded("sensor_msgs/msg/Imu", header=header(time), linear_acceleration=vector(*acceleration))


def trajectory(positions) -> bytes:
    point = make("trajectory_msgs/msg/JointTrajectoryPoint", positions=np.array(positions))
    return encoded("trajectory_msgs/msg/JointTrajectory", joint_names=list(JOINTS), points=[point])


def drive_stream(seed: int = 0, seconds: float = 6.0, start: int = START) -> list[RawMessage]:
    """Odometry at 50 Hz, scans at 8 Hz, a goal at 5 Hz, a bumper that is hit once, commands at about 10 Hz."""
    rng = np.random.default_rng(seed)
    events = [(0, "/bumper", boolean(False))]
    for k in range(int(seconds * 50)):
        time = k * 20 * MS
        events.append((time + 2 * MS, "/odom", odometry(start + time, rng.normal(), rng.normal())))
    for k in range(int(seconds * 8)):
        time = k * 125 * MS
        ranges = rng.uniform(0.2, 8.0, 360)
        ranges[rng.integers(0, 360, 40)] = np.inf
        events.append((time + 30 * MS, "/scan", scan(start + time, ranges)))
    for k in range(int(seconds * 5)):
        events.append((k * 200 * MS + MS, "/goal_in_base", floats(rng.normal(size=2) * 3)))
    for k in range(int(seconds * 10)):
        sent = k * 100 * MS + int(rng.integers(1, 9)) * MS
        events.append((sent, "/cmd_vel", twist(rng.uniform(-0.5, 0.5), rng.uniform(-1.2, 1.2))))
    events.append((int(seconds * 700) * MS, "/bumper", boolean(True)))
    events.append((int(seconds * 720) * MS, "/bumper", boolean(False)))
    return in_order(events, start)


def arm_stream(seed: int = 0, seconds: float = 3.0, start: int = START) -> list[RawMessage]:
    """Joint states at 50 Hz in an order that changes, an imu at 100 Hz, a target, a reset, and trajectories."""
    rng = np.random.default_rng(seed)
    events = [(0, "/target", floats(rng.normal(size=7)))]
    for k in range(int(seconds * 50)):
        time = k * 20 * MS + int(rng.integers(0, 3000)) * 1000
        order = list(rng.permutation(7)) if k % 10 == 0 else list(range(7))
        position, velocity = rng.normal(size=7), rng.normal(size=7)
        payload = joint_state(start + time, position[order], velocity[order], [JOINTS[n] for n in order])
        events.append((time + MS, "/joint_states", payload))
        events.append((time + 16 * MS, "/arm_controller/joint_trajectory", trajectory(rng.normal(size=7))))
    for k in range(int(seconds * 100) + 3):
        time = k * 10 * MS
        events.append((time + MS // 2, "/wrist_imu", imu(start + time, rng.normal(size=3))))
    for k in range(1, int(seconds) + 1):
        events.append((k * 1000 * MS, "/target", floats(rng.normal(size=7))))
    events.append((int(seconds * 500) * MS, "/reset", encoded("std_msgs/msg/Empty")))
    return in_order(events, start)


def in_order(events, start: int = START) -> list[RawMessage]:
    return [RawMessage(topic, data, start + time) for time, topic, data in sorted(events, key=lambda event: event[0])]


TYPES = {
    "/odom": "nav_msgs/msg/Odometry", "/scan": "sensor_msgs/msg/LaserScan", "/cmd_vel": "geometry_msgs/msg/Twist",
    "/goal_in_base": "std_msgs/msg/Float32MultiArray", "/bumper": "std_msgs/msg/Bool", "/reset": "std_msgs/msg/Empty",
    "/joint_states": "sensor_msgs/msg/JointState", "/wrist_imu": "sensor_msgs/msg/Imu",
    "/target": "std_msgs/msg/Float32MultiArray", "/chatter": "std_msgs/msg/String",
    "/arm_controller/joint_trajectory": "trajectory_msgs/msg/JointTrajectory",
}  # fmt: skip
TOPICS = {topic: TopicInfo(kind) for topic, kind in TYPES.items()}


def write_bag(folder: Path, messages: list[RawMessage], compression=None, **options) -> Path:
    """A bag by another writer."""
    bag = Writer(folder, version=9, **options)
    if compression:
        bag.set_compression(*compression)
    with bag as writer:
        topics = sorted({message.topic for message in messages})
        connections = {topic: writer.add_connection(topic, TYPES[topic], typestore=STORE) for topic in topics}
        for message in messages:
            writer.write(connections[message.topic], message.log_time, message.data)
    return folder
