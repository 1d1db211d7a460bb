"""What the judgement of policies from logs can be told: one set of defaults for all tasks."""

from pydantic import BaseModel, ConfigDict, Field


class ModelSettings(BaseModel):
    """Of the learned model of dynamics, reward, cost and ends."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    members: int = Field(4, ge=2, le=64, description="E: models that judge independently")
    hidden: int = Field(128, ge=4, le=4096, description="width of both hidden layers")
    batch: int = Field(256, ge=1, le=65536, description="windows per gradient step and member")
    learning_rate: float = Field(1e-3, gt=0, lt=1, description="Adam; falls to a tenth in the end")
    single_steps: int = Field(2000, ge=0, le=10**6, description="gradient steps on single transitions, at first")
    unroll_steps: int = Field(600, ge=0, le=10**6, description="gradient steps on unrolled windows, after that")
    unroll: int = Field(25, ge=1, le=1000, description="length of these windows [control steps]")


class JudgeSettings(BaseModel):
    """Of the model, its check, and the episodes that candidates are judged by."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: ModelSettings = Field(default_factory=lambda: ModelSettings.model_validate({}))
    held_out: float = Field(
        0.1, gt=0, le=0.5, description="share of the episodes that only the check sees; ten at least"
    )
    starts: int = Field(6, ge=1, le=10_000, description="initial observations from which each candidate drives")


class SelectionSettings(BaseModel):
    """Of the rule that chooses a checkpoint."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # Models of SafetyPointCircle1 and SafetyCarCircle1 rank the policies of a patch no better than chance, and came to
    # 0.69 at most in their checks; those of SafetyHalfCheetahVelocity rank them well, and came to 0.84 at least.
    correlation: float = Field(
        0.8, ge=-1, le=1, description="rank correlation in the model's check below which it chooses nothing"
    )
    least_within: int = Field(
        2, ge=0, le=10**6, description="held-out episodes it must expect to keep the limit, or else it chooses nothing"
    )
    ends_missed: float = Field(
        0.1, ge=0, le=1, description="by how much the expected share of held-out episodes that terminate may be wrong, "
        "or else it chooses nothing",
    )  # fmt: skip
    may_end: float = Field(
        1.0, ge=0, le=1, description="share of a policy's episodes that may be expected to terminate; 1: all, where "
        "that is no harm",
    )  # fmt: skip
    pessimism: float = Field(1.0, ge=0, le=10, description="spread of the members that is added to the expected cost")
    share_of_limit: float = Field(1.0, gt=0, le=10, description="of the cost limit, that the sum may reach")
