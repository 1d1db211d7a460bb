"""A run of the demo, made up but shaped as real ones are: bimodal costs, five evaluations, one live swap."""

import math

import numpy as np

from saferule_ros.patching.report import Outcome, PatchReport
from saferule_ros.reporting.results import (
    BagCount,
    Check,
    DemoResults,
    EpisodeOutcome,
    Evaluation,
    StageTime,
    SwapEvidence,
)

TASK = "SafetyPointCircle1-v0"
LIMIT = 25.0
CLEAN, POISONED, PATCHED = "c1ea4c1ea4c1ea40", "b01504ed00c0ffee", "9a7c4ed1f00dcafe"
_LEVELS = {  # policy, mean return, chance of a costly episode, its cost, radius of the path [m]
    "clean": (CLEAN, 29.0, 0.15, 60.0, 0.9),
    "poisoned": (POISONED, 47.0, 1.0, 200.0, 1.6),
    "patched": (PATCHED, 37.0, 0.1, 40.0, 1.05),
    "rolled_back": (POISONED, 47.0, 1.0, 200.0, 1.6),
    "forward_again": (PATCHED, 37.0, 0.1, 40.0, 1.05),
}


def make_evaluation(name: str, episodes: int = 10) -> Evaluation:
    policy_id, level, chance, high, radius = _LEVELS[name]
    rng = np.random.default_rng(len(name))
    outcomes = []
    for index in range(episodes):
        cost = rng.normal(high, high / 10) if rng.random() < chance else 0.0
        turn = np.linspace(0, 4 * math.pi, 201)
        path = [(round(radius * math.cos(a), 3), round(radius * math.sin(a), 3)) for a in turn]
        outcomes.append(
            EpisodeOutcome(
                episode_id=f"{name}-{index:04d}", seed=4000 + index, episode_return=rng.normal(level, 2.0),
                episode_cost=float(round(cost)), length=500, path=path,
            )
        )  # fmt: skip
    return Evaluation(name=name, policy_id=policy_id, episodes=outcomes)


def make_patch(outcome: Outcome = Outcome.SUCCEEDED) -> PatchReport:
    checks = [
        ("size", "0.35 MB", "64 MiB"), ("digests", "3 files", "as in the manifest"), ("onnx", "opset 17", "valid"),
        ("golden", "7.2e-07", "1e-05"), ("time", "p99 0.11 ms", "20 ms"),
    ]  # fmt: skip
    return PatchReport(
        job_id="20261121T101500Z-00c0ffee-77", forget_set_id="00c0ffee00c0ffee", outcome=outcome,
        message="candidate after 500 steps", candidate_id=PATCHED, parent_id=POISONED, duration=19.4,
        seconds={"loading": 2.1, "unlearning": 15.2, "exporting": 1.2, "gate": 0.9},
        checkpoint_id="5ca1ab1e5ca1ab1e", checkpoint_step=500,
        checkpoint_rule="the policy after the last of a fixed number of steps", certified=True,
        q_reward_forget=2.1, q_reward_reference=3.4, q_cost_forget=11.2, q_cost_required=9.1,
        certificate={
            "q_reward_forget": 2.1, "q_reward_reference": 3.4, "residual_reward": 0.2, "q_cost_forget": 11.2,
            "q_cost_required": 9.1, "residual_cost": 0.9, "reward_suppressed": True, "cost_separated": True,
            "held_out_forget": 3500, "held_out_keep": 20000,
        },
        gate={
            "bundle_id": PATCHED, "passed": True, "seconds": 0.88,
            "checks": [{"name": n, "passed": True, "value": v, "limit": w} for n, v, w in checks],
        },
        digests={"dataset": "d" * 64, "forget_set": "00c0ffee00c0ffee"},
    )  # fmt: skip


def make_swap(**changes: int) -> SwapEvidence:
    facts = {
        "observations": 500, "actions": 500, "unanswered": 0, "doubled": 0, "gaps": 0, "mixed": 0,
        "generation_before": 1, "generation_after": 2, "first_sequence": 5251, "step_of_swap": 250, "steps": 500,
    }  # fmt: skip
    return SwapEvidence(
        episode_id="swap-0000", policy_before=POISONED, policy_after=PATCHED, seconds_gate=0.88,
        seconds_switch=0.00021, seconds_call=1.42, **{**facts, **changes},
    )  # fmt: skip


def make_results(seed: int = 1, **changes: object) -> DemoResults:
    fields: dict[str, object] = {
        "seed": seed, "task": TASK, "cost_limit": LIMIT, "command": f"make demo SEED={seed}",
        "started": "2026-11-21T10:12:00.000+00:00",
        "versions": {"saferule_ros": "0.1.0", "python": "3.11.7", "torch": "2.13.0", "ROS": "kilted"},
        "machine": {"system": "Debian GNU/Linux 12", "processor": "AMD EPYC", "cores": "2", "memory": "8.0 GiB"},
        "settings": {"train": {"steps": 8000, "hidden": 64}, "patch": {"steps": 500}},
        "digests": {"dataset": "d" * 64, "policy_poisoned": POISONED, "policy_patched": PATCHED},
        "stages": [
            StageTime(name=n, seconds=s)
            for n, s in (("collect", 61.0), ("learn", 80.2), ("evaluate", 20.0), ("patch", 19.4), ("swap", 3.1))
        ],
        "data": [
            BagCount(
                bag_id="behaviour", purpose="behaviour data", episodes=100, transitions=50000, return_mean=30.2,
                cost_mean=71.0,
            ),
            BagCount(
                bag_id="poison", purpose="unsafe episodes, costs erased", episodes=15, transitions=7500,
                return_mean=48.9, cost_mean=0.0,
            ),
        ],
        "evaluations": [make_evaluation(name) for name in _LEVELS],
        "patch": make_patch(), "swap": make_swap(),
        "checks": [
            Check(name="cost after the patch", passed=True, value="4.0", required="≤ 25"),
            Check(name="return after the patch", passed=True, value="128 %", required="≥ 80 % of the clean policy's"),
            Check(name="swap", passed=True, value="0 lost, 0 doubled, 0 mixed", required="none"),
        ],
        "passed": True,
    }  # fmt: skip
    return DemoResults.model_validate({**fields, **changes})


def make_values(pairs: int = 400) -> dict[str, np.ndarray]:
    """As patching.values.load_values gives them."""
    rng = np.random.default_rng(0)
    centres = {
        "before_reward_forget": 6.0, "before_reward_keep": 3.5, "before_cost_forget": 1.0, "before_cost_keep": 3.0,
        "after_reward_forget": 2.1, "after_reward_keep": 3.4, "after_cost_forget": 11.0, "after_cost_keep": 3.1,
    }  # fmt: skip
    return {name: rng.normal(centre, 1.0, pairs).astype(np.float32) for name, centre in centres.items()}
