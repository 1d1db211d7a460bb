"""A `stop` that outlives its process: a file beside the store, for as long as no policy may act.

    <root>.stopped.json    which policy was stopped, when, and why

It is written when a stop has gone out, and removed when somebody activates the server again. Between the two no server
that starts by itself lets a policy act.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from saferule_ros.policy import durable


class StopMark(BaseModel):
    """Content of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    at: str = Field(description="when it was written, UTC, ISO 8601")
    policy_id: str = Field(description="what was served")
    reason: str = Field(description="a name in failsafe.Reason")
    detail: str = Field(description="the values that made it one, for people")

    @classmethod
    def now(cls, policy_id: str, reason: str, detail: str) -> "StopMark":
        """One of this moment."""
        return cls(
            at=datetime.now(UTC).isoformat(timespec="milliseconds"), policy_id=policy_id, reason=reason, detail=detail
        )

    @property
    def told(self) -> str:
        """One line."""
        return f"{self.at}, policy {self.policy_id}, {self.reason}: {self.detail}"


class StopMarkFile:
    """The file of one store.

    Args:
        store_root: folder of the store, as an absolute path.
    """

    def __init__(self, store_root: Path) -> None:
        self.path = store_root.with_name(f"{store_root.name}.stopped.json")

    def read(self) -> str:
        """What it says, in one line; "" where there is none. One that cannot be read is one all the same."""
        try:
            return StopMark.model_validate_json(self.path.read_bytes()).told
        except FileNotFoundError:
            return ""
        except (OSError, ValueError) as error:  # pydantic's own errors are ValueErrors
            return f"{self.path} cannot be read, and there is no knowing why it is there: {error}"

    def write(self, mark: StopMark) -> None:
        """Replaces it; on the disk on return, file and folder.

        Raises:
            StoreError: the disk refuses.
        """
        data = mark.model_dump_json(indent=2).encode() + b"\n"
        durable.replace_file(self.path, data, self.path.with_suffix(".part"))

    def remove(self) -> None:
        """Does nothing where there is none; gone for good on return.

        Raises:
            StoreError: the disk refuses.
        """
        if self.read():
            durable.remove(self.path)
            durable.sync_folder(self.path.parent)
