"""What the learners can be told: validated, each field with its range and meaning.

`algorithm` says which learner a settings file is for; see `LearnerSettings` at the end.
"""

import math
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class TaskLimits(BaseModel):
    """What the task, not the algorithm, fixes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cost_limit: float = Field(gt=0, description="L: cost that an episode may reach [cost units]")
    horizon: int = Field(gt=0, description="T: steps in a full episode")

    def cost_value_limit(self, discount: float) -> float:
        """kappa = L (1 - gamma^T) / ((1 - gamma) T): the limit as a discounted sum. Source: OSRL."""
        return self.cost_limit * (1.0 - discount**self.horizon) / ((1.0 - discount) * self.horizon)


class CommonSettings(BaseModel):
    """What every learner can be told. The defaults suit small tasks on a robot's CPU."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hidden: int = Field(64, ge=4, le=4096, description="width of both hidden layers of critics and actor")
    batch: int = Field(256, ge=1, le=65536, description="transitions per gradient step")
    discount: float = Field(0.98, gt=0, lt=1, description="gamma, of reward and cost alike")
    target_rate: float = Field(0.005, gt=0, le=1, description="tau: share of the online networks per step")
    learning_rate: float = Field(1e-3, gt=0, lt=1, description="Adam, all networks that have no rate of their own")


class BehaviourModelSettings(CommonSettings):
    """Of the learners that hold a model of the behaviour policy (a conditional VAE)."""

    vae_hidden: int = Field(128, ge=4, le=4096, description="width of the behaviour model's hidden layers")
    divergence_weight: float = Field(0.05, ge=0, description="weight of the behaviour model's KL term (BCQ: 0.5)")


class MultiplierSettings(BaseModel):
    """Of the learners that hold the cost limit with a multiplier lambda (a capped PID controller)."""

    multiplier_start: float = Field(5.0, ge=0, description="lambda before the first step")
    multiplier_cap: float = Field(10.0, ge=0, description="largest lambda; the integral stops there (no wind-up)")
    multiplier_proportional: float = Field(0.0, ge=0, description="gain of lambda on the excess cost value")
    multiplier_integral: float = Field(0.0, ge=0, description="gain per step on its sum; 0: lambda stays as it starts")
    multiplier_derivative: float = Field(0.0, ge=0, description="gain on its increase from step to step")
    initial_states: int = Field(64, ge=1, le=65536, description="initial states on which lambda is judged per step")

    @model_validator(mode="after")
    def _start_is_within_the_cap(self) -> "MultiplierSettings":
        if self.multiplier_start > self.multiplier_cap:
            raise ValueError(f"multiplier_start {self.multiplier_start} is above multiplier_cap {self.multiplier_cap}")
        return self


class BcqLagSettings(BehaviourModelSettings, MultiplierSettings):
    """Settings of BCQ-Lag."""

    algorithm: Literal["bcq_lag"] = "bcq_lag"
    reach: float = Field(0.05, ge=0, le=1, description="largest change to a sampled action, share of its range")
    target_candidates: int = Field(4, ge=1, le=64, description="actions sampled per next state in the target")
    serving_candidates: int = Field(32, ge=1, le=256, description="fixed latents among which the policy chooses")
    critics: int = Field(4, ge=2, le=16, description="N: critics of reward, and as many of cost (BCQ: 2)")
    reward_pessimism: float = Field(
        math.sqrt(2.0) / 4.0, ge=0, le=3, description="reward is put below the critics' mean by so many deviations"
    )
    cost_pessimism: float = Field(
        math.sqrt(2.0) / 2.0, ge=0, le=3, description="cost is put above the critics' mean by so many deviations"
    )


class CoptiDiceSettings(CommonSettings, MultiplierSettings):
    """Settings of COptiDICE."""

    algorithm: Literal["copti_dice"] = "copti_dice"
    discount: float = Field(0.99, gt=0, lt=1, description="gamma, of reward and cost alike")
    alpha: float = Field(0.5, gt=0, description="weight of the divergence from the data [rewards]")
    bound_divergence: float = Field(0.01, ge=0, description="epsilon: how far from the data the cost is bounded [nat]")
    jitter: float = Field(0.1, ge=0, description="noise on cloned observations [standard scores]")
    clone_edge: float = Field(0.97, gt=0, lt=1, description="largest cloned action, share of its range")
    multiplier_start: float = Field(1.0, ge=0, description="lambda before the first step")
    multiplier_integral: float = Field(1e-3, ge=0, description="gain per step on the sum of the excess cost value")
    initial_states: int = Field(256, ge=1, le=65536, description="initial states per step")


# Of whichever algorithm the field `algorithm` names.
LearnerSettings = Annotated[BcqLagSettings | CoptiDiceSettings, Field(discriminator="algorithm")]
