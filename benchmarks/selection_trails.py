"""Trails of patches, each checkpoint simulated: what rules that choose a checkpoint are judged on.

    python benchmarks/selection_trails.py --config config/ablation.yaml --grid GRID --out TRAILS

Every trial of the grid gives its poisoned learner, dataset and forget set, which are made where GRID lacks them. From
each of them several runs go out; some repair, some relapse, some never come right, as a rule can only be judged where
the checkpoints differ. What is there already is not made again. Without --config, the trials that GRID has.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from saferule_ros.experiments.places import TrialPlaces
from saferule_ros.experiments.plan import plan
from saferule_ros.experiments.preparation import Preparation, prepare
from saferule_ros.experiments.saying import Reporter, TrialProgress
from saferule_ros.experiments.settings import GridSettings
from saferule_ros.learning.checkpoint import load_checkpoint, save_checkpoint
from saferule_ros.learning.serving_policy import ServingPolicy
from saferule_ros.patching.unlearning import Unlearning, described
from saferule_ros.reporting.trials import CELLS
from saferule_ros.settings import load_settings
from saferule_ros.sim.environment import SafetyEnvironment
from saferule_ros.sim.rollout import episode_seed
from saferule_ros.unlearning.run import unlearn
from saferule_ros.workspace import Workspace

Json = dict[str, Any]

TRAIL = "trail.json"
CHECKPOINTS = "checkpoints"
EPISODES = 20


class Run(NamedTuple):
    """One way to unlearn, and how often its checkpoints are kept."""

    method: str
    settings: Json
    every: int


# With defaults, patches of these tasks hold nearly always; the others are for their failures.
RUNS = {
    "defaults": Run("safe_rule", {"steps": 1000}, 100),
    "return-steps-10": Run("safe_rule", {"steps": 1500, "return_steps": 10}, 150),
    "beta-fixed-0.5": Run("safe_rule", {"steps": 1000, "beta_rate": 0.0}, 100),
    "strong": Run(
        "safe_rule",
        {"steps": 1500, "fixed_targets": False, "beta_start": 10.0, "final_rate": 1.0, "caution": -1.0}, 150,
    ),
    "lambda-0.5": Run("safe_rule", {"steps": 600, "caution": -1.5}, 100),
    "fine-tune": Run("fine_tune", {"steps": 2000}, 200),
    "learning": Run("retrain", {"steps": 4000}, 400),  # no patch: from scratch, from the same keep data
}  # fmt: skip


class Trial(NamedTuple):
    """A trial of the grid whose learner is trained."""

    name: str  # TASK/ALGORITHM/ATTACK-RATIO/seed-N
    root: Path
    task: str
    seed: int


def trials(grid: Path) -> list[Trial]:
    """Those that are there."""
    found = []
    for path in sorted((grid / "cells").glob("*/*/*/seed-*/preparation.json")):
        prepared = Preparation.model_validate_json(path.read_bytes())
        if prepared.checkpoint_id:
            config = prepared.config
            name = str(path.parent.relative_to(grid / "cells"))
            found.append(Trial(name, path.parent, config["cell"]["task"], config["seed"]))
    return found


def planned(config: Path, grid: Path) -> Iterator[tuple[Trial, Callable[[], object]]]:
    """Those of a grid's file, and what makes the poisoned learner of each where it is not there."""

    def say(at: TrialProgress) -> None:
        print(f"{at.words:60.60}", end="\r", flush=True)

    for one in plan(load_settings(GridSettings, config)):
        places = TrialPlaces(grid, one)
        trial = Trial(str(places.root.relative_to(grid / CELLS)), places.root, one.cell.task, one.seed)
        yield trial, partial(prepare, one, places, Reporter(one.parts, say), lambda: False)


class Simulator:
    """Many episodes at once: one call of the policy for all of them."""

    def __init__(self, task_id: str, episodes: int) -> None:
        self._environments = [SafetyEnvironment(task_id) for _ in range(episodes)]

    def simulate(self, policy: ServingPolicy, seed: int) -> tuple[list[float], list[float]]:
        """Return and cost of each episode; the same starts as `saferule_ros.sim.evaluate` with that seed."""
        running = list(range(len(self._environments)))
        seen = [e.reset(episode_seed(seed, "evaluation", k)) for k, e in enumerate(self._environments)]
        returns, costs = np.zeros(len(seen)), np.zeros(len(seen))
        while running:
            with torch.no_grad():
                actions = policy(torch.from_numpy(np.stack([seen[k] for k in running]))).numpy()
            for action, k in zip(actions, list(running), strict=True):
                step = self._environments[k].step(action)
                seen[k] = step.observation
                returns[k] += step.reward
                costs[k] += step.cost
                if step.done:
                    running.remove(k)
        return returns.tolist(), costs.tolist()


def make(trial: Trial, name: str, simulator: Simulator, out: Path) -> Json:
    """Unlearns once, and simulates every checkpoint."""
    run = RUNS[name]
    prepared = Preparation.model_validate_json((trial.root / "preparation.json").read_bytes())
    began = time.process_time()
    unlearning = Unlearning(
        Workspace(trial.root / "workspace"), prepared.checkpoint_id, prepared.forget_set_id, run.method,
        lambda kind: kind.model_validate(run.settings), 0, trial.seed,
    )  # fmt: skip
    certified = unlearning.certified
    candidates: list[Json] = []

    def after_step(step: int) -> None:
        if step % run.every == 0:
            saved = save_checkpoint(certified.run.learner, out / CHECKPOINTS, unlearning.dataset.digest)
            certificate = described(certified.certify())
            candidates.append({"step": step, "checkpoint_id": saved, "certificate": certificate})

    unlearn(certified.run, after_step=after_step)
    seconds = time.process_time() - began
    for candidate in candidates:
        policy = ServingPolicy(load_checkpoint(out / CHECKPOINTS / candidate["checkpoint_id"])[0])
        candidate["returns"], candidate["costs"] = simulator.simulate(policy, trial.seed)
    return {
        "trial": trial.name, "task": trial.task, "seed": trial.seed, "poisoned_id": prepared.checkpoint_id,
        "run": name, "method": run.method, "settings": run.settings, "every": run.every, "cpu_seconds": seconds,
        "candidates": candidates,
    }  # fmt: skip


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, help="a grid's settings: its trials are prepared in GRID")
    parser.add_argument("--grid", type=Path, required=True, help="folder of the trials")
    parser.add_argument("--out", type=Path, required=True, help="folder of the trails")
    parser.add_argument("--only", default="", help="trials whose name contains this")
    parser.add_argument("--runs", nargs="+", choices=list(RUNS), default=list(RUNS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    simulators: dict[str, Simulator] = {}
    there = ((trial, lambda: None) for trial in trials(options.grid))
    for trial, make_learner in planned(options.config, options.grid) if options.config else there:
        if options.only not in trial.name:
            continue
        for name in options.runs:
            folder = options.out / trial.name / name
            if (folder / TRAIL).exists():
                continue
            make_learner()
            if trial.task not in simulators:
                simulators[trial.task] = Simulator(trial.task, EPISODES)
            made = make(trial, name, simulators[trial.task], folder)
            (folder / TRAIL).write_text(json.dumps(made, indent=1))
            costs = " ".join(f"{c['step']}:{np.mean(c['returns']):.0f}/{np.mean(c['costs']):.0f}"
                             for c in made["candidates"])  # fmt: skip
            print(f"{trial.name} {name} {costs}", flush=True)


if __name__ == "__main__":
    main()
