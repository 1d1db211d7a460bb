"""Where an unlearned checkpoint comes from: a file beside it, so that what is exported later can be traced."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from saferule_ros import __version__
from saferule_ros.dataset.durable import write_atomically
from saferule_ros.errors import SaferuleError

ORIGIN_FILE = "origin.json"


class OriginError(SaferuleError):
    """Where a checkpoint comes from cannot be read: what it once had to forget is not known."""


def check_origin(folder: Path, forget_set_id: str | None) -> None:
    """Whether a policy's checkpoint still says what it had to forget: without, the next patch would learn from that.

    Args:
        folder: of the checkpoint.
        forget_set_id: what the policy's signed manifest says that it had to forget last; None: nothing.

    Raises:
        OriginError: it does not say, or names another forget set.
    """
    origin = Origin.load(folder)
    said = origin.forget_set_id if origin else None
    if said != forget_set_id:
        told = f"names forget set {said}" if said else f"has no {ORIGIN_FILE}"
        raise OriginError(
            f"the policy had to forget {forget_set_id or 'nothing'}, but its checkpoint {str(folder)!r} {told}",
            f"Copy the checkpoint there again, with {ORIGIN_FILE}: what was forgotten once would be learned from",
        )


class Origin(BaseModel):
    """How a checkpoint was made from another one."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    parent_checkpoint: str = Field(description="id of the checkpoint that had to forget")
    forget_set_id: str
    forgotten_before: list[str] = Field(
        default=[], description="forget sets of the patches before this one, oldest first: they stay forgotten"
    )
    method: str = Field(description="name of the unlearning method")
    settings: dict[str, Any] = Field(description="all settings of that method")
    seed: int
    steps: int = Field(ge=0, description="gradient steps that were taken")
    certificate: dict[str, Any] | None = Field(default=None, description="None: the learner has no critics")
    budget: dict[str, float] = Field(description="of the gradient steps: steps, seconds, cpu_seconds, flops")
    code_version: str = __version__

    @property
    def forgotten(self) -> list[str]:
        """All forget sets that the checkpoint had to forget, oldest first."""
        return [*self.forgotten_before, self.forget_set_id]

    def save(self, checkpoint: Path) -> None:
        """Writes <checkpoint>/origin.json, durable on return."""
        write_atomically(checkpoint / ORIGIN_FILE, self.model_dump_json(indent=1).encode() + b"\n")

    @classmethod
    def load(cls, checkpoint: Path) -> "Origin | None":
        """Of the checkpoint in a folder; None for one that was learned, not unlearned.

        Raises:
            OriginError: the file cannot be read.
        """
        file = checkpoint / ORIGIN_FILE
        if not file.exists():
            return None
        try:
            return cls.model_validate_json(file.read_bytes())
        except (OSError, ValidationError) as error:
            raise OriginError(
                f"{str(file)!r} cannot be read: {error}", "Patch an earlier checkpoint, or bring the file back"
            ) from error
