"""Whether a model learned from keep data may be trusted: its own check, on every task, attack and seed of a grid.

    saferule grid config/evidence/circle.yaml --out GRID
    python benchmarks/model_checks.py --grid GRID --out docs/results/model_checks.md

The model is learned from what `saferule patch --judge` judges from: keep data without the episodes in which Safe-RULE
finds something like what is to be forgotten. These are the same for every algorithm, and so is the model: one for each
task, attack, ratio and seed. Max Cost's attacker learns with the trial's own algorithm, so there each has a model of
its own. What is there already is not made again, and rows of another JUDGING_VERSION are not shown.
"""

import argparse
from dataclasses import asdict, fields
from pathlib import Path

import torch
from checkpoint_selection import JUDGING_VERSION, new_judge
from selection_trails import trials
from table_of_rows import Row, TableOfRows, made_with

from saferule_ros.evaluation.check import ModelCheck
from saferule_ros.evaluation.selection import doubt
from saferule_ros.evaluation.settings import JudgeSettings, SelectionSettings
from saferule_ros.experiments.settings import NEEDS_LEARNER
from saferule_ros.reporting.provenance import machine, versions

CHECKED = [field.name for field in fields(ModelCheck)]


def data_of(trial: str) -> str:
    """A trial's name without its algorithm, where the data does not depend on that."""
    task, _, attack, seed = trial.split("/")
    return trial if attack.rpartition("-")[0] in NEEDS_LEARNER else f"{task}/{attack}/{seed}"


def document(rows: list[Row]) -> str:
    """The checks as Markdown."""
    rule = SelectionSettings()
    lines = [
        f"| {one['data']} | {one['episodes']} | {one['correlation']:.2f} | {one['within']} | {one['shortfall']:.1f} "
        f"| {'no' if doubt(ModelCheck(**{name: one[name] for name in CHECKED if name in one}), rule) else 'yes'} |"
        for one in sorted(rows, key=lambda one: one["data"])
        if one.get("judging_version") == JUDGING_VERSION
    ]
    return "\n".join([
        "# Whether a model may be trusted", "",
        "Written by `python benchmarks/model_checks.py --grid GRID --out FILE`; do not edit.", "",
        "The actions of held-out episodes are replayed in the model. Correlation: by rank, of what it says that they "
        f"cost with what they did cost; {rule.correlation:g} is required. Within: how many it expects to keep the "
        f"limit; {rule.least_within} are required. Shortfall: what these cost more than expected, with one standard "
        "error.", "",
        "| data | held-out episodes | correlation | within | shortfall | trusted |", f"|{'---|' * 6}", *lines, "",
        f"{made_with(machine(), versions())}.", "",
    ])  # fmt: skip


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grid", type=Path, required=True, help="folder of the trials")
    parser.add_argument("--only", default="", help="trials whose name contains this")
    parser.add_argument("--out", type=Path, required=True, help="Markdown file; the numbers go beside it as .json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    settings, table = JudgeSettings(), TableOfRows(options.out, document)
    for trial in trials(options.grid):
        identity = {"data": data_of(trial.name), "judging_version": JUDGING_VERSION}
        if table.has(identity) or options.only not in trial.name:
            continue
        judge, seconds = new_judge(trial, settings)
        table.add(identity | asdict(judge.check) | {"cpu_seconds": seconds})
        print(f"{identity['data']} {judge.check}", flush=True)


if __name__ == "__main__":
    main()
