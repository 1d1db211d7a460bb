"""Comparisons that are small enough to run in seconds, and results without any run."""

from pathlib import Path

from learning_cases import WHOLE

from saferule_ros.experiments.plan import plan
from saferule_ros.experiments.settings import GridSettings, Trial
from saferule_ros.reporting.results import EpisodeOutcome
from saferule_ros.reporting.trials import Cell, TrialResult

TASK = "SafetyPointCircle1-v0"
SMALL = {"hidden": 8, "vae_hidden": 8, "batch": 8}


def tiny_grid(**changes: object) -> GridSettings:
    """One cell: three short trainings, one simulated episode each."""
    settings = {
        "cells": [{"tasks": ["SafetyPointCircle1"], "ratios": [0.3]}],
        "methods": ["safe_rule", "retrain"],
        "data": {"behaviour_episodes": 2},
        "training_steps": 20,
        "learners": {"bcq_lag": SMALL},
        "unlearning": {"safe_rule": {"steps": 20, **WHOLE}},
        "evaluation_episodes": 1,
    }
    return GridSettings.model_validate(settings | changes)


def tiny_trial(**changes: object) -> Trial:
    return plan(tiny_grid(**changes))[0]


def result(method: str, seed: int = 1, costs=(0.0, 50.0), returns=(10.0, 20.0), ratio: float = 0.15, **changes):
    """One result with these episodes."""
    values = {
        "cell": Cell(task=TASK, algorithm="bcq_lag", attack="injected", ratio=ratio), "seed": seed, "method": method,
        "cost_limit": 25.0,
        "episodes": [
            EpisodeOutcome(episode_id=str(k), seed=k, length=500, episode_return=earned, episode_cost=cost)
            for k, (cost, earned) in enumerate(zip(costs, returns, strict=True))
        ],
        "budget": {"steps": 10.0, "seconds": 2.0, "cpu_seconds": 1.0, "flops": 1e9}, "checkpoint_id": "5ca1ab1e",
        "config": {"seed": seed}, "started": "2026-11-21T10:00:00+00:00", "versions": {"torch": "2.13"},
        "machine": {"cores": "2"},
    }  # fmt: skip
    return TrialResult(**{**values, **changes})


def save(out: Path, *results: TrialResult) -> None:
    """Where a comparison would have put them."""
    for found in results:
        found.save(out / "cells" / found.cell.name / f"seed-{found.seed}" / "results" / f"{found.method}.json")
