"""What a policy is for: a task of the simulator, or a robot that a YAML file describes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from saferule_ros.errors import SaferuleError

if TYPE_CHECKING:
    from saferule_ros.learning.settings import TaskLimits
    from saferule_ros.policy.spec import PolicySpec


class RobotError(SaferuleError):
    """Nobody said what the policy is for."""


def robot(task_name: str, file: Path | None) -> tuple[PolicySpec, TaskLimits]:
    """Contract and limits, from one of both.

    Args:
        task_name: of the simulator; empty: none.
        file: YAML with `horizon` (steps of a full episode) and `spec` (the fields of PolicySpec).

    Raises:
        RobotError: none or both were given, or the cost limit is 0.
        SettingsError, SpecError: the file is wrong; names field and value.
        UnknownTaskError: no such task.
    """
    from pydantic import BaseModel, ConfigDict, Field

    from saferule_ros.learning.settings import TaskLimits
    from saferule_ros.policy.spec import PolicySpec
    from saferule_ros.settings import load_settings

    class RobotFile(BaseModel):
        model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

        horizon: int = Field(gt=0, description="steps in a full episode")
        spec: PolicySpec

    if bool(task_name) == bool(file):
        raise RobotError(
            f"{'both --task and --robot were' if file else 'neither --task nor --robot was'} given",
            "Give --task NAME for data from the simulator, or --robot FILE (YAML: horizon, and spec with "
            f"{', '.join(PolicySpec.model_fields)})",
        )
    if file is not None:
        found = load_settings(RobotFile, file)
        if found.spec.cost_limit == 0.0:  # a policy may be served with it; learning divides by it
            raise RobotError(
                f"{str(file)!r}: spec.cost_limit is 0, and learning needs a positive one",
                "Where no cost is allowed at all, give half of what the smallest one is, e.g. 0.5",
            )
        return found.spec, TaskLimits(cost_limit=found.spec.cost_limit, horizon=found.horizon)
    from saferule_ros.sim.tasks import task

    chosen = task(task_name)
    return chosen.policy_spec(), TaskLimits(cost_limit=chosen.cost_limit, horizon=chosen.horizon)
