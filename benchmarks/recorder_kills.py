"""Kills dataset_recorder hard at random moments while it records over DDS, and looks at what is left.

    saferule_ros$ make shell
    (…) $ python benchmarks/recorder_kills.py --kills 200 --results kills.jsonl --out docs/results/recorder_kills.md

Each time, the real node runs in a process of its own, in the workspace in which those before it were killed. This
process publishes episodes to it, notes which of them the node acknowledges (on its latched topic `episodes`, or in the
reply to `stop`, which is asked for before some of the kills), and ends it by SIGKILL. Then the bag is read as ingest
reads it: every acknowledged episode must be in it with its digest, and the open one as far as it had been written.

Every kill is drawn from the seed and its number, and written to --results at once: stopped, the same command goes on.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from recorded_run import is_true, prepare, stamped
from saferule_ros.msg import Action, Episode, Observation
from saferule_ros.srv import StartRecording, StopRecording

from saferule_ros.nodes import qos
from saferule_ros.nodes.runner import Runner
from saferule_ros.recording.reader import BagContent, read_bag_content
from saferule_ros.workspace import Workspace

NAME = "dataset_recorder"
# More than are said before the latest kill at the highest rate.
EPISODES = 40
# Before the kill is timed, an episode must come through: the topics are connected then.
HELLO = 30  # messages at a time: the first episode, and more
LATEST_KILL = 1.5  # [s] after the topics are connected
RATES = (300.0, 4000.0)  # messages per second: from the shortest episodes' in milliseconds to half of a long one
STOP_SHARE = 0.25  # of the kills come while, or after, the node is asked to stop recording
LATEST_AFTER_STOP = 0.1  # [s]
PATIENCE = 60.0  # for anything to happen at all [s]
# What was sent before the kill is here after so long without anything new [s].
QUIET = 0.05


@dataclass
class Outcome:
    """What one kill left.

    Attributes:
        number: which kill.
        acknowledged: episodes that the node had acknowledged.
        lost: of these; 0 or the node's promise is broken.
        recovered: open episodes that were recovered.
        damaged: episodes that are not a true beginning of what was said.
        stopped: the node had replied to `stop`.
        gap: from the newest tick that was kept to the kill [s]; None: nothing was being said.
    """

    number: int
    acknowledged: int = 0
    lost: int = 0
    recovered: int = 0
    damaged: int = 0
    stopped: bool = False
    gap: float | None = None


class Robot:
    """Publishes episodes and notes what the recorder says. New for each kill: its participant has never heard of those
    that were killed, for which DDS would wait."""

    def __init__(self, context: Context, said: list[tuple[bool, bytes]]) -> None:
        self._said = iter(said)
        self.node = rclpy.create_node("robot", context=context)
        self.sealed: list[Episode] = []
        self.newest = 0  # when the newest observation was published [ns]
        self._observations = self.node.create_publisher(Observation, "observation", qos.DATA)
        self._actions = self.node.create_publisher(Action, "action", qos.DATA)
        self.node.create_subscription(Episode, f"{NAME}/episodes", self.sealed.append, qos.EPISODES)
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self.node)

    def call(self, kind, verb: str, request):
        """Asks the recorder; returns a future."""
        client = self.node.create_client(kind, f"{NAME}/{verb}")
        assert client.wait_for_service(PATIENCE), verb
        return client.call_async(request)

    def until(self, condition, patience: float = PATIENCE) -> bool:
        """Listens until something is true."""
        end = time.monotonic() + patience
        while not condition() and time.monotonic() < end:
            self._executor.spin_once(timeout_sec=min(QUIET, max(0.0, end - time.monotonic())))
        return bool(condition())

    def connect(self) -> None:
        """Returns when an episode went all the way and its acknowledgement came back."""

        def counted() -> bool:
            return bool(self._observations.get_subscription_count() and self._actions.get_subscription_count())

        assert self.until(counted), "nobody listens"
        while not self.sealed:
            for _ in range(HELLO):
                self.say()
            self.until(lambda: self.sealed, QUIET)

    def say(self) -> bool:
        """One message; False: all was said."""
        is_observation, payload = next(self._said, (False, b""))
        if not payload:
            return False
        now = time.time_ns()
        (self._observations if is_observation else self._actions).publish(stamped(payload, now))
        self.newest = now if is_observation else self.newest
        return True

    def talk(self, rate: float, seconds: float) -> None:
        """Goes on with `rate` messages per second for so long."""
        began, spoken = time.monotonic(), 0
        while (passed := time.monotonic() - began) < seconds:
            while spoken < passed * rate and self.say():
                spoken += 1
            self._executor.spin_once(timeout_sec=0.001)

    def listen(self) -> None:
        """What the node said before it was killed arrives."""
        seen = -1
        while seen < len(self.sealed):
            seen = len(self.sealed)
            self.until(lambda: False, QUIET)


@contextmanager
def robot(said: list[tuple[bool, bytes]]) -> Iterator[Robot]:
    """See Robot."""
    context = Context()
    rclpy.init(context=context)
    made = Robot(context, said)
    try:
        yield made
    finally:
        made.node.destroy_node()
        context.try_shutdown()


def kill_once(runner: Runner, workspace: Path, said: list[tuple[bool, bytes]], number: int, seed: int) -> Outcome:
    """One recorder, killed; what is left of its bag."""
    rng = random.Random(f"{seed}-{number}")
    rate = RATES[0] * (RATES[1] / RATES[0]) ** rng.random()
    delay, asks_to_stop, after = (
        rng.uniform(0, LATEST_KILL),
        rng.random() < STOP_SHARE,
        rng.uniform(0, LATEST_AFTER_STOP),
    )
    process = runner.start(NAME, parameters={"workspace": str(workspace), "max_file_time": 1.0})
    runner.wait_ready(PATIENCE)
    with robot(said) as one:
        begun = one.call(StartRecording, "start", StartRecording.Request(bag_id=f"kill-{number}"))
        assert one.until(begun.done) and begun.result().success, begun.result()
        one.connect()
        one.talk(rate, delay)
        stopped = one.call(StopRecording, "stop", StopRecording.Request()) if asks_to_stop else None
        if stopped is not None:
            one.until(stopped.done, after)
        killed = time.time_ns()
        process.signal(signal.SIGKILL)
        assert process.wait(PATIENCE) == -signal.SIGKILL, process.log_tail()
        one.listen()
        acknowledged = {episode.episode_id: episode.digest for episode in one.sealed if episode.digest}
        reply = stopped.result() if stopped is not None and stopped.done() else None
    content = read_bag_content(Workspace(workspace).bag(f"kill-{number}"))
    outcome = judge(content, number, acknowledged, reply)
    ticks = [int(episode.stamps[-1]) for episode in content.episodes if episode.stamps is not None]
    if ticks and not asks_to_stop:
        outcome.gap = round((killed - max(ticks)) / 1e9, 4)
    return outcome


def judge(
    content: BagContent, number: int, acknowledged: dict[str, str], reply: StopRecording.Response | None
) -> Outcome:
    """What is left of a bag, beside what was promised about it."""
    found = {episode.id: episode for episode in content.episodes}
    lost = {name for name, digest in acknowledged.items() if name not in found or found[name].digest != digest}
    sealed = len(found) - len(content.recovered_episodes)
    promised = reply.episodes if reply is not None and reply.success else 0
    return Outcome(
        number, acknowledged=max(len(acknowledged), promised), lost=max(len(lost), promised - sealed),
        recovered=len(content.recovered_episodes), damaged=sum(not is_true(episode) for episode in content.episodes),
        stopped=bool(promised),
    )  # fmt: skip


def run(
    kills: int, seed: int, folder: Path, results: Path | None = None, seconds: float = float("inf")
) -> list[Outcome]:
    """So many kills at random moments, less those that `results` has already; ends early after so many seconds."""
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    known = results.read_text().splitlines() if results is not None and results.exists() else []
    outcomes = [Outcome(**json.loads(line)) for line in known]
    said = prepare(EPISODES)
    end = time.monotonic() + seconds
    with Runner(folder / "logs") as runner:
        for number in range(len(outcomes), kills):
            if time.monotonic() > end:
                break
            outcomes.append(kill_once(runner, folder / "robot", said, number, seed))
            if results is not None:
                with results.open("a") as file:
                    file.write(json.dumps(asdict(outcomes[-1])) + "\n")
    return outcomes


def table(outcomes: list[Outcome]) -> str:
    """The results in Markdown."""
    gaps = [outcome.gap for outcome in outcomes if outcome.gap is not None]
    rows = [
        ("kills", len(outcomes)),
        ("kills after which an acknowledged episode had to be there", sum(o.acknowledged > 0 for o in outcomes)),
        ("kills after the reply to `stop`", sum(o.stopped for o in outcomes)),
        ("episodes acknowledged before a kill", sum(o.acknowledged for o in outcomes)),
        ("of these lost", sum(o.lost for o in outcomes)),
        ("kills that left an open episode, recovered as far as written", sum(o.recovered > 0 for o in outcomes)),
        ("episodes that are not a true beginning of what was said", sum(o.damaged for o in outcomes)),
        ("from the newest tick that was kept to the kill, median", f"{median(gaps):.3f} s" if gaps else "-"),
        ("from the newest tick that was kept to the kill, longest", f"{max(gaps):.3f} s" if gaps else "-"),
    ]
    return "\n".join(["| what | how many |", "|:---|---:|", *(f"| {name} | {count} |" for name, count in rows)])


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--results", type=Path, default=None, help="one line for each kill; those in it are not repeated"
    )
    parser.add_argument(
        "--seconds", type=float, default=float("inf"), help="ends after so long; goes on with --results"
    )
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outcomes = run(options.kills, options.seed, Path(folder), options.results, options.seconds)
    print(table(outcomes))
    if options.out is not None and len(outcomes) >= options.kills:
        options.out.write_text(
            "# SIGKILL while recording\n\n<!-- Written by benchmarks/recorder_kills.py; do not edit. -->\n\n"
            f"{table(outcomes)}\n\nThe real node over DDS, restarted in the same workspace after each kill. Kills at "
            f"random moments of the first {LATEST_KILL:g} s, a quarter of them around the reply to `stop`; "
            f"{RATES[0]:.0f} to {RATES[1]:.0f} messages per second. Command: `python benchmarks/recorder_kills.py "
            f"--kills {options.kills} --seed {options.seed}`.\n"
        )
    return 1 if any(o.lost or o.damaged for o in outcomes) or not any(o.acknowledged for o in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
