"""How long one gradient step takes, learning and unlearning, for every algorithm; with FLOPs and a yardstick.

    git clone https://github.com/liuzuxin/OSRL /tmp/OSRL
    python benchmarks/learning_step_time.py --osrl /tmp/OSRL --out docs/results/step_time.md

Paper size: batch 512, hidden 256-256, 60 observations, 2 actions, one thread. Times are processor time, medians over
steps taken in turn (every algorithm one, then every algorithm the next), so that what else the machine does falls on
all alike. A matrix product is timed in the same turns: it says what the machine gave while this ran.

A patch computes the targets of its keep data once, each when its transition is first drawn. Here they are computed
before, and counted apart: a patch of so many steps (the default) that learns from so many transitions (as in
the demo: episodes x horizon) computes each at most once, and that share is added to each of its steps. What it
does once and does not hang on the networks' size, looking for suspects and weighing forget pairs, is left out.

Yardstick: OSRL's own step of learning, on the same data sizes and in the same turns (osrl_peer.py). Without a checkout
of it, what its steps took on one core that multiplied matrices at 54 GFLOP/s, scaled by this run's rate: 345 (BCQ-Lag),
254 (BEAR-Lag), 193 ms (CPQ). That flatters it, since no more than its products become faster with the rate.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from osrl_peer import commit_of, osrl_steps
from table_of_rows import made_with, show

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.episode import Episode
from saferule_ros.learning.algorithms import ALGORITHMS, make_learner, settings_from
from saferule_ros.learning.captured import CapturedSteps
from saferule_ros.learning.flops import FlopCounter
from saferule_ros.learning.learner import Learner
from saferule_ros.learning.replay import Replay, Units
from saferule_ros.learning.settings import TaskLimits
from saferule_ros.reporting.provenance import machine, versions
from saferule_ros.unlearning.critic_targets import FixedTargets
from saferule_ros.unlearning.methods import make_run, method_for

OBSERVATION_SIZE, ACTION_SIZE = 60, 2
PAPER_SIZE = {"hidden": 256, "batch": 512}
VAE_HIDDEN = 400  # OSRL's
OSRL_MS = {"bcq_lag": 345.0, "bear_lag": 254.0, "cpq": 193.0}
OSRL_GFLOPS = 54.0
# Goals, as shares of OSRL's time.
GOAL = {"learning": 1 / 3, "unlearning": 1 / 10}
MATMUL = 512  # side of the yardstick's matrices: a layer's size at this batch
SEED = 1
STEPS = method_for("safe_rule", ALGORITHMS["bcq_lag"]).settings().steps
KEPT = 200 * 500  # transitions: behaviour episodes of the demo, steps of SafetyPointCircle1's horizon
MANY = 100_000  # steps of a patch: more than are timed, so that its learning rate stays what it is at first

Step = Callable[[], Any]


def dataset(episodes: int, name: str) -> EpisodeDataset:
    """Random walks: a step's time does not depend on what is learned."""
    rng = np.random.default_rng(len(name))
    length = 200
    return EpisodeDataset.from_episodes(
        Episode(
            id=f"{name}-{number}", bag_id=name,
            observations=rng.normal(size=(length + 1, OBSERVATION_SIZE)).astype(np.float32),
            actions=rng.uniform(-1, 1, (length, ACTION_SIZE)).astype(np.float32),
            rewards=rng.uniform(size=length).astype(np.float32),
            costs=(rng.uniform(size=length) < 0.02).astype(np.float32), terminated=False, truncated=True,
        )
        for number in range(episodes)
    )  # fmt: skip


class Timed(NamedTuple):
    """What is timed of one algorithm, learning or unlearning."""

    step: Step
    target_ms: float = 0.0  # processor time of computing one transition's targets, where they are computed once


def steps_to_time(device: str = "cpu", captured: bool = True) -> dict[tuple[str, str], Timed]:
    """(algorithm, "learning" or "unlearning") to a function that takes one step.

    Args:
        captured: as the package takes them (see CapturedSteps), or else one by one.
    """
    keep, forget = dataset(40, "keep"), dataset(6, "forget")
    bounds = (np.full(ACTION_SIZE, -1.0, np.float32), np.full(ACTION_SIZE, 1.0, np.float32))
    limits = TaskLimits(cost_limit=25.0, horizon=200)
    found: dict[tuple[str, str], Timed] = {}
    for name in ALGORITHMS:
        values: dict[str, Any] = {"algorithm": name, **PAPER_SIZE}
        fields = type(settings_from({"algorithm": name})).model_fields
        # CPQ imitates at first, which costs less than learning.
        only = {"vae_hidden": VAE_HIDDEN, "imitation_steps": 0}
        settings = settings_from(values | {name: value for name, value in only.items() if name in fields})
        learner = make_learner(Units.of(keep, *bounds), limits, settings, SEED, device)
        found[name, "learning"] = Timed(taken(learning_step(learner, learner.replay(keep)), learner, captured))
        patched = make_learner(Units.of(keep, *bounds), limits, settings, SEED, device)
        settings_of_patch = method_for("safe_rule", type(patched)).settings(steps=MANY)
        run = make_run("safe_rule", patched, forget, keep, settings_of_patch, SEED)
        target_ms = milliseconds_per_target(run.targets, run.keep) if isinstance(run.targets, FixedTargets) else 0.0
        found[name, "unlearning"] = Timed(run.step if captured else run.take_step, target_ms)
    return found


def milliseconds_per_target(targets: FixedTargets, keep: Replay) -> float:
    """Processor time of one transition's targets: the median over batches. All are computed afterwards."""
    spent = []
    for rows in torch.arange(keep.size).split(PAPER_SIZE["batch"]):
        began = time.process_time()
        targets.at(rows.to(keep.all.rewards.device))
        spent.append(1e3 * (time.process_time() - began) / len(rows))
    targets.complete()
    return median(spent)


def learning_step(learner: Learner, replay: Replay) -> Step:
    """A step of learning, on a batch of its own."""
    return lambda: learner.update(replay.sample(learner.settings.batch, learner.generator), replay)


def taken(step: Step, learner: Learner, captured: bool) -> Step:
    """The step as the package takes it, or as it is."""
    steps = CapturedSteps(learner.device, [learner.generator])
    return (lambda: steps.take(learner.phase, step)) if captured else step


def measure(steps: int, warm_up: int, osrl: Path | None = None) -> dict[str, Any]:
    """Times everything in turns, OSRL's steps among it where there is a checkout of it."""
    timed = steps_to_time()
    peers = osrl_steps(osrl, OBSERVATION_SIZE, ACTION_SIZE, PAPER_SIZE["batch"], SEED) if osrl else {}
    flops = {}
    for key, one in timed.items():
        for _ in range(warm_up):
            one.step()
        with FlopCounter() as counter:
            one.step()
        flops[key] = counter.total
    left, right = torch.randn(2, MATMUL, MATMUL)
    turn: dict[Any, Step] = {key: one.step for key, one in timed.items()}
    turn |= {("osrl", name): step for name, step in peers.items()} | {"matmul": lambda: left @ right}
    for step in peers.values():
        for _ in range(warm_up):
            step()
    seconds: dict[Any, list[float]] = {key: [] for key in turn}
    for _ in range(steps):
        for key, step in turn.items():
            began = time.process_time()
            step()
            seconds[key].append(time.process_time() - began)
    gflops = 2 * MATMUL**3 / median(seconds["matmul"]) / 1e9
    rows = []
    for (name, verb), one in timed.items():
        yardstick = (
            1e3 * median(seconds["osrl", name]) if name in peers
            else OSRL_MS[name] * OSRL_GFLOPS / gflops if name in OSRL_MS else None
        )  # fmt: skip
        milliseconds = 1e3 * median(seconds[name, verb])
        with_targets = milliseconds + one.target_ms * KEPT / STEPS
        rows.append({
            "algorithm": name, "step": verb, "ms": milliseconds, "gflop": flops[name, verb] / 1e9,
            "share_of_peak": flops[name, verb] / 1e9 / (milliseconds / 1e3) / gflops,
            "osrl_ms_here": yardstick, "ratio": with_targets / yardstick if yardstick else None,
            "goal": GOAL[verb] if yardstick else None, "target_ms": one.target_ms, "with_targets_ms": with_targets,
        })  # fmt: skip
    found = {"matmul_gflops": gflops, "steps": steps, "seed": SEED, "rows": rows}
    return found | ({"osrl_commit": commit_of(osrl)} if osrl else {})


def table(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    yardstick = (
        f"OSRL's steps took turns with these (its commit {results['osrl_commit']})."
        if "osrl_commit" in results
        else "OSRL's steps were timed elsewhere; they are scaled by the rate."
    )
    lines = [
        "# Time of one gradient step", "", f"`{results['command']}`", "",
        f"Batch 512, hidden 256-256, {OBSERVATION_SIZE} observations, {ACTION_SIZE} actions, one thread, "
        f"median of {results['steps']} steps. This machine multiplied {MATMUL} x {MATMUL} matrices at "
        f"{results['matmul_gflops']:.0f} GFLOP/s in the same run. A patch computes the targets of its keep data once: "
        f"{KEPT:,} of them over {STEPS:,} steps. {yardstick}", "",
        "| algorithm | step | ms | GFLOP | share of the matmul rate | with its share of what is computed once, ms "
        "| OSRL's step here, ms | ratio | goal |",
        "|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for row in results["rows"]:
        osrl, ratio, goal = (
            ("-", "-", "-")
            if row["ratio"] is None
            else (f"{row['osrl_ms_here']:.0f}", f"{row['ratio']:.2f}", f"≤ {row['goal']:.2f}")
        )
        lines.append(
            f"| {row['algorithm']} | {row['step']} | {row['ms']:.1f} | {row['gflop']:.2f} "
            f"| {row['share_of_peak']:.0%} | {row['with_targets_ms']:.1f} | {osrl} | {ratio} | {goal} |"
        )
    where = made_with(results["machine"], results["versions"])
    return "\n".join([*lines, "", f"Seed {results['seed']}. {where}.", ""])


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--warm-up", type=int, default=5)
    parser.add_argument("--osrl", type=Path, help="checkout of OSRL, whose steps are timed as well")
    parser.add_argument("--out", type=Path, help="Markdown file; the numbers go beside it as .json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    command = "python benchmarks/learning_step_time.py" + (" --osrl OSRL" if options.osrl else "")
    results = measure(options.steps, options.warm_up, options.osrl) | {
        "command": command, "machine": machine(), "versions": versions(),
    }  # fmt: skip
    show(table(results), results, options.out)


if __name__ == "__main__":
    main()
