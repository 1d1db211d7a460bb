"""Where everything of one robot lies on disk."""

import re
from dataclasses import dataclass
from pathlib import Path

from saferule_ros.errors import SaferuleError
from saferule_ros.syncing import make_folder, sync_folder

# What may be a folder or file name under the workspace: no separators, no leading dot, no surprises in a shell.
_SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,127}")


class WorkspaceError(SaferuleError):
    """A name that cannot be a folder of the workspace, or a workspace that cannot be made."""


def check_name(name: str, kind: str) -> str:
    """Returns `name` if it can safely be a file or folder name.

    Args:
        name: e.g. a bag id that came in by a service call.
        kind: what it names, for the error: "bag id".

    Raises:
        WorkspaceError: empty, too long, or with characters that could lead out of the workspace.
    """
    if not _SAFE_NAME.fullmatch(name):
        raise WorkspaceError(
            f"{kind} {name[:140]!r} cannot be a folder name",
            "Use 1 to 128 letters, digits and _ . + -, beginning with a letter, a digit or _",
        )
    return name


@dataclass(frozen=True)
class Workspace:
    """The folders of one robot; nothing is created by asking for a path."""

    root: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root).expanduser())

    @property
    def store(self) -> Path:
        """Policy store."""
        return self.root / "store"

    @property
    def keys(self) -> Path:
        """This robot's signing key and the public keys that it trusts; beside the store, where the store looks."""
        return self.root / "keys"

    @property
    def bags(self) -> Path:
        """Parent of the rosbag2 folders, one per bag id."""
        return self.root / "bags"

    @property
    def dataset(self) -> Path:
        """The EpisodeDataset that the active policy was learned from."""
        return self.root / "dataset"

    @property
    def checkpoints(self) -> Path:
        """Parent of the learner checkpoints, one folder per checkpoint id."""
        return self.root / "checkpoints"

    @property
    def training(self) -> Path:
        """Learning and unlearning that was stopped and can go on, or found nothing to propose, a folder each."""
        return self.root / "training"

    @property
    def collecting(self) -> Path:
        """Collections that were stopped and can go on, a folder each."""
        return self.root / "collecting"

    @property
    def forget_sets(self) -> Path:
        """Folder of the forget sets, one JSON file each."""
        return self.root / "forget_sets"

    @property
    def attacks(self) -> Path:
        """Folder of what attacks did to the dataset, one JSON file for each, named by its forget set."""
        return self.root / "attacks"

    @property
    def jobs(self) -> Path:
        """Parent of the patch jobs, one folder per job id."""
        return self.root / "jobs"

    def bag(self, bag_id: str) -> Path:
        """Folder of one bag."""
        return self.bags / check_name(bag_id, "bag id")

    def checkpoint(self, checkpoint_id: str) -> Path:
        """Folder of one learner checkpoint."""
        return self.checkpoints / check_name(checkpoint_id, "checkpoint id")

    def job(self, job_id: str) -> Path:
        """Folder of one patch job."""
        return self.jobs / check_name(job_id, "job id")

    def create(self) -> "Workspace":
        """Makes the folders that are missing (idempotent) and returns itself. Their names are on the disk on return.

        The store and the dataset are made by those who write them: an empty one would be an error later.

        Raises:
            WorkspaceError: a folder cannot be made.
        """
        try:
            make_folder(self.root)
            for folder in (self.bags, self.checkpoints, self.forget_sets, self.jobs):
                folder.mkdir(exist_ok=True)
            sync_folder(self.root)
        except OSError as error:
            raise WorkspaceError(
                f"the workspace {str(self.root)!r} cannot be made: {error}",
                "Give a folder that this user may write to",
            ) from error
        return self
