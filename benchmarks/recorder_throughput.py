"""How many messages per second dataset_recorder takes without losing one. Needs the built package sourced.

    python benchmarks/recorder_throughput.py            # a table: offered rate, taken rate, lost ticks

Episodes of 1,000 steps (60 observations, 2 actions: a lidar-like robot) are published as serialized messages at a
fixed rate by this process, to a recorder in another one that syncs every episode to disk.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import rclpy
from rclpy.serialization import serialize_message
from saferule_ros.msg import Action, Episode, Observation
from saferule_ros.srv import StartRecording, StopRecording

from saferule_ros.nodes import qos
from saferule_ros.nodes.runner import Runner

OBSERVATION_SIZE, ACTION_SIZE, STEPS = 60, 2, 1000
# Published at once between two looks at the clock: a sleep is not shorter than about this many messages last.
BURST = 20
SETTLE_SECONDS = 20.0


def episode_bytes(number: int, first_sequence: int) -> list[tuple[bytes, bytes | None]]:
    """Serialized (observation, answer) of one episode; the last observation has no answer."""
    rng = np.random.default_rng(number)
    messages = []
    for step in range(STEPS + 1):
        sequence = first_sequence + step
        observation = Observation(
            sequence=sequence, episode_id=f"run-{number}", step=step, truncated=step == STEPS,
            data=rng.normal(size=OBSERVATION_SIZE).astype(np.float32),
        )  # fmt: skip
        action = Action(
            sequence=sequence, observation_sequence=sequence, policy_id="0123456789abcdef",
            data=rng.normal(size=ACTION_SIZE).astype(np.float32),
        )  # fmt: skip
        messages.append((serialize_message(observation), serialize_message(action) if step < STEPS else None))
    return messages


def measure(node, rate: float, episodes: int, bag_id: str, first: int) -> tuple[float, int, int, float]:
    """Publishes at `rate` [messages/s]; returns the rate achieved, lost ticks, episodes sealed, and time to settle."""
    sealed: list[Episode] = []
    listener = node.create_subscription(Episode, "dataset_recorder/episodes", sealed.append, qos.EPISODES)
    call(node, StartRecording, "start", StartRecording.Request(bag_id=bag_id))
    prepared = [episode_bytes(first + k, (first + k) * (STEPS + 1) + 1) for k in range(episodes)]
    pairs = [pair for episode in prepared for pair in episode]
    began = time.perf_counter()
    sent = 0
    for index, (observation, action) in enumerate(pairs):
        node.observations.publish(observation)
        sent += 1
        if action is not None:
            node.actions.publish(action)
            sent += 1
        if index % BURST == 0:
            ahead = sent / rate - (time.perf_counter() - began)
            if ahead > 0:
                time.sleep(ahead)
    took = time.perf_counter() - began
    mine = {f"run-{first + k}" for k in range(episodes)}
    end = time.perf_counter() + SETTLE_SECONDS
    while len(mine & {e.episode_id for e in sealed}) < episodes and time.perf_counter() < end:
        rclpy.spin_once(node, timeout_sec=0.01)
    settled = time.perf_counter() - began - took
    call(node, StopRecording, "stop", StopRecording.Request())
    node.destroy_subscription(listener)
    ours = [e for e in sealed if e.episode_id in mine]
    return sent / took, sum(e.lost for e in ours), len(ours), settled


def call(node, kind, name, request):
    """Calls a service of the recorder."""
    client = node.create_client(kind, f"dataset_recorder/{name}")
    assert client.wait_for_service(30.0)
    future = client.call_async(request)
    rclpy.spin_until_future_complete(node, future, timeout_sec=60.0)
    assert future.result().success, future.result().message
    node.destroy_client(client)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rates", type=float, nargs="+", default=[2000, 5000, 10000, 15000, 20000, 1e9])
    parser.add_argument("--episodes", type=int, default=10)
    options = parser.parse_args()
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    with tempfile.TemporaryDirectory() as folder, Runner(Path(folder) / "logs") as runner:
        runner.start("dataset_recorder", parameters={"workspace": f"{folder}/robot"})
        runner.wait_ready(60.0)
        rclpy.init()
        node = rclpy.create_node("load")
        node.observations = node.create_publisher(Observation, "observation", qos.DATA)
        node.actions = node.create_publisher(Action, "action", qos.DATA)
        while not (node.observations.get_subscription_count() and node.actions.get_subscription_count()):
            rclpy.spin_once(node, timeout_sec=0.05)
        print("offered/s  published/s  lost ticks  sealed  last seal after [s]")
        for number, rate in enumerate(options.rates):
            got, lost, sealed, settled = measure(
                node, rate, options.episodes, f"bag-{number}", (number + 1) * options.episodes
            )
            print(f"{rate:9.0f}  {got:11.0f}  {lost:10d}  {sealed:3d}/{options.episodes}  {settled:.2f}", flush=True)
        node.destroy_node()
        rclpy.shutdown()


if __name__ == "__main__":
    main()
