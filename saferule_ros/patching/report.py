"""What came of a patch job: the record that stays, whatever happened."""

from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

REPORT_FILE = "report.json"


class Outcome(StrEnum):
    """How a job can end."""

    SUCCEEDED = "succeeded"
    WITHHELD = "withheld"  # it was carried out, and its own check does not let it be proposed
    FAILED = "failed"
    CANCELLED = "cancelled"


class TrailCheckpoint(BaseModel):
    """A checkpoint that was kept along the way."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: int = Field(ge=0, description="steps of the run behind it")
    checkpoint_id: str = Field(description="its folder among the run's checkpoints")
    seconds: float = Field(ge=0, description="what writing it took [s]; 0: not known, an earlier process wrote it")


class PatchReport(BaseModel):
    """The end of a job. One without a candidate has a report too; what it did not reach is empty or NaN.

    The certificate's values are discounted sums in learner units. They tell that the data was forgotten, not
    that the policy is safe.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    job_id: str
    forget_set_id: str
    forgotten_before: list[str] = Field(
        default=[], description="forget sets of earlier patches of the same policy, oldest first: forgotten again"
    )
    outcome: Outcome
    message: str = Field(default="", description="outcome in one line, or what is wrong and what to do")
    candidate_id: str = Field(default="", description="bundle that now waits in the store as candidate")
    parent_id: str = Field(default="", description="bundle that was active, and was patched")
    duration: float = Field(default=0.0, ge=0, description="wall time of the job [s]")
    seconds: dict[str, float] = Field(default_factory=dict, description="wall time of each stage [s]")

    checkpoint_id: str = Field(default="", description="learner checkpoint that became the candidate")
    checkpoint_step: int = Field(default=0, ge=0, description="unlearning step at which it was taken")
    checkpoint_rule: str = Field(default="", description="the rule that chose it, in words; it never asks a simulator")
    judgement: dict[str, Any] = Field(
        default_factory=dict,
        description="what the offline check said of its model and of each policy; empty: not asked",
    )
    checkpoints: list[TrailCheckpoint] = Field(default=[], description="others, kept along the way, in their order")
    budget: dict[str, float] = Field(
        default_factory=dict, description="of the gradient steps alone: steps, seconds, cpu_seconds, flops"
    )

    forget_weight: float = Field(
        default=float("nan"),
        description="mean weight of the forget pairs: how much of D_f the keep data do not outnumber",
    )
    marked_values: list[int] = Field(
        default=[],
        description="observed values (indices) in which D_f carries a mark; keep data were shown with it as well",
    )
    left_out: dict[str, int] = Field(
        default_factory=dict,
        description="episodes of the keep data that look like forgotten ones, to how many of their steps were not "
        "learned from: worth a look, and another forget set",
    )
    certified: bool = Field(default=False, description="both conditions of the certificate hold")
    q_reward_forget: float = float("nan")
    q_reward_reference: float = float("nan")
    q_cost_forget: float = float("nan")
    q_cost_required: float = float("nan")
    certificate: dict[str, Any] = Field(default_factory=dict, description="the certificate in full")
    gate: dict[str, Any] = Field(default_factory=dict, description="the gate's report, check by check")
    digests: dict[str, str] = Field(
        default_factory=dict,
        description="of what went in: SHA-256 of the dataset, ids of forget set and checkpoint",
    )
    settings: dict[str, Any] = Field(default_factory=dict, description="all settings of the run")

    started: str = Field(default="", description="ISO 8601, UTC")
    finished: str = Field(default="", description="ISO 8601, UTC")

    @property
    def success(self) -> bool:
        """Whether a candidate came out."""
        return self.outcome is Outcome.SUCCEEDED

    @staticmethod
    def load(job_folder: Path) -> "PatchReport":
        """Reads a job's report. Raises FileNotFoundError while it has none."""
        return PatchReport.model_validate_json((job_folder / REPORT_FILE).read_bytes())
