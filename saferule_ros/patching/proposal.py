"""Which bundle a job is about to make the store's candidate, noted in its folder before it does.

Whoever finds a job without a report (its worker was killed, or the disk was full) can tell by it whether it did.
"""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from saferule_ros.dataset.durable import write_atomically
from saferule_ros.policy.errors import PolicyError
from saferule_ros.policy.reader import StoreReader
from saferule_ros.workspace import Workspace

PROPOSAL_FILE = "proposal.json"


class Proposal(BaseModel):
    """Content of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    candidate_id: str

    def note(self, job_folder: Path) -> None:
        """Writes it, durable on return."""
        write_atomically(job_folder / PROPOSAL_FILE, self.model_dump_json().encode())


def proposed(workspace: Workspace, job_folder: Path) -> str:
    """The bundle that a job proposed, if it came to that: it has a place in the store. Empty otherwise, or where the
    store cannot tell."""
    try:
        noted = Proposal.model_validate_json((job_folder / PROPOSAL_FILE).read_bytes()).candidate_id
        return noted if StoreReader(workspace.store).places().of(noted) else ""
    except (OSError, ValidationError, PolicyError):
        return ""


def still_waiting(workspace: Workspace) -> str:
    """What to add where nothing is proposed: a swap without an id takes an older candidate, of which nobody thinks."""
    try:
        candidate = StoreReader(workspace.store).place("candidate")
    except PolicyError:
        return ""
    return f". The candidate is still {candidate}, of before" if candidate else ""
