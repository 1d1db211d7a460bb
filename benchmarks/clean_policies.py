"""What the learners make of ordinary behaviour data: trained as `saferule train` does it, tried in the simulator.

    saferule collect SafetyPointCircle1 -n 240 --seed 1 --workspace workspace
    python benchmarks/clean_policies.py --dataset workspace/dataset --out docs/results/clean_policies.md
    python benchmarks/clean_policies.py --dataset workspace/dataset --algorithm bcq_lag --set return_steps=1

    python benchmarks/clean_policies.py --dataset workspace/dataset --algorithm cloning
    python benchmarks/clean_policies.py --dataset workspace/dataset --algorithm cloning --unseen 0 1 2 3 4 5

"cloning" is what COptiDICE's actor makes of the data's best safe episodes alone, each weighing the same: what it could
come to if its weights were right. With --unseen it is blind to some observed values: what moves and accelerates now
gives away what the driver did a step ago, and an actor that goes on with that imitates well and drives badly.

Each row is one policy: mean return, mean and median cost, share of episodes within the limit, processor time of the
training. A policy counts as good where its mean cost is within the limit, and its mean return above half of that of
the data's best safe episode. With --out, rows are added to FILE and the .json beside it as they come; those that are
there already are not made again.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
import yaml
from table_of_rows import Row, TableOfRows, made_with

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.learning.algorithms import ALGORITHMS, settings_from
from saferule_ros.learning.copti_dice import CoptiDice
from saferule_ros.learning.replay import Units
from saferule_ros.learning.serving_policy import ServingPolicy
from saferule_ros.learning.settings import CoptiDiceSettings, TaskLimits
from saferule_ros.learning.trainer import train
from saferule_ros.reporting.provenance import machine, versions
from saferule_ros.sim.evaluate import evaluate
from saferule_ros.sim.tasks import task

EVALUATION_SEED = 77
# A policy has to earn this share of what the best safe episode of the data did.
SHARE_OF_BEST = 0.5
CLONING = "cloning"
CLONED_EPISODES = 40


def row(task_id: str, algorithm: str, changes: list[str], unseen: list[int], steps: int, seed: int, episodes: int,
        dataset: EpisodeDataset) -> Row:  # fmt: skip
    """Trains and tries one policy."""
    robot = task(task_id)
    parsed = dict(change.split("=", 1) for change in changes)
    # Of a clone the mode serves: it has no critics that could choose.
    fixed = {"algorithm": CoptiDice.NAME, "serving_candidates": 1} if algorithm == CLONING else {"algorithm": algorithm}
    settings = settings_from(fixed | {k: yaml.safe_load(v) for k, v in parsed.items()})
    bounds = np.array(robot.action_low, np.float32), np.array(robot.action_high, np.float32)
    began = time.process_time()
    limits = TaskLimits(cost_limit=robot.cost_limit, horizon=robot.horizon)
    if algorithm == CLONING:
        learner = clone_safe(dataset, limits, settings, bounds, unseen, steps, seed)
    else:
        learner = train(dataset, limits, settings, bounds, steps, seed)
    policy = ServingPolicy(learner)
    seconds = time.process_time() - began

    def act(observation: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return policy(torch.as_tensor(observation).unsqueeze(0)).squeeze(0).numpy()

    results = evaluate(act, task_id, episodes, EVALUATION_SEED)
    returns, costs = (np.array([getattr(r, f"episode_{what}") for r in results]) for what in ("return", "cost"))
    best = max(
        (record.episode_return for record in dataset.records if record.episode_cost <= robot.cost_limit),
        default=float("inf"),
    )
    return {
        "task": task_id, "dataset": dataset.digest[:16], "algorithm": algorithm, "settings": changes,
        "unseen": unseen, "steps": steps, "seed": seed, "episodes": episodes,
        "return": float(returns.mean()), "cost": float(costs.mean()),
        "median_cost": float(np.median(costs)), "within": float((costs <= robot.cost_limit).mean()),
        "cpu_seconds": seconds, "best_safe_return": best,
        "good": bool(costs.mean() <= robot.cost_limit and returns.mean() >= SHARE_OF_BEST * best),
    }  # fmt: skip


def clone_safe(dataset: EpisodeDataset, limits: TaskLimits, settings: CoptiDiceSettings,
               bounds: tuple[np.ndarray, np.ndarray], unseen: list[int], steps: int,
               seed: int) -> CoptiDice:  # fmt: skip
    """COptiDICE with an actor that imitated the best safe episodes, and nothing else learned."""
    safe = [index for index, record in enumerate(dataset.records) if record.episode_cost <= limits.cost_limit]
    best = sorted(safe, key=lambda index: dataset.records[index].episode_return)[-CLONED_EPISODES:]
    learner = CoptiDice(Units.of(dataset, *bounds), limits, settings, seed)
    replay = learner.replay(EpisodeDataset.from_episodes(dataset.episode(index) for index in best))
    from_observation = learner.actor.body[0].weight  # (hidden, O)
    seen = torch.ones(from_observation.shape[1])
    seen[unseen] = 0.0
    from_observation.data *= seen
    from_observation.register_hook(lambda slope: slope * seen)
    for _ in range(steps):
        batch = replay.sample(settings.batch, learner.generator)
        learner.descend("actor", learner.cloning_loss(batch, torch.ones(len(batch.rewards))))
    return learner


IDENTITY = ("task", "dataset", "algorithm", "settings", "unseen", "steps", "seed", "episodes")


def line(made: Row) -> str:
    """One row of the Markdown table."""
    blind = [f"blind to {', '.join(map(str, made['unseen']))}"] if made["unseen"] else []
    how = " ".join([*made["settings"], *blind]) or "defaults"
    return (
        f"| {made['task']} | {made['algorithm']} | {how} | {made['steps']} | {made['seed']} "
        f"| {made['return']:.1f} | {made['best_safe_return']:.1f} | {made['cost']:.1f} "
        f"| {made['median_cost']:.0f} | {made['within']:.0%} | {'yes' if made['good'] else '**no**'} "
        f"| {made['cpu_seconds']:.0f} |"
    )


COLUMNS = (
    "task", "algorithm", "settings", "steps", "seed", "return", "best safe episode", "cost", "median", "within limit",
    "good", "CPU seconds",
)  # fmt: skip
HEAD = f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}"


def document(rows: list[Row]) -> str:
    """The rows with where they come from."""
    where = made_with(machine(), versions())
    data = ", ".join(sorted({f"{made['task']}: `{made['dataset']}`" for made in rows}))
    ordered = sorted(rows, key=lambda made: json.dumps([made[key] for key in IDENTITY]))
    return "\n".join([
        "# What the learners make of ordinary behaviour data", "",
        "Written by `python benchmarks/clean_policies.py --dataset DATASET --out FILE`; do not edit.", "",
        f"Means over simulated episodes that are the same for all (seed {EVALUATION_SEED}). Good: mean cost within the "
        f"limit, and mean return above {SHARE_OF_BEST:.0%} of that of the data's best safe episode. Cloning: "
        f"COptiDICE's actor on the {CLONED_EPISODES} best safe episodes alone, all weighing the same.", "",
        HEAD, *map(line, ordered), "", f"Datasets: {data}. {where}.", "",
    ])  # fmt: skip


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--task", default="SafetyPointCircle1")
    parser.add_argument("--algorithm", nargs="+", choices=[*sorted(ALGORITHMS), CLONING], default=sorted(ALGORITHMS))
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="settings that are not the defaults")
    parser.add_argument("--unseen", type=int, nargs="*", default=[], help="observed values that cloning does not see")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--out", type=Path, help="Markdown file; the numbers go beside it as .json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    dataset = EpisodeDataset.load(options.dataset)
    table = TableOfRows(options.out, document)
    print(HEAD, flush=True)
    for seed in options.seeds:
        for algorithm in options.algorithm:
            how = (algorithm, options.set, options.unseen, options.steps, seed, options.episodes)
            if table.has(dict(zip(IDENTITY, (options.task, dataset.digest[:16], *how), strict=True))):
                continue
            made = row(options.task, *how, dataset)
            print(line(made), flush=True)
            table.add(made)


if __name__ == "__main__":
    main()
