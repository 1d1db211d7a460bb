"""The folder of one run: made anew, and never at the cost of something that is not ours."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from saferule_ros.errors import SaferuleError
from saferule_ros.workspace import Workspace

# Stands in every folder that a demo made, so that the next one may empty it.
MARKER = ".saferule_demo"


class FolderTaken(SaferuleError):
    """Something else is in the way."""


@dataclass(frozen=True)
class RunFolder:
    """<out>/seed-<n>/ and what lies in it.

    Attributes:
        root: the folder; results.json goes there.
    """

    root: Path

    @property
    def workspace(self) -> Workspace:
        """Of the robot: bags, dataset, store, jobs."""
        return Workspace(self.root / "workspace")

    @property
    def clean_workspace(self) -> Workspace:
        """Of the policy that never saw the bad bag."""
        return Workspace(self.root / "clean_workspace")

    @property
    def logs(self) -> Path:
        """A log per process."""
        return self.root / "logs"

    @property
    def unlearning_settings(self) -> Path:
        """The patch settings, as unlearning_server reads them."""
        return self.root / "unlearning.yaml"

    @classmethod
    def make(cls, out: Path, seed: int) -> RunFolder:
        """Makes it, empty. What an earlier demo left there is removed.

        Raises:
            FolderTaken: it holds something that no demo made, or cannot be made.
        """
        root = (out / f"seed-{seed}").absolute()
        try:
            if root.exists() and any(root.iterdir()):
                if not (root / MARKER).exists():
                    raise FolderTaken(f"{root} holds something else", "Move it away, or give another folder: --out")
                shutil.rmtree(root)
            root.mkdir(parents=True, exist_ok=True)
            (root / MARKER).touch()
        except OSError as error:
            raise FolderTaken(f"{root} cannot be made: {error}", "Give another folder: --out") from error
        return cls(root)
