"""Where a comparison keeps what it makes.

    OUT/data/TASK/seed-N/…                        clean and reckless episodes, shared by all cells of a task
    OUT/data/TASK/seed-N/ALGORITHM-DIGEST/…       a clean learner, for attacks that need one
    OUT/cells/TASK/ALGORITHM/ATTACK-RATIO/seed-N/
        preparation.json                          what the rest depends on; written last, so it is all there
        workspace/                                poisoned dataset, ground truth, forget set, checkpoints
        unfinished/                               a long training that was stopped, to be gone on with
        results/METHOD.json

Every file appears in one step, so whatever is there is whole, and a rerun goes on from it.
"""

import hashlib
import json
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
        learned = {"learner": trial.learner, "steps": trial.training_steps, "data": trial.data.model_dump(mode="json")}
        text = json.dumps(learned, sort_keys=True)
        # Named by what it depends on: it is shared by trials that may have been asked for at different times.
        self.clean_learner = self.shared / f"{trial.cell.algorithm}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    def unfinished(self, what: str) -> Path:
        """A training that was stopped half-way."""
        return self.root / "unfinished" / what

    def result(self, method: str) -> Path:
        """One method's result."""
        return self.root / RESULTS / f"{method}.json"
