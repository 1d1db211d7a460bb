"""Simulator, topics, bag, dataset: is what comes out what the simulator did? Needs the built package sourced.

    python benchmarks/round_trip.py --episodes 20 --out docs/results/round_trip.md

Scripted episodes run in lock-step through sim_bridge and dataset_recorder, over DDS; the bag is ingested; and each
episode of the dataset is compared, bit for bit, with the same episode run by the simulator alone in this process.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import rclpy
from saferule_ros.msg import Episode
from saferule_ros.srv import RunEpisodes, StartRecording, StopRecording

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.nodes import qos
from saferule_ros.nodes.runner import Runner
from saferule_ros.recording.ingest import ingest
from saferule_ros.signing import KeyFolder
from saferule_ros.sim.behaviour import demonstrate
from saferule_ros.sim.environment import SafetyEnvironment
from saferule_ros.workspace import Workspace

TASK = "SafetyPointCircle1"
DRIVER = "behaviour"
PATIENCE = 600.0  # [s] for all episodes together


def record(folder: Path, episodes: int, seed: int) -> Path:
    """Runs and records episodes over DDS; returns the bag's folder."""
    with Runner(folder / "logs") as runner:
        runner.start("sim_bridge", parameters={"task": TASK})
        runner.start("dataset_recorder", parameters={"workspace": str(folder)})
        runner.wait_ready(120.0)
        node = rclpy.create_node("round_trip")
        try:
            sealed: list[Episode] = []
            node.create_subscription(Episode, "dataset_recorder/episodes", sealed.append, qos.EPISODES)
            call(node, StartRecording, "dataset_recorder/start", StartRecording.Request(bag_id="trip"))
            request = RunEpisodes.Request(episodes=episodes, seed=seed, driver=DRIVER, mode="lock_step", label="trip")
            call(node, RunEpisodes, "sim_bridge/run_episodes", request)
            end = time.monotonic() + PATIENCE
            while len(sealed) < episodes and time.monotonic() < end:
                rclpy.spin_once(node, timeout_sec=0.1)
            call(node, StopRecording, "dataset_recorder/stop", StopRecording.Request())
        finally:
            node.destroy_node()
    return Workspace(folder).bag("trip")


def call(node, kind, name, request):
    """Calls a service that must not refuse."""
    client = node.create_client(kind, name)
    assert client.wait_for_service(60.0), name
    future = client.call_async(request)
    rclpy.spin_until_future_complete(node, future, timeout_sec=60.0)
    response = future.result()
    assert response is not None and getattr(response, "success", getattr(response, "accepted", False)), response
    node.destroy_client(client)


def differences(dataset: EpisodeDataset, seed: int) -> list[str]:
    """What is not as the simulator alone has it, to the bit."""
    environment = SafetyEnvironment(TASK)
    wrong = []
    for number in range(dataset.episodes):
        found = dataset.episode(number)
        true = demonstrate(environment, DRIVER, seed + number)
        for name in ("observations", "actions", "rewards", "costs"):
            one, other = (np.asarray(getattr(which, name), np.float32) for which in (found, true))
            if one.shape != other.shape or one.tobytes() != other.tobytes():
                wrong.append(f"{found.id}: {name}")
        if (found.terminated, found.truncated, found.lost) != (true.terminated, true.truncated, 0):
            wrong.append(f"{found.id}: end")
    environment.close()
    return wrong


def run(folder: Path, episodes: int, seed: int) -> tuple[EpisodeDataset, list[str]]:
    """The dataset, and everything in which it differs from the simulator."""
    bag = record(folder, episodes, seed)
    report = ingest([bag], folder / "dataset", trusted=KeyFolder(Workspace(folder).keys).trusted())
    dataset = EpisodeDataset.load(folder / "dataset")
    wrong = differences(dataset, seed)
    if not report.complete or dataset.episodes != episodes or report.bags[0].signed_by != "own":
        wrong.append(f"ingest: {report.to_dict()}")
    return dataset, wrong


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    rclpy.init()
    with tempfile.TemporaryDirectory() as folder:
        dataset, wrong = run(Path(folder), options.episodes, options.seed)
    rclpy.shutdown()
    text = (
        f"{dataset.episodes} episodes, {len(dataset)} transitions of {TASK}: "
        f"{'every number equal, to the bit' if not wrong else '; '.join(wrong)}."
    )
    print(text)
    if options.out is not None:
        options.out.write_text(
            "# Round trip\n\n<!-- Written by benchmarks/round_trip.py; do not edit. -->\n\n"
            f"Simulator → topics → bag → dataset, compared with the simulator alone. {text}\n\n"
            f"Command: `python benchmarks/round_trip.py --episodes {options.episodes} --seed {options.seed}`\n"
        )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
