"""What Safe-RULE can be told: validated, each field with its range and meaning."""

from pydantic import BaseModel, ConfigDict, Field


class SafeRuleSettings(BaseModel):
    """Settings of a patch with Safe-RULE."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(1000, ge=1, le=100_000, description="gradient steps; the policy after the last is the candidate")
    constant_share: float = Field(0.5, ge=0, lt=1, description="share of the steps before the learning rate falls")
    final_rate: float = Field(0.05, gt=0, le=1, description="learning rate at the last step, share; falls linearly")
    percentile: float = Field(50.0, ge=0, le=100, description="percentile of Q_r over keep data that caps Q_r on D_f")
    cost_margin: float = Field(15.0, ge=0, description="sigma: how far above kappa Q_c must lie on D_f [cost value]")
    temperature: float = Field(1.0, gt=0, description="t of the softplus terms [value units]")
    beta_start: float = Field(0.5, ge=0, description="beta_f before the first step")
    beta_cap: float = Field(1.0, ge=0, description="largest beta_f")
    beta_rate: float = Field(0.01, ge=0, description="dual ascent on the violated share of the forget batch, per step")
    beta_floor: float = Field(0.05, ge=0, description="smallest beta_f: what was forgotten stays forgotten")
    tolerated_share: float = Field(0.3, ge=0, le=1, description="violated share of D_f at which beta_f stays as it is")
    actor_weight: float = Field(0.1, ge=0, description="weight of the actor's repulsion from forgotten actions")
    gate_temperature: float = Field(1.0, gt=0, description="t of the sigmoid gate on Q_c - kappa [cost value]")
    repulsion_width: float = Field(0.5, gt=0, description="distance at which the repulsion has faded [action range/2]")
    multiplier: float = Field(5.0, ge=0, description="lambda during and after the patch, held fixed")
    safe_quantile: float = Field(
        0.75, ge=0, le=1, description="kappa is at least this quantile of Q_c on keep episodes within the limit"
    )
