"""Where an unlearned checkpoint comes from: a file beside it, so that what is exported later can be traced."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from saferule_ros import __version__
from saferule_ros.dataset.durable import write_atomically

ORIGIN_FILE = "origin.json"


class Origin(BaseModel):
    """How a checkpoint was made from another one."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    parent_checkpoint: str = Field(description="id of the checkpoint that had to forget")
    forget_set_id: str
    method: str = Field(description="name of the unlearning method")
    settings: dict[str, Any] = Field(description="all settings of that method")
    seed: int
    steps: int = Field(ge=0, description="gradient steps that were taken")
    certificate: dict[str, Any] | None = Field(default=None, description="None: the learner has no critics")
    budget: dict[str, float] = Field(description="of the gradient steps: steps, seconds, cpu_seconds, flops")
    code_version: str = __version__

    def save(self, checkpoint: Path) -> None:
        """Writes <checkpoint>/origin.json, durable on return."""
        write_atomically(checkpoint / ORIGIN_FILE, self.model_dump_json(indent=1).encode() + b"\n")

    @classmethod
    def load(cls, checkpoint: Path) -> "Origin | None":
        """Of the checkpoint in a folder; None for one that was learned, not unlearned."""
        file = checkpoint / ORIGIN_FILE
        return cls.model_validate_json(file.read_bytes()) if file.exists() else None
