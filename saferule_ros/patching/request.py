"""What a patch job is asked to do: a small JSON file that says all of it."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from saferule_ros.device import Device
from saferule_ros.patching.judge_mode import JudgeMode
from saferule_ros.unlearning.settings import MOST_STEPS
from saferule_ros.utf8 import as_utf8

# Job and forget set ids become folder and file names: nothing in them may leave the folder they belong in.
ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"


class PatchRequest(BaseModel):
    """One patch of the active policy. Together with the workspace's content it fixes the outcome."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    job_id: str = Field(pattern=ID_PATTERN, description="unique name of the job, and of its folder in jobs/")
    workspace: Path = Field(description="root of the robot's workspace")
    forget_set_id: str = Field(pattern=ID_PATTERN, description="stored forget set that is to be forgotten")
    steps: int = Field(default=0, ge=0, le=MOST_STEPS, description="unlearning steps; 0: the configured number")
    seed: int = Field(default=0, ge=0, lt=2**64, description="seed of every random draw in the job")
    settings: Path | None = Field(default=None, description="YAML file with patch settings; none: the defaults")
    judge: JudgeMode = Field(default=JudgeMode.NONE, description="whether the patch is judged before it is proposed")
    judging: Path | None = Field(default=None, description="YAML file with settings of that; none: the defaults")
    nice: int = Field(default=10, ge=0, le=19, description="niceness that the worker adds to its parent's")
    threads: int = Field(default=1, ge=1, le=256, description="torch threads: the robot needs the other cores")
    device: Device = Field(default=Device.CPU, description="that unlearns; the policy is judged and gated on the CPU")
    requester: Annotated[str, AfterValidator(as_utf8)] = Field(default="", description="who asks, for the record")
