"""How much memory the recorder takes for episodes that do not end. Needs no ROS, only the message definitions.

    python benchmarks/recorder_memory.py --hours 0.5 1 2 --out docs/results/recorder_memory.md

For each length, a process of its own records one episode with the code of dataset_recorder (assembler, journal, sealer,
bag), as fast as it goes, and seals it. Peak memory is the operating system's count for that process (ru_maxrss).
"""

import argparse
import multiprocessing
import resource
import struct
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

from recorded_run import ACTION_SIZE, OBSERVATION_SIZE, prepare

from saferule_ros.nodes.recording import FLUSH_PERIOD, Recording
from saferule_ros.nodes.sealer import Sealed
from saferule_ros.recording.bag_writer import BagWriter, loop_topics
from saferule_ros.recording.definitions import installed_definition
from saferule_ros.recording.layout import Layout, layout_of
from saferule_ros.recording.message_types import parse_types
from saferule_ros.recording.messages import ACTION_TYPE, OBSERVATION_TYPE, RawMessage

RATE = 50  # ticks per second
MIB = 2**20


class Said:
    """The messages of one endless episode: those of a short one with other numbers in them."""

    def __init__(self) -> None:
        (_, observation), (_, action) = prepare(1)[:2]
        self._observation, self._action = bytearray(observation), bytearray(action)
        self._seen = _layout(observation, OBSERVATION_TYPE)
        self._done = _layout(action, ACTION_TYPE)

    def tick(self, step: int) -> tuple[bytes, bytes]:
        """Observation and command of a step."""
        for layout, payload, name, kind, value in (
            (self._seen, self._observation, "sequence", "<Q", step + 1),
            (self._seen, self._observation, "step", "<I", step),
            (self._done, self._action, "sequence", "<Q", step + 1),
            (self._done, self._action, "observation_sequence", "<Q", step + 1),
        ):
            struct.pack_into(kind, payload, layout.leaves[name].offset, value)
        return bytes(self._observation), bytes(self._action)


def _layout(payload: bytes, kind: str) -> Layout:
    return layout_of(payload, parse_types(kind, installed_definition(kind).text), kind)


def record(folder: str, ticks: int, pipe: Connection) -> None:
    """One episode of so many ticks; tells peak memory before and after [MiB], what was sealed, and most held."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sealed: list[Sealed] = []
    recording = Recording(BagWriter(Path(folder) / "bag", loop_topics(), "memory", "jazzy"), sealed.append)
    said, held = Said(), 0
    began = time.time_ns()
    for step in range(ticks):
        now = began + step * 10**9 // RATE
        observation, action = said.tick(step)
        recording.observation(RawMessage("/observation", observation, now))
        recording.action(RawMessage("/action", action, now))
        held = max(held, recording.held)
    recording.close()
    episode = sealed[0].assembled.episode
    length = episode.length if episode is not None and not sealed[0].error else 0
    pipe.send((before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, length, held))


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, nargs="+", default=[0.5, 1.0, 2.0])
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    lines = [
        "| one episode of | ticks sealed | bag | messages in memory, most | peak memory | before recording |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    print("\n".join(lines))
    context = multiprocessing.get_context("spawn")
    for hours in options.hours:
        with tempfile.TemporaryDirectory() as folder:
            here, there = context.Pipe()
            process = context.Process(target=record, args=(folder, round(hours * 3600 * RATE), there))
            process.start()
            before, after, length, held = here.recv()
            process.join()
            size = sum(path.stat().st_size for path in (Path(folder) / "bag").iterdir())
        lines.append(f"| {hours:g} h | {length} | {size / MIB:.0f} MiB | {held} | {after:.0f} MiB | {before:.0f} MiB |")
        print(lines[-1], flush=True)
    if options.out is not None:
        options.out.write_text(
            "# Memory of the recorder\n\n<!-- Written by benchmarks/recorder_memory.py; do not edit. -->\n\n"
            + "\n".join(lines)
            + f"\n\nOne episode at {RATE} Hz, {OBSERVATION_SIZE} numbers observed, {ACTION_SIZE} commanded, recorded "
            f"as fast as it goes and sealed; journal flushed every {FLUSH_PERIOD:g} s. Each in a process of its own.\n"
        )


if __name__ == "__main__":
    main()
