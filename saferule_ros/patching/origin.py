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
