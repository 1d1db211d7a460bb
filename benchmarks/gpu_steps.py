"""How long 5,000 steps take on a GPU, learning and unlearning, for every algorithm: captured, and one by one.

    python benchmarks/gpu_steps.py --out docs/results/gpu_steps.md

Paper size: batch 512, hidden 256-256, 60 observations, 2 actions. Steps one by one are timed for a tenth as many, and
scaled. Beside it the profile of steps one by one: which kernels take the device's time, and how much of it is idle.
The goal is 10 s for 5,000 steps.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from learning_step_time import SEED, Step, steps_to_time
from table_of_rows import made_with, show
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from saferule_ros.learning.algorithms import ALGORITHMS
from saferule_ros.learning.devices import check_device
from saferule_ros.reporting.provenance import machine, versions

STEPS = 5000
GOAL = 10.0  # seconds for STEPS
WARM_UP = 10  # what is made on first use, and the capture
PROFILED = 20
KERNELS = 8  # of the profile that are shown


def seconds_of(step: Step, count: int) -> float:
    """Wall time of so many steps, the device's work included."""
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(count):
        step()
    torch.cuda.synchronize()
    return time.perf_counter() - began


def profile_of(step: Step) -> dict[str, Any]:
    """The kernels that take most of the device's time, in microseconds of a step."""
    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as profiler:
        seconds_of(step, PROFILED)
    kernels = [
        event for event in profiler.key_averages()
        if event.device_type == DeviceType.CUDA and not event.is_user_annotation
    ]  # fmt: skip
    kernels.sort(key=lambda event: -event.self_device_time_total)
    busy = sum(event.self_device_time_total for event in kernels) / PROFILED
    return {
        "launches": round(sum(event.count for event in kernels) / PROFILED), "busy_us": busy,
        "kernels": {event.key[:80]: event.self_device_time_total / PROFILED for event in kernels[:KERNELS]},
    }  # fmt: skip


def measure(steps: int) -> list[dict[str, Any]]:
    """Times everything, one after the other."""
    one_by_one, captured = (
        {key: one.step for key, one in steps_to_time("cuda", captured=captured).items()} for captured in (False, True)
    )
    rows = []
    for name in ALGORITHMS:
        for verb in ("learning", "unlearning"):
            for timed in (one_by_one, captured):
                seconds_of(timed[name, verb], WARM_UP)
            rows.append({
                "algorithm": name, "step": verb, "captured_s": seconds_of(captured[name, verb], steps),
                "one_by_one_s": 10 * seconds_of(one_by_one[name, verb], steps // 10),
                "profile": profile_of(one_by_one[name, verb]),
            })  # fmt: skip
            print(f"{name} {verb}: {rows[-1]['captured_s']:.1f} s captured", flush=True)
    return rows


def table(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = [
        f"# Time of {results['steps']} steps on a GPU", "", f"`{results['command']}`", "",
        f"{results['device']}. Batch 512, hidden 256-256. Goal: at most {GOAL:.0f} s for {STEPS} steps.", "",
        "| algorithm | steps | captured, s | one by one, s | launches in a step | device busy, one by one |",
        "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for row in results["rows"]:
        of_step = row["profile"]
        lines.append(
            f"| {row['algorithm']} | {row['step']} | {row['captured_s']:.1f} | {row['one_by_one_s']:.1f} "
            f"| {of_step['launches']} | {1e-6 * of_step['busy_us'] * results['steps'] / row['one_by_one_s']:.0%} |"
        )
    for row in results["rows"]:
        kernels = "; ".join(f"`{name}` {spent:.0f}" for name, spent in row["profile"]["kernels"].items())
        lines += ["", f"{row['algorithm']}, {row['step']}, kernels in microseconds of a step: {kernels}"]
    where = made_with(results["machine"], results["versions"])
    return "\n".join([*lines, "", f"Seed {SEED}. {where}.", ""])


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--out", type=Path, help="Markdown file; the numbers go beside it as .json")
    options = parser.parse_args()
    check_device("cuda")
    results = {
        "command": "python benchmarks/gpu_steps.py", "steps": options.steps,
        "device": torch.cuda.get_device_name(), "rows": measure(options.steps), "machine": machine(),
        "versions": versions(),
    }  # fmt: skip
    show(table(results), results, options.out)


if __name__ == "__main__":
    main()
