"""What a learning process is asked for, and what it says: without torch, which only that process needs."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from saferule_ros.learning.settings import BcqLagSettings, TaskLimits
from saferule_ros.policy.spec import PolicySpec


class LearnRequest(BaseModel):
    """What to learn from, and where everything goes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    workspace: Path
    bags: list[Path]
    spec: PolicySpec
    limits: TaskLimits
    learner: BcqLagSettings
    steps: int
    seed: int


class LearnProgress(BaseModel):
    """One line of progress; `policy_id` or `error` stands in the last one only."""

    # What is not known yet is NaN.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    stage: str  # "ingest", "learn", "done"
    done: int = 0
    total: int = 1
    time_left: float = -1.0  # estimate [s]; negative if not known
    loss_actor: float = float("nan")
    seconds: dict[str, float] = {}  # wall time of the stages that are over
    policy_id: str = ""
    dataset_digest: str = ""
    error: str = ""
