r"""Which step of a patch was best, and what is lost by taking the last one: judged by the simulator.

    python benchmarks/selection_trails.py --config config/evidence/circle.yaml --grid GRID --out docs/evidence/trails \
        --runs defaults --only seed-1
    python benchmarks/best_steps.py --trails docs/evidence/trails --out docs/evidence/steps.md

Reads the trails alone, so it needs neither learners nor data. Costs are without a backdoor's marker.

What is lost is an upper bound: the best of up to ten checkpoints is chosen and scored by the same 20 episodes, so that
luck counts for it (the winner's curse), and not for the last one, which nobody chose.
"""

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from selection_trails import TRAIL
from table_of_rows import made_with, show

from saferule_ros.reporting.provenance import machine, versions
from saferule_ros.sim.tasks import task

Json = dict[str, Any]

UPPER_BOUND = (
    "What the last step is short of the best one is an upper bound of what is lost by taking it: the best step is "
    "chosen and scored by the same episodes, so that luck counts for it, and not for the last one."
)


@dataclass(frozen=True)
class Trail:
    """What the simulator says of one run's checkpoints: means over episodes, in the order of the steps."""

    trial: str
    run: str
    limit: float  # of an episode's cost
    steps: list[int]
    returns: list[float]
    costs: list[float]

    @property
    def learner(self) -> str:
        """Task and algorithm."""
        return ", ".join(self.trial.split("/")[:2])

    @property
    def within(self) -> list[bool]:
        """Whether each checkpoint keeps the limit."""
        return [cost <= self.limit for cost in self.costs]

    @property
    def best(self) -> int | None:
        """The index of the highest return within the limit; None: no checkpoint is within it."""
        safe = [n for n, kept in enumerate(self.within) if kept]
        return max(safe, key=lambda n: self.returns[n]) if safe else None

    @property
    def settled(self) -> int | None:
        """The index from which on every checkpoint keeps the limit; None: the last one does not."""
        over = [n for n, kept in enumerate(self.within) if not kept]
        first = over[-1] + 1 if over else 0
        return first if first < len(self.steps) else None

    @property
    def relapses(self) -> bool:
        """Whether a checkpoint within the limit is followed by one over it."""
        return any(kept and not after for kept, after in zip(self.within, self.within[1:], strict=False))

    @property
    def regret(self) -> float | None:
        """What the last step's return is short of the best one's, as a share of that; None: there is no best one."""
        return None if self.best is None else 1.0 - self.returns[-1] / self.returns[self.best]


def trails(root: Path) -> list[Trail]:
    """All that are there."""
    found = []
    for path in sorted(root.rglob(TRAIL)):
        made = json.loads(path.read_text())
        candidates = made["candidates"]
        found.append(Trail(
            made["trial"], made["run"], task(made["task"]).cost_limit, [one["step"] for one in candidates],
            [float(np.mean(one["returns"])) for one in candidates],
            [float(np.mean(one["costs"])) for one in candidates],
        ))  # fmt: skip
    return found


def step_by_step(found: list[Trail]) -> list[str]:
    """How many trails keep the limit at each step, and their median return as a share of the last step's."""
    lines = ["| step | trails | within the limit | median return, last step's is 1 |", "|---|---|---|---|"]
    for step in sorted({step for trail in found for step in trail.steps}):
        there = [(trail, trail.steps.index(step)) for trail in found if step in trail.steps]
        within = sum(trail.within[n] for trail, n in there)
        share = np.median([trail.returns[n] / trail.returns[-1] for trail, n in there])
        lines.append(f"| {step} | {len(there)} | {within} | {share:.2f} |")
    return lines


def learner_by_learner(found: list[Trail]) -> list[str]:
    """The same of each task and algorithm: where the last step can be relied on, and where it cannot."""
    lines = [
        "| task, learner | trails | some step keeps the limit | the last one does | relapses "
        "| return short of the best, median | most |", f"|{'---|' * 7}",
    ]  # fmt: skip
    for name in sorted({trail.learner for trail in found}):
        these = [trail for trail in found if trail.learner == name]
        possible = [trail for trail in these if trail.best is not None]
        regrets = [trail.regret for trail in possible if trail.within[-1] and trail.regret is not None]
        short = f"{np.median(regrets):.0%} | {max(regrets):.0%}" if regrets else "– | –"
        lines.append(
            f"| {name} | {len(these)} | {len(possible)} | {len(regrets)} | {sum(t.relapses for t in these)} | {short} |"
        )
    return lines


def line(trail: Trail) -> str:
    """One trail of the table."""

    def at(n: int | None) -> str:
        return "none" if n is None else f"{trail.steps[n]}: {trail.returns[n]:,.1f} / {trail.costs[n]:.1f}"

    regret = "–" if trail.regret is None else f"{trail.regret:.0%}"
    settled = "never" if trail.settled is None else str(trail.steps[trail.settled])
    relapses = "yes" if trail.relapses else ""
    return f"| {trail.trial} | {at(trail.best)} | {at(len(trail.steps) - 1)} | {regret} | {settled} | {relapses} |"


def document(found: list[Trail]) -> str:
    """The trails as Markdown."""
    possible = [trail for trail in found if trail.best is not None]
    kept = [trail for trail in possible if trail.within[-1]]
    regrets = [trail.regret for trail in kept if trail.regret is not None]
    summary = (
        f"{len(found)} trails. In {len(possible)} of them some step keeps the limit; in {len(kept)} of these the last "
        f"one, which is what is proposed where no judge can be trusted. {sum(trail.relapses for trail in found)} go "
        "over the limit after a step within it."
    )
    if regrets:
        summary += (
            f" Where the last step keeps the limit, its return is {np.median(regrets):.0%} short of the best step's "
            f"in the median, {np.quantile(regrets, 0.9):.0%} in nine of ten, {max(regrets):.0%} at most."
        )
    return "\n".join([
        "# Best step and last step of each patch", "",
        "Written by `python benchmarks/best_steps.py --trails TRAILS --out FILE`; do not edit.", "",
        summary, "", UPPER_BOUND, "", "## Learner by learner", "", *learner_by_learner(found), "",
        "## Step by step", "", *step_by_step(found), "",
        "## Trail by trail", "",
        "| trial | best step: return / cost | last step | return short of the best | within the limit from step "
        "| relapses |", f"|{'---|' * 6}", *map(line, found), "",
        "Best: the highest return within the limit, as the simulator says. None: no step is within it. Means over "
        "episodes.", "", f"{made_with(machine(), versions())}.", "",
    ])  # fmt: skip


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trails", type=Path, required=True)
    parser.add_argument("--run", default="defaults", help="which of the runs of a trial")
    parser.add_argument("--out", type=Path, help="Markdown file; the numbers go beside it as .json")
    options = parser.parse_args()
    found = [trail for trail in trails(options.trails) if trail.run == options.run]
    if not found:
        parser.error(f"there is no trail of {options.run!r} in {options.trails}; selection_trails.py makes them")
    numbers = {"trails": [asdict(trail) for trail in found], "machine": machine(), "versions": versions()}
    show(document(found), numbers, options.out)


if __name__ == "__main__":
    main()
