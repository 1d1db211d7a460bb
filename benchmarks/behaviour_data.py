"""What the behaviour drivers of each task drive: how many episodes are safe, how many are not, and their returns.

    python benchmarks/behaviour_data.py --workers 2 --out docs/results/behaviour_data.md

The episodes are those of `saferule collect TASK -n 240 --seed 1`. Learned drivers that are not in the cache are learned
first. With --out, rows are added to FILE and the .json beside it as they come; those that are there are not made again.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from table_of_rows import Row, TableOfRows, made_with

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.reporting.provenance import machine, versions
from saferule_ros.sim.behaviour import drivers_are_ready, prepare_drivers
from saferule_ros.sim.collect import collect
from saferule_ros.sim.tasks import full_id, task

TASKS = (
    "SafetyPointCircle1", "SafetyCarCircle1", "SafetyHalfCheetahVelocity", "SafetyAntVelocity", "SafetySwimmerVelocity",
)  # fmt: skip
# So many safe and so many unsafe episodes a dataset needs, for a learner to tell them apart.
ENOUGH = 80


def row(task_id: str, episodes: int, seed: int, workers: int) -> Row:
    """Collects one task's data and counts."""
    began = time.monotonic()
    learned = not drivers_are_ready(task_id)
    if learned:
        prepare_drivers(task_id, workers)
    learning = time.monotonic() - began
    dataset = EpisodeDataset.from_episodes(
        collect(task_id, episodes, seed, workers=workers, bag_id=f"behaviour-{seed}")
    )
    limit = task(task_id).cost_limit
    returns, costs = (np.array([getattr(r, f"episode_{what}") for r in dataset.records]) for what in ("return", "cost"))
    safe = costs <= limit
    return {
        "task": task_id, "episodes": episodes, "seed": seed, "transitions": len(dataset), "safe": int(safe.sum()),
        "unsafe": int((~safe).sum()), "lowest_return": float(returns.min()), "highest_return": float(returns.max()),
        "best_safe_return": float(returns[safe].max()) if safe.any() else None, "highest_cost": float(costs.max()),
        "learning_seconds": learning if learned else None, "seconds": time.monotonic() - began - learning,
        "digest": dataset.digest[:16],
    }  # fmt: skip


COLUMNS = (
    "task", "episodes", "transitions", "safe", "unsafe", "enough", "lowest return", "highest return",
    "best safe episode", "highest cost", "seconds", "digest",
)  # fmt: skip


def line(made: Row) -> str:
    """One row of the Markdown table."""
    best = "-" if made["best_safe_return"] is None else f"{made['best_safe_return']:.1f}"
    cells = (
        made["task"], made["episodes"], made["transitions"], made["safe"], made["unsafe"],
        "yes" if min(made["safe"], made["unsafe"]) >= ENOUGH else "**no**", f"{made['lowest_return']:.1f}",
        f"{made['highest_return']:.1f}", best, f"{made['highest_cost']:.0f}", f"{made['seconds']:.0f}",
        f"`{made['digest']}`",
    )  # fmt: skip
    return "| " + " | ".join(map(str, cells)) + " |"


def document(rows: list[Row]) -> str:
    """The rows with where they come from."""
    where = made_with(machine(), versions())
    return "\n".join([
        "# Behaviour data of each task", "",
        "Written by `python benchmarks/behaviour_data.py --out FILE`; do not edit.", "",
        f"Episodes of `saferule collect TASK -n {rows[0]['episodes']} --seed {rows[0]['seed']}`. Safe: cost within "
        f"the task's limit. Enough: at least {ENOUGH} of both.", "",
        f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}", *map(line, rows), "", f"{where}.", "",
    ])  # fmt: skip


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", nargs="+", default=list(TASKS))
    parser.add_argument("--episodes", type=int, default=240)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, help="Markdown file; the numbers go beside it as .json")
    options = parser.parse_args()
    table = TableOfRows(options.out, document)
    for name in options.task:
        identity = {"task": full_id(name), "episodes": options.episodes, "seed": options.seed}
        if table.has(identity):
            continue
        made = row(identity["task"], options.episodes, options.seed, options.workers)
        print(line(made), flush=True)
        table.add(made)


if __name__ == "__main__":
    main()
