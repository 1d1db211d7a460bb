"""Where a comparison keeps what it makes.

    OUT/data/TASK/seed-N/…                        clean and reckless episodes, shared by all cells of a task
    OUT/data/TASK/seed-N/learners/…               trained from scratch, one that was stopped half-way, too
    OUT/data/TASK/seed-N/adversaries/…            policies that want harm, for attacks that need one
    OUT/cells/TASK/ALGORITHM/ATTACK-RATIO[-precision-P][-recall-R]/seed-N/
        preparation.json                          what the rest depends on; written last, so it is all there
        workspace/                                poisoned dataset, ground truth, forget set, checkpoints
        results/METHOD.json

Every file appears in one step, so whatever is there is whole, and a rerun goes on from it.
"""

from pathlib import Path

from saferule_ros.experiments.settings import Trial
from saferule_ros.reporting.trials import CELLS, RESULTS
from saferule_ros.workspace import Workspace


class TrialPlaces:
    """The folders and files of one trial."""

    def __init__(self, out: Path, trial: Trial) -> None:
        self.shared = out / "data" / trial.cell.task / f"seed-{trial.seed}"
        self.root = out / CELLS / trial.cell.name / f"seed-{trial.seed}"
        self.preparation = self.root / "preparation.json"
        self.workspace = Workspace(self.root / "workspace")
        self.learners = self.shared / "learners"
        self.adversaries = self.shared / "adversaries"

    def result(self, method: str) -> Path:
        """One method's result."""
        return self.root / RESULTS / f"{method}.json"
