"""What a policy takes, gives and was made for: the contract between policy and robot."""

from typing import Any, Literal

import numpy as np
import pydantic
from pydantic import BaseModel, ConfigDict, Field, ModelWrapValidatorHandler, model_validator

from saferule_ros.policy.errors import SpecError

# An action may leave its bounds by this share of their range: low + (a + 1) / 2 * (high - low) in float32
# rounds to an ulp or two (2.4e-7 of the range) outside [ours].
BOUND_SLACK = 1e-6

_VECTORS = (
    "action_low", "action_high", "action_names", "action_units",
    "observation_low", "observation_high", "observation_names", "observation_units",
)  # fmt: skip

# No robot has vectors this long; a larger number is a typing error and would only cost memory.
MAX_SIZE = 100_000


class PolicySpec(BaseModel):
    """Sizes, bounds, rate and task of a policy. Raises SpecError, which names the field and the value.

    Observations and actions are float32 vectors in raw units of the robot.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    observation_size: int = Field(ge=1, le=MAX_SIZE, description="length O of the observation vector")
    action_size: int = Field(ge=1, le=MAX_SIZE, description="length A of the action vector")
    action_low: tuple[float, ...] = Field(description="smallest allowed action, (A,), raw units")
    action_high: tuple[float, ...] = Field(description="largest allowed action, (A,), raw units")
    control_rate: float = Field(gt=0.0, description="ticks per second [Hz]")
    task: str = Field(min_length=1, description="name of the task, e.g. SafetyPointCircle1-v0")
    cost_limit: float = Field(ge=0.0, description="largest allowed episode cost, task units")
    dtype: Literal["float32"] = Field(default="float32", description="of observations and actions")
    observation_names: tuple[str, ...] = Field(default=(), description="what each number is, (O,); empty: not said")
    observation_units: tuple[str, ...] = Field(default=(), description="unit of each number, (O,); empty: not said")
    observation_low: tuple[float, ...] = Field(default=(), description="smallest the sensor gives, (O,)")
    observation_high: tuple[float, ...] = Field(default=(), description="largest the sensor gives, (O,)")
    action_names: tuple[str, ...] = Field(default=(), description="what each command moves, (A,); empty: not said")
    action_units: tuple[str, ...] = Field(default=(), description="unit of each command, (A,); empty: not said")

    @model_validator(mode="wrap")
    @classmethod
    def _validate(cls, data: Any, handler: ModelWrapValidatorHandler["PolicySpec"]) -> "PolicySpec":
        try:
            spec = handler(data)
        except pydantic.ValidationError as error:
            raise SpecError(f"policy specification is invalid: {explain(error)}", "Correct it") from error
        for name in _VECTORS:
            size = spec.action_size if name.startswith("action") else spec.observation_size
            required = name in ("action_low", "action_high")
            if len(getattr(spec, name)) != size and (required or getattr(spec, name)):
                kind = name.split("_")[0]
                raise SpecError(
                    f"policy specification is invalid: {name} has {len(getattr(spec, name))} entries "
                    f"but {kind}_size is {size}",
                    f"Give one entry per {kind} to {name}",
                )
        for index, (low, high) in enumerate(zip(spec.action_low, spec.action_high, strict=True)):
            if not low < high:
                raise SpecError(
                    f"policy specification is invalid: action {index} has low {low:g} >= high {high:g}",
                    "Give bounds with low < high",
                )
            if not low <= 0.0 <= high:
                raise SpecError(
                    f"policy specification is invalid: zero, every reaction's last resort, is out of bounds "
                    f"{low:g}..{high:g} of action {index}",
                    "Shift the action so that zero is a safe command: a contract's action has an offset for that",
                )
        return spec

    @property
    def low(self) -> np.ndarray:
        """Smallest allowed action, float32 (A,)."""
        return np.asarray(self.action_low, np.float32)

    @property
    def high(self) -> np.ndarray:
        """Largest allowed action, float32 (A,)."""
        return np.asarray(self.action_high, np.float32)

    @property
    def slack(self) -> np.ndarray:
        """By how much a rounded action may leave its bounds, float32 (A,)."""
        return (BOUND_SLACK * (self.high - self.low)).astype(np.float32)

    def differences(self, other: "PolicySpec") -> list[str]:
        """Names, with both values (their beginning), of the fields in which `other` is a different contract."""
        return [
            f"{name} {getattr(self, name)!r:.200} != {getattr(other, name)!r:.200}"
            for name in type(self).model_fields
            if getattr(self, name) != getattr(other, name)
        ]


def explain(error: pydantic.ValidationError) -> str:
    """A pydantic error as one line: field, message, value."""
    return "; ".join(
        f"{'.'.join(str(part) for part in item['loc']) or 'value'}: {item['msg']} (got {item['input']!r:.80})"
        for item in error.errors()
    )
