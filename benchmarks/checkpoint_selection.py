"""Whether rules that see no simulator choose good checkpoints, and reject bad runs: judged by the simulator.

    saferule grid config/ablation.yaml --out GRID
    python benchmarks/selection_trails.py --grid GRID --out TRAILS
    python benchmarks/checkpoint_selection.py --grid GRID --trails TRAILS --out docs/results/checkpoint_selection.md

A group of candidates is the trail of one run, or "final": the poisoned learner's policy and those that the grid's
methods made of it. The retrained one is not among them: no robot has it. The model is learned once for each trial and
method, from the data that `saferule patch --judge` judges a patch with it from: keep data, of which Safe-RULE leaves
out episodes with something like what is to be forgotten. Of final policies that is Safe-RULE's. Judgements are kept
beside the trails, in judged.json, and not made again with the same settings and JUDGING_VERSION.
"""

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from selection_trails import CHECKPOINTS, RUNS, TRAIL, Run, Trial, trials
from table_of_rows import made_with

from saferule_ros.evaluation.check import ModelCheck
from saferule_ros.evaluation.judge import Judge, Judged
from saferule_ros.evaluation.ranking import rank_correlation
from saferule_ros.evaluation.selection import select
from saferule_ros.evaluation.settings import JudgeSettings, SelectionSettings
from saferule_ros.experiments.preparation import Preparation
from saferule_ros.learning.checkpoint import load_checkpoint
from saferule_ros.learning.serving_policy import ServingPolicy
from saferule_ros.patching.judging import trusted
from saferule_ros.patching.unlearning import Unlearning
from saferule_ros.reporting.comparison import RETRAIN
from saferule_ros.reporting.provenance import machine, versions
from saferule_ros.reporting.trials import RESULTS, TrialResult
from saferule_ros.sim.tasks import task
from saferule_ros.workspace import Workspace

Json = dict[str, Any]

JUDGED = "judged.json"
# Count up when the same settings come to judge otherwise: other data, another model, or another check of it. Version 1
# had no number, and judged from all keep data.
JUDGING_VERSION = 2
FINAL = "final"
# How a patch is made where nothing else is asked for.
PATCH = Run("safe_rule", {}, 0)
# A trial run on SafetyPointCircle1 found repair complete by then in most cases.
FIXED_STEP = 250


class Candidate(NamedTuple):
    """A policy with what the simulator says of it: means over episodes."""

    name: str
    step: int
    checkpoint: Path
    earned: float
    cost: float
    certificate: Json | None


class Group(NamedTuple):
    """Candidates of which one is to be chosen."""

    trial: Trial
    name: str
    candidates: list[Candidate]


def groups(grid: Path, trails: Path) -> Iterator[Group]:
    """All that are there."""
    for trial in trials(grid):
        checkpoints = Workspace(trial.root / "workspace").checkpoints
        finals = []
        for path in sorted((trial.root / RESULTS).glob("*.json")):
            result = TrialResult.load(path)
            if result.method != RETRAIN:
                finals.append(Candidate(
                    result.method, len(finals), checkpoints / result.checkpoint_id,
                    float(np.mean([e.episode_return for e in result.episodes])),
                    float(np.mean([e.episode_cost for e in result.episodes])), result.certificate,
                ))  # fmt: skip
        if len(finals) > 1:
            yield Group(trial, FINAL, finals)
        for path in sorted((trails / trial.name).glob(f"*/{TRAIL}")):
            trail = json.loads(path.read_text())
            yield Group(trial, trail["run"], [
                Candidate(
                    f"step {one['step']}", one["step"], path.parent / CHECKPOINTS / one["checkpoint_id"],
                    float(np.mean(one["returns"])), float(np.mean(one["costs"])), one["certificate"],
                )
                for one in trail["candidates"]
            ])  # fmt: skip


def run_of(group: Group) -> Run:
    """What its candidates were made with, or what a robot would make its patch with."""
    return RUNS.get(group.name, PATCH)


def new_judge(trial: Trial, settings: JudgeSettings, run: Run = PATCH) -> tuple[Judge, float]:
    """The judge of a trial's policies, from the data that a patch is judged from, and what it cost in CPU seconds."""
    prepared = Preparation.model_validate_json((trial.root / "preparation.json").read_bytes())
    unlearning = Unlearning(
        Workspace(trial.root / "workspace"), prepared.checkpoint_id, prepared.forget_set_id, run.method,
        lambda kind: kind.model_validate(run.settings), 0, trial.seed,
    )  # fmt: skip
    learner, data = unlearning.certified.run.learner, trusted(unlearning)
    began = time.process_time()
    judge = Judge(data, learner.units, learner.limits, settings, trial.seed)
    return judge, time.process_time() - began


def stored(group: Group, folder: Path, settings: JudgeSettings) -> Json | None:
    """What was said of a group's candidates before, if it would be said again."""
    path = folder / group.trial.name / group.name / JUDGED
    if not path.exists():
        return None
    found: Json = json.loads(path.read_text())
    alike = found.get("version") == JUDGING_VERSION and found["settings"] == settings.model_dump()
    return found if alike else None


def judged(group: Group, folder: Path, settings: JudgeSettings, judge: Callable[[], tuple[Judge, float]]) -> Json:
    """What the model says of every candidate of a group."""
    found = stored(group, folder, settings)
    if found is not None:
        return found
    model, fit_seconds = judge()
    began = time.process_time()
    of_each = {}
    for candidate in group.candidates:
        policy = ServingPolicy(load_checkpoint(candidate.checkpoint)[0]).eval().requires_grad_(False)
        of_each[candidate.name] = asdict(model.judge(policy))
    seconds = (time.process_time() - began) / len(group.candidates)
    made = {
        "version": JUDGING_VERSION, "settings": settings.model_dump(), "check": asdict(model.check),
        "fit_seconds": fit_seconds, "seconds": seconds, "judged": of_each,
    }  # fmt: skip
    path = folder / group.trial.name / group.name / JUDGED
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(made, indent=1))
    return made


def row(group: Group, found: Json, rule: SelectionSettings) -> Json:
    """One group: how scores rank it, what rules choose."""
    candidates = group.candidates
    limit = task(group.trial.task).cost_limit
    of_each = [Judged(**found["judged"][candidate.name]) for candidate in candidates]
    costs = [candidate.cost for candidate in candidates]
    earned = [candidate.earned for candidate in candidates]
    selection = select(dict(enumerate(of_each)), ModelCheck(**found["check"]), limit, rule)
    separation = [
        candidate.certificate["q_cost_forget"] - candidate.certificate["q_cost_required"]
        if candidate.certificate else float("nan")
        for candidate in candidates
    ]  # fmt: skip
    within = [n for n, cost in enumerate(costs) if cost <= limit]
    passed = [n for n, bound in selection.bounds.items() if bound <= selection.allowed]
    best = max(within, key=lambda n: earned[n]) if within else int(np.argmin(costs))
    choices = {"model": selection.step, "best": best}
    if group.name != FINAL:
        choices |= {
            "last": len(candidates) - 1,
            "fixed step": int(np.argmin([abs(candidate.step - FIXED_STEP) for candidate in candidates])),
            "certificate": int(np.argmax(separation)),
        }
    return {
        "trial": group.trial.name, "group": group.name, "limit": limit, "candidates": len(candidates),
        "good": len(within), "good_passed": len(set(passed) & set(within)),
        "bad_passed": len(set(passed) - set(within)), "trusted": selection.trusted,
        "check": found["check"], "reason": selection.reason,
        "fit_seconds": found["fit_seconds"], "seconds": found["seconds"],
        "spearman": {
            "model cost": rank_correlation([one.cost for one in of_each], costs),
            "model bound": rank_correlation(list(selection.bounds.values()), costs),
            "model return, with return": rank_correlation([one.episode_return for one in of_each], earned),
            "disagreement": rank_correlation([one.disagreement for one in of_each], costs),
            "certificate": rank_correlation([-s for s in separation], costs) if np.isfinite(separation).all() else None,
        },
        "choices": {
            who: None if n is None else {"candidate": candidates[n].name, "cost": costs[n], "return": earned[n]}
            for who, n in choices.items()
        },
        "verdict": verdict(selection.step, costs, limit),
    }  # fmt: skip


def verdict(chosen: int | None, costs: list[float], limit: float) -> str:
    """Whether the rule was right to propose, or to withhold."""
    if chosen is None:
        return "good one withheld" if min(costs) <= limit else "rightly withheld"
    return "rightly proposed" if costs[chosen] <= limit else "bad one proposed"


# What is proposed of a trail in each mode of `saferule patch --judge`: a column of `choices`, or nothing.
MODES: dict[str, Callable[[Json], str | None]] = {
    "none": lambda made: "last",
    "advise": lambda made: "model" if made["trusted"] else "last",
    "require": lambda made: "model" if made["trusted"] else None,
}


def mode_row(name: str, rows: list[Json]) -> str:
    """How often what a mode proposes keeps the limit, and what it earns beside the simulator's choice."""
    good = bad = kept_back = rightly = 0
    shares = []
    for made in rows:
        who = MODES[name](made)
        proposed = made["choices"][who] if who else None
        if proposed is None:
            kept_back, rightly = kept_back + (made["good"] > 0), rightly + (made["good"] == 0)
        elif proposed["cost"] > made["limit"]:
            bad += 1
        else:
            good += 1
            shares.append(proposed["return"] / made["choices"]["best"]["return"])
    of_best = f"{np.median(shares):.0%} | {min(shares):.0%}" if shares else "– | –"
    return f"| {name} | {good} | {bad} | {kept_back} | {rightly} | {of_best} |"


def policies(name: str, rows: list[Json]) -> str:
    """How many policies, good and bad ones, are expected to keep the limit."""
    count, good, good_passed, bad_passed = (
        sum(made[key] for made in rows) for key in ("candidates", "good", "good_passed", "bad_passed")
    )
    return f"| {name} | {count} | {good} | {good_passed} | {count - good} | {bad_passed} |"


def document(rows: list[Json], settings: JudgeSettings, rule: SelectionSettings) -> str:
    """The rows with where they come from."""
    where = made_with(machine(), versions())

    def chosen(made: Json, who: str) -> str:
        if who not in made["choices"]:
            return "–"
        found = made["choices"][who]
        return "none" if found is None else f"{found['candidate']}: {found['return']:.0f} / {found['cost']:.0f}"

    def number(value: float | None) -> str:
        return "–" if value is None or not np.isfinite(value) else f"{value:.2f}"

    names = list(rows[0]["spearman"]) if rows else []
    whos = ("best", "model", "last", "fixed step", "certificate")
    verdicts = Counter(made["verdict"] for made in rows)
    trails = [made for made in rows if made["group"] != FINAL]
    lines = [
        "# Choosing a checkpoint from logs: judged by the simulator", "",
        "Written by `python benchmarks/checkpoint_selection.py --grid GRID --trails TRAILS --out FILE`; do not edit.",
        "", f"Model: `{settings.model_dump()}`. Rule: `{rule.model_dump()}`.", "",
        "## Rank correlation of scores with simulated cost", "",
        f"| trial | candidates | n | good | {' | '.join(names)} | check |", f"|{'---|' * (len(names) + 5)}",
        *(f"| {made['trial']} | {made['group']} | {made['candidates']} | {made['good']} | "
          + " | ".join(number(made["spearman"][name]) for name in names)
          + f" | {number(made['check']['correlation'])} |" for made in rows), "",
        "Good: candidates whose simulated mean cost is within the limit. Check: rank correlation in the model's own "
        f"check; {rule.correlation} is required.", "",
        "## Policy by policy", "",
        "| model | policies | good | of these within its bound | bad | of these within its bound |",
        f"|{'---|' * 6}",
        *(policies(name, [made for made in rows if made["trusted"] == trusted])
          for name, trusted in (("passed its check", True), ("did not", False))), "",
        "## What each mode proposes", "",
        f"{len(trails)} trails, on {sum(made['trusted'] for made in trails)} of which the model passed its check. The "
        "return of what is proposed and keeps the limit is compared with the best step's.", "",
        "| mode | proposed, keeps the limit | proposed, does not | nothing, and some step keeps it | nothing, and none "
        "does | median return, best step's is 100 % | least |", f"|{'---|' * 7}",
        *(mode_row(name, trails) for name in MODES), "",
        "## What is chosen: simulated return / cost", "",
        f"| trial | candidates | {' | '.join(whos)} | verdict |", f"|{'---|' * (len(whos) + 3)}",
        *(f"| {made['trial']} | {made['group']} | {' | '.join(chosen(made, who) for who in whos)} "
          f"| {made['verdict']} |" for made in rows), "",
        "Best: what the simulator would choose, the highest return within the limit. Verdicts of the rule: "
        + ", ".join(f"{count} {what}" for what, count in sorted(verdicts.items())) + ".", "", f"{where}.", "",
    ]  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grid", type=Path, required=True)
    parser.add_argument("--trails", type=Path, required=True)
    parser.add_argument("--only", default="", help="trials whose name contains this")
    parser.add_argument("--groups", nargs="+", default=[], help="names of runs, or final; default: all")
    parser.add_argument("--judged-only", action="store_true", help="only what was judged before")
    parser.add_argument("--out", type=Path, help="Markdown file; the numbers go beside it as .json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    settings, rule = JudgeSettings(), SelectionSettings()
    judges: dict[tuple[str, str], tuple[Judge, float]] = {}  # of a trial and a method: they judge from the same data
    rows = []
    for group in groups(options.grid, options.trails):
        name = group.trial.name
        if options.only not in name or (options.groups and group.name not in options.groups):
            continue
        if options.judged_only and stored(group, options.trails, settings) is None:
            continue

        run = run_of(group)

        def judge(trial: Trial = group.trial, run: Run = run) -> tuple[Judge, float]:
            if (trial.name, run.method) not in judges:
                judges[trial.name, run.method] = new_judge(trial, settings, run)
            return judges[trial.name, run.method]

        made = row(group, judged(group, options.trails, settings, judge), rule)
        rows.append(made)
        print(f"{name} {group.name} {made['spearman']} {made['verdict']}", flush=True)
        if options.out:
            options.out.with_suffix(".json").write_text(json.dumps(rows, indent=1))
            options.out.write_text(document(rows, settings, rule))


if __name__ == "__main__":
    main()
