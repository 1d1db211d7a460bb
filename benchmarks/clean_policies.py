"""What the learners make of ordinary behaviour data: trained as `saferule train` does it, tried in the simulator.

    python benchmarks/clean_policies.py --dataset workspace/dataset --algorithm cpq --seeds 1 2 3
    python benchmarks/clean_policies.py --dataset workspace/dataset --algorithm cpq --set mask_temperature=0

The dataset is one of `saferule collect`. Prints one row of a Markdown table per seed as soon as it is there: mean
return, mean and median cost, share of episodes within the limit, processor time of the training.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
import yaml

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.learning.algorithms import ALGORITHMS, settings_from
from saferule_ros.learning.serving_policy import ServingPolicy
from saferule_ros.learning.settings import TaskLimits
from saferule_ros.learning.trainer import train
from saferule_ros.sim.evaluate import evaluate
from saferule_ros.sim.tasks import task

EVALUATION_SEED = 77


def row(options: argparse.Namespace, dataset: EpisodeDataset, seed: int) -> str:
    """Trains and tries one policy."""
    robot = task(options.task)
    changes = dict(change.split("=", 1) for change in options.set)
    settings = settings_from({"algorithm": options.algorithm} | {k: yaml.safe_load(v) for k, v in changes.items()})
    bounds = np.array(robot.action_low, np.float32), np.array(robot.action_high, np.float32)
    began = time.process_time()
    limits = TaskLimits(cost_limit=robot.cost_limit, horizon=robot.horizon)
    policy = ServingPolicy(train(dataset, limits, settings, bounds, options.steps, seed))
    seconds = time.process_time() - began

    def act(observation: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return policy(torch.as_tensor(observation).unsqueeze(0)).squeeze(0).numpy()

    results = evaluate(act, options.task, options.episodes, EVALUATION_SEED)
    returns, costs = (np.array([getattr(r, f"episode_{what}") for r in results]) for what in ("return", "cost"))
    within = (costs <= robot.cost_limit).mean()
    return (
        f"| {options.algorithm} | {' '.join(options.set) or 'defaults'} | {options.steps} | {seed} "
        f"| {returns.mean():.1f} | {costs.mean():.0f} | {np.median(costs):.0f} | {within:.0%} | {seconds:.0f} |"
    )


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--task", default="SafetyPointCircle1")
    parser.add_argument("--algorithm", choices=sorted(ALGORITHMS), required=True)
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="settings that are not the defaults")
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--episodes", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    dataset = EpisodeDataset.load(options.dataset)
    print("| algorithm | settings | steps | seed | return | cost | median | within | CPU-s |\n|" + "---|" * 9)
    for seed in options.seeds:
        print(row(options, dataset, seed), flush=True)


if __name__ == "__main__":
    main()
