"""What the critics said of forget and keep data before and after a patch: the material of the report's plots."""

from pathlib import Path

import numpy as np

from saferule_ros.unlearning.certificate import PairValues

VALUES_FILE = "values.npz"
SETS = ("reward_forget", "reward_keep", "cost_forget", "cost_keep")


def save_values(job_folder: Path, before: PairValues, after: PairValues) -> None:
    """Writes <job>/values.npz: arrays `before_reward_forget` … `after_cost_keep`, each (S,)."""
    job_folder.mkdir(parents=True, exist_ok=True)
    columns = {
        f"{when}_{name}": getattr(values, name)
        for when, values in (("before", before), ("after", after))
        for name in SETS
    }
    np.savez_compressed(job_folder / VALUES_FILE, **columns)


def load_values(job_folder: Path) -> dict[str, np.ndarray]:
    """Reads what `save_values` wrote."""
    with np.load(job_folder / VALUES_FILE, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}
