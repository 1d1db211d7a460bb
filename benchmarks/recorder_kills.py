"""Kills the recorder hard at random moments, and looks at what is left. Needs no ROS, only the message definitions.

    python benchmarks/recorder_kills.py --kills 200 --out docs/results/recorder_kills.md

Each time, a process records episodes with the code of dataset_recorder (assembler, journal, sealer, bag, signed
manifest), says on a pipe which episodes it has acknowledged, and is ended by SIGKILL. Then the bag is read: every
acknowledged episode must be in it with its digest, and the one that was open as far as it had been written.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from saferule_ros.dataset.episode import Episode
from saferule_ros.nodes.recording import Recording
from saferule_ros.nodes.sealer import Sealed
from saferule_ros.recording.bag_writer import BagWriter, SplitLimits, loop_topics
from saferule_ros.recording.definitions import installed_definition
from saferule_ros.recording.messages import ACTION_TYPE, OBSERVATION_TYPE, RawMessage
from saferule_ros.recording.reader import read_bag_content
from saferule_ros.signing import PrivateKey

OBSERVATION_SIZE, ACTION_SIZE = 12, 2
# Long and short ones, so that kills meet an open episode, sealing, and the change from one to the next.
LENGTHS = (7, 120, 31, 400, 3)
# Longest time until the kill [s]: some ten episodes.
LATEST_KILL = 0.35


@dataclass
class Outcome:
    """What one kill left."""

    acknowledged: int = 0
    lost: int = 0
    recovered_open: int = 0
    damaged: int = 0


def values(number: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Observations (T+1, O) and actions (T, A) of an episode, by its number."""
    rng = np.random.default_rng(number)
    return (
        rng.normal(size=(length + 1, OBSERVATION_SIZE)).astype(np.float32),
        rng.normal(size=(length, ACTION_SIZE)).astype(np.float32),
    )


def messages(number: int, length: int, first: int):
    """What the robot says in an episode, in order: is it an observation, and its CDR bytes."""
    store = get_typestore(Stores.ROS2_JAZZY)
    for name in (OBSERVATION_TYPE, ACTION_TYPE):
        text = installed_definition(name).text.split("=" * 80)[0]
        store.register(get_types_from_msg(text, name))
    header = store.types["std_msgs/msg/Header"](
        stamp=store.types["builtin_interfaces/msg/Time"](sec=first, nanosec=0), frame_id=""
    )
    observations, actions = values(number, length)
    for step in range(length + 1):
        observation = store.types[OBSERVATION_TYPE](
            header=header, sequence=first + step, episode_id=f"run-{number}", step=step, data=observations[step],
            reward=1.0, cost=0.0, terminated=False, truncated=step == length,
        )  # fmt: skip
        yield True, bytes(store.serialize_cdr(observation, OBSERVATION_TYPE))
        if step < length:
            action = store.types[ACTION_TYPE](
                header=header, sequence=first + step, observation_sequence=first + step, data=actions[step],
                policy_generation=1, policy_id="0123456789abcdef", fallback=False, fallback_reason="",
                inference_time=0.0,
            )  # fmt: skip
            yield False, bytes(store.serialize_cdr(action, ACTION_TYPE))


def prepare(episodes: int) -> list[tuple[bool, bytes]]:
    """Everything that is said, once for all kills."""
    said: list[tuple[bool, bytes]] = []
    first = 1
    for number in range(episodes):
        length = LENGTHS[number % len(LENGTHS)]
        said += messages(number, length, first)
        first += length + 1
    return said


def record(folder: Path, said: list[tuple[bool, bytes]], pipe: int) -> None:
    """The recorder: until it has recorded everything, or is killed."""

    def acknowledge(sealed: Sealed) -> None:
        episode = sealed.assembled.episode
        if episode is not None and not sealed.error:
            os.write(pipe, f"{episode.id} {episode.digest}\n".encode())

    writer = BagWriter(
        folder, loop_topics(), "kills", "jazzy", key=PrivateKey.generate(), limits=SplitLimits(size=20_000)
    )  # fmt: skip
    recording = Recording(writer, acknowledge)
    for is_observation, payload in said:
        raw = RawMessage("/observation" if is_observation else "/action", payload, time.time_ns())
        (recording.observation if is_observation else recording.action)(raw)
        # A thread that is given up the processor here and there: as in a node that waits for messages.
        time.sleep(0)
    recording.close()


def kill_once(folder: Path, said: list[tuple[bool, bytes]], delay: float) -> Outcome:
    """One recorder, killed after `delay` [s] from its first message on; what is left of its bag."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            record(folder, said, writing)
        finally:
            os._exit(0)
    os.close(writing)
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as pipe:
        lines = pipe.read().decode().split("\n")[:-1]
    return judge(folder, dict(line.split() for line in lines))


def judge(folder: Path, acknowledged: dict[str, str]) -> Outcome:
    """What is left of a bag."""
    if not (folder / "metadata.yaml").exists():
        return Outcome(len(acknowledged), lost=len(acknowledged))
    content = read_bag_content(folder)
    found = {episode.id: episode for episode in content.episodes}
    lost = [name for name, digest in acknowledged.items() if name not in found or found[name].digest != digest]
    damaged = [episode.id for episode in content.episodes if not is_true(episode)]
    return Outcome(len(acknowledged), len(lost), len(content.recovered_episodes), len(damaged))


def is_true(episode: Episode) -> bool:
    """Whether it is a beginning of what was said, truncated where it is cut."""
    number = int(episode.id.removeprefix("run-"))
    length = LENGTHS[number % len(LENGTHS)]
    observations, actions = values(number, length)
    return bool(
        episode.truncated
        and np.array_equal(episode.observations, observations[: episode.length + 1])
        and np.array_equal(episode.actions, actions[: episode.length])
    )


def run(kills: int, seed: int, folder: Path) -> Counter[str]:
    """So many kills at random moments; what they left, added up."""
    said = prepare(40)
    rng = random.Random(seed)
    total: Counter[str] = Counter()
    for number in range(kills):
        outcome = kill_once(folder / f"bag-{number}", said, rng.uniform(0.0, LATEST_KILL))
        total.update(vars(outcome))
        total["kills with an acknowledged episode"] += outcome.acknowledged > 0
        total["kills with a recovered episode"] += outcome.recovered_open > 0
    return total


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        total = run(options.kills, options.seed, Path(folder))
    rows = [
        ("kills", options.kills),
        ("episodes acknowledged before a kill", total["acknowledged"]),
        ("of these lost", total["lost"]),
        ("kills that left an open episode, recovered as far as written", total["kills with a recovered episode"]),
        ("episodes that are not a true beginning of what was said", total["damaged"]),
    ]
    table = "\n".join(["| what | how many |", "|:---|---:|", *(f"| {name} | {count} |" for name, count in rows)])
    print(table)
    if options.out is not None:
        options.out.write_text(
            "# SIGKILL while recording\n\n<!-- Written by benchmarks/recorder_kills.py; do not edit. -->\n\n"
            f"{table}\n\nCommand: `python benchmarks/recorder_kills.py --kills {options.kills} --seed {options.seed}`. "
            f"Kills at random moments of the first {LATEST_KILL:g} s.\n"
        )
    return 1 if total["lost"] or total["damaged"] or not total["acknowledged"] else 0


if __name__ == "__main__":
    sys.exit(main())
