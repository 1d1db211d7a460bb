"""How fast bags become datasets, against `rosbags` deserialisation in the same run; and how much memory that takes.

    python benchmarks/ingest_speed.py --out docs/results/ingest.md                 # the tables
    python benchmarks/ingest_speed.py --gigabytes 4 --out docs/results/ingest.md   # with a bag larger than the limit
    python benchmarks/ingest_speed.py --own docs/results/ingest_own.md             # our own messages

Bulk decoding is timed on messages that are in memory, so that both do the same. Peak memory is that of a process of its
own, as the operating system counts it (ru_maxrss).
"""

import argparse
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
from mcap.writer import CompressionType, Writer
from recorded_run import OBSERVATION_SIZE, prepare
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from saferule_ros.contract.model import Contract
from saferule_ros.contract.translation import ContractTranslation
from saferule_ros.recording.cdr import decode_action, decode_observation
from saferule_ros.recording.definitions import installed_definition
from saferule_ros.recording.ingest import ingest
from saferule_ros.recording.ingest_report import IngestReport
from saferule_ros.recording.layout import batches
from saferule_ros.recording.message_types import known_definition, parse_types
from saferule_ros.recording.messages import ACTION_TYPE, OBSERVATION_TYPE
from saferule_ros.recording.own_bulk import BulkDecoder

STORE = get_typestore(Stores.ROS2_JAZZY)
MESSAGES, REPEATS = 20_000, 5
BATCH = 1024  # as ingest takes them
JOINTS = 12
EPISODES = 40  # of our own messages: their ids, and so their layouts, differ in length
# A lidar of this many beams fills the disk quickly with messages that have one layout.
BEAMS = 2000
TICK = 10**7  # ns
MEMORY_LIMIT = 1.0  # GiB, of the process that ingests
TITLE = "# Ingest\n\n<!-- Written by benchmarks/ingest_speed.py; do not edit. -->\n\n"


def joint_states(count: int) -> list[bytes]:
    """12-joint JointStates."""
    rng = np.random.default_rng(0)
    types = STORE.types
    names = [f"joint_{number}" for number in range(JOINTS)]
    header = types["std_msgs/msg/Header"](types["builtin_interfaces/msg/Time"](sec=1, nanosec=2), "base")
    return [
        bytes(
            STORE.serialize_cdr(
                types["sensor_msgs/msg/JointState"](
                    header=header, name=names, position=rng.normal(size=JOINTS), velocity=rng.normal(size=JOINTS),
                    effort=rng.normal(size=JOINTS),
                ),
                "sensor_msgs/msg/JointState",
            )
        )
        for _ in range(count)
    ]  # fmt: skip


def fixed(kind: str, count: int) -> list[bytes]:
    """Messages of another type, all fields zero but for the arrays' lengths."""
    types = STORE.types
    header = types["std_msgs/msg/Header"](types["builtin_interfaces/msg/Time"](sec=1, nanosec=2), "base")
    if kind == "sensor_msgs/msg/LaserScan":
        message = types[kind](header, 0.0, 1.0, 0.1, 0.0, 0.1, 0.0, 9.0, np.ones(360, "f4"), np.zeros(0, "f4"))
    else:
        vector, quaternion = types["geometry_msgs/msg/Vector3"](1.0, 2.0, 3.0), types["geometry_msgs/msg/Quaternion"]
        nine = np.zeros(9)
        message = types[kind](header, quaternion(0.0, 0.0, 0.0, 1.0), nine, vector, nine, vector, nine)
    return [bytes(STORE.serialize_cdr(message, kind))] * count


def seconds(work: Callable[[], object]) -> float:
    """Median of some runs."""
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return median(times)


def compare(kind: str, payloads: list[bytes], paths: list[str]) -> tuple[float, float]:
    """Microseconds per message: rosbags' objects, and our columns."""
    types = parse_types(kind, known_definition(kind).text)

    def objects() -> None:
        for payload in payloads:
            STORE.deserialize_cdr(payload, kind)

    def columns() -> None:
        layout = None
        for begin in range(0, len(payloads), BATCH):
            for batch in batches(payloads[begin : begin + BATCH], types, kind, layout):
                assert batch.layout is not None
                layout = batch.layout
                for path in paths:
                    layout.column(batch.payloads, path).astype(np.float64)

    return seconds(objects) / len(payloads) * 1e6, seconds(columns) / len(payloads) * 1e6


def compare_own(kind: str, payloads: list[bytes]) -> tuple[float, float, float]:
    """Microseconds per message of our own: rosbags' objects, decoded one by one, and in bulk. To the same objects."""
    STORE.register(get_types_from_msg(installed_definition(kind).text.split("=" * 80)[0], kind))
    decode = decode_observation if kind == OBSERVATION_TYPE else decode_action

    def objects() -> None:
        for payload in payloads:
            STORE.deserialize_cdr(payload, kind)

    def one_by_one() -> None:
        for payload in payloads:
            decode(payload)

    def bulk() -> None:
        decoder = BulkDecoder(kind)
        for begin in range(0, len(payloads), BATCH):
            assert None not in decoder.decode(payloads[begin : begin + BATCH])

    times = [seconds(work) / len(payloads) * 1e6 for work in (objects, one_by_one, bulk)]
    return times[0], times[1], times[2]


def own_table() -> list[str]:
    """Our own messages, which become the objects that episodes are made of, whichever way they are decoded."""
    lines = [
        "| our own message | rosbags, one object each | one by one | in bulk | one by one / bulk | rosbags / bulk |",
        "|:---|---:|---:|---:|---:|---:|",
    ]
    said = prepare(EPISODES)
    said *= MESSAGES // len(said) + 1
    for name, kind in (("Observation", OBSERVATION_TYPE), ("Action", ACTION_TYPE)):
        own = [payload for is_observation, payload in said if is_observation == (kind == OBSERVATION_TYPE)]
        theirs, single, bulk = compare_own(kind, own)
        times = f"{theirs:.2f} µs | {single:.2f} µs | {bulk:.2f} µs"
        lines.append(f"| {name} | {times} | {single / bulk:.1f} | {theirs / bulk:.1f} |")
    return lines


def lidar_contract() -> Contract:
    """All beams are the observation; a velocity is the action."""
    return Contract.model_validate({
        "name": "lidar", "tick": {"source": "scan"},
        "sources": {"scan": {"topic": "/scan", "type": "sensor_msgs/msg/LaserScan", "fields": ["ranges"]}},
        "episode": {"max_steps": 500},
        "action": {"topic": "/cmd_vel", "type": "geometry_msgs/msg/Twist", "fields": ["linear.x", "angular.z"],
                   "low": [-1, -1], "high": [1, 1], "stop": [0, 0]},
    })  # fmt: skip


def write_large(path: Path, size: int) -> int:
    """A bag of scans and commands of about so many bytes; returns the number of messages."""
    types = STORE.types
    rng = np.random.default_rng(1)
    twist = types["geometry_msgs/msg/Twist"]
    vector = types["geometry_msgs/msg/Vector3"]
    ranges = rng.uniform(0.1, 9.0, BEAMS).astype(np.float32)
    count = 0
    with open(path, "wb") as file:
        writer = Writer(file, compression=CompressionType.NONE)
        writer.start(profile="ros2")
        channels = {}
        for topic, kind in (("/scan", "sensor_msgs/msg/LaserScan"), ("/cmd_vel", "geometry_msgs/msg/Twist")):
            schema = writer.register_schema(kind, "ros2msg", known_definition(kind).text.encode())
            channels[topic] = writer.register_channel(topic, "cdr", schema)
        stamp, header = types["builtin_interfaces/msg/Time"], types["std_msgs/msg/Header"]
        written = tick = 0
        while written < size:
            tick += 1
            now = 10**18 + tick * TICK
            ranges[tick % BEAMS] = tick % 97
            scan = types["sensor_msgs/msg/LaserScan"](
                header(stamp(now // 10**9, now % 10**9), "laser"), 0.0, 6.28, 0.003, 0.0, 0.01, 0.0, 9.0, ranges,
                np.zeros(0, np.float32),
            )  # fmt: skip
            said = bytes(STORE.serialize_cdr(scan, "sensor_msgs/msg/LaserScan"))
            command = twist(vector(0.5, 0.0, 0.0), vector(0.0, 0.0, tick % 7 / 7))
            moved = bytes(STORE.serialize_cdr(command, "geometry_msgs/msg/Twist"))
            writer.add_message(channels["/scan"], now, said, now)
            writer.add_message(channels["/cmd_vel"], now + 1000, moved, now + 1000)
            written, count = written + len(said) + len(moved), count + 2
        writer.finish()
    return count


def _ingest_measured(bag: Path, out: Path, pipe: object) -> None:
    began = time.perf_counter()
    report = ingest([bag], out, make_translation=partial(ContractTranslation, lidar_contract()))
    took = time.perf_counter() - began
    pipe.send((report, took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20))  # type: ignore[attr-defined]


def ingest_large(folder: Path, gigabytes: float) -> tuple[IngestReport, float, float, float]:
    """Report, seconds, peak memory [GiB] of the process, and the bag's size [GiB]."""
    bag = folder / "large.mcap"
    write_large(bag, int(gigabytes * 2**30))
    here, there = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_ingest_measured, args=(bag, folder / "data", there))
    process.start()
    report, took, peak = here.recv()
    process.join()
    return report, took, peak, bag.stat().st_size / 2**30


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=0.0, help="size of the large bag; 0: none")
    parser.add_argument("--folder", type=Path, default=None, help="where the large bag goes, thrice its size")
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--own", type=Path, default=None, help="only the table of our own messages, into this file")
    options = parser.parse_args()
    if options.own is not None:
        lines = own_table()
        print("\n".join(lines))
        options.own.write_text(
            f"{TITLE}Our own messages, {OBSERVATION_SIZE} numbers observed; time per message for what is already in "
            f"memory, to the objects that episodes are made of; median of {REPEATS} runs over {MESSAGES} messages.\n\n"
            + "\n".join(lines) + "\n"
        )  # fmt: skip
        return 0
    lines = ["| message | rosbags, one object each | columns, in bulk | ratio |", "|:---|---:|---:|---:|"]
    ratios = {}
    for name, kind, payloads, paths in (
        ("JointState, 12 joints", "sensor_msgs/msg/JointState", joint_states(MESSAGES),
         ["header.stamp.sec", "header.stamp.nanosec", "position", "velocity", "effort"]),
        ("Imu", "sensor_msgs/msg/Imu", fixed("sensor_msgs/msg/Imu", MESSAGES),
         ["header.stamp.sec", "header.stamp.nanosec", "orientation.x", "angular_velocity.z", "linear_acceleration.x"]),
        ("LaserScan, 360 beams", "sensor_msgs/msg/LaserScan", fixed("sensor_msgs/msg/LaserScan", MESSAGES),
         ["header.stamp.sec", "header.stamp.nanosec", "ranges"]),
    ):  # fmt: skip
        theirs, ours = compare(kind, payloads, paths)
        ratios[name] = theirs / ours
        lines.append(f"| {name} | {theirs:.2f} µs | {ours:.2f} µs | {theirs / ours:.1f} |")
    print("\n".join(lines), flush=True)
    if options.gigabytes:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            report, took, peak, size = ingest_large(Path(folder), options.gigabytes)
        rate = report.bags[0].messages / took
        lines += [
            "", "| bag | messages | transitions | time | messages per second | peak memory | status |",
            "|---:|---:|---:|---:|---:|---:|:---|",
            f"| {size:.2f} GiB | {report.bags[0].messages} | {report.transitions} | {took:.0f} s | {rate:.0f} | "
            f"{peak:.2f} GiB | {report.status} |",
        ]  # fmt: skip
        print("\n".join(lines[-3:]))
        if peak > MEMORY_LIMIT or not report.complete:
            return 1
    if options.out is not None:
        options.out.write_text(
            f"{TITLE}Time per message for what is already in memory, to the numbers of the fields that are read; "
            f"median of {REPEATS} runs over {MESSAGES} messages, {os.cpu_count()} cores.\n\n" + "\n".join(lines) + "\n"
        )
    return 0 if ratios["JointState, 12 joints"] >= 10 else 1


if __name__ == "__main__":
    sys.exit(main())
