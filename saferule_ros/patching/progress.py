"""Where a patch job stands: one line of JSON per report, with the fields of the action's feedback."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from saferule_ros.errors import SaferuleError


class Stage(StrEnum):
    """The stages of a job, in their order."""

    LOADING = "loading"
    UNLEARNING = "unlearning"
    JUDGING = "judging"  # where that is asked for
    EXPORTING = "exporting"
    GATE = "gate"
    DONE = "done"


# Said of every job that ends without a candidate.
UNTOUCHED = "What serves was not touched"


class PatchCancelled(SaferuleError):
    """Raised out of a job when it was asked to stop. Nothing but its work is lost."""


class PatchProgress(BaseModel):
    """One report. What is not known yet is NaN, and time_left negative.

    Losses are per batch on keep data, without the forget terms. Q values are discounted sums, in
    learner units.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    stage: Stage
    step: int = Field(default=0, ge=0, description="unlearning steps done")
    steps: int = Field(default=0, ge=0, description="unlearning steps in all")
    progress: float = Field(default=0.0, ge=0, le=1, description="share of the whole job that is done")
    time_left: float = Field(default=-1.0, description="estimate [s]; negative if not known")
    loss_reward: float = float("nan")
    loss_cost: float = float("nan")
    loss_actor: float = float("nan")
    beta_forget: float = float("nan")
    q_reward_forget: float = float("nan")
    q_reward_reference: float = float("nan")
    q_cost_forget: float = float("nan")
    q_cost_required: float = float("nan")
