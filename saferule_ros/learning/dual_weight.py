"""The weight of a constraint inside a loss (BEAR's and CPQ's alpha), found by dual ascent on the way.

[ours] beside the published codes: the bounds are settings, and the weight is part of the checkpoint.
"""

import math

import torch
from torch import Tensor

from saferule_ros.learning.settings import DualWeightSettings


class DualWeight:
    """alpha, a positive number within bounds; it rises while the constraint is violated and falls while it holds.

    Args:
        settings: see DualWeightSettings.
        device: where the losses are; alpha stays there, so that no step waits for its value.
    """

    def __init__(self, settings: DualWeightSettings, device: torch.device) -> None:
        self._rate = settings.alpha_rate
        self._bounds = math.log(settings.alpha_floor), math.log(settings.alpha_cap)
        self._log = torch.tensor(math.log(settings.alpha_start), device=device)
        self._violation = torch.zeros((), device=device)

    @property
    def value(self) -> Tensor:
        """alpha, a scalar without gradient."""
        return self._log.exp()

    def penalty(self, violation: Tensor) -> Tensor:
        """alpha times the violation (scalar, negative where the constraint holds): what is added to a loss.

        The violation is kept for the next `step`.
        """
        self._violation = violation.detach()
        return self.value * violation

    def step(self) -> None:
        """Gradient ascent of the last penalty in ln alpha. Source: BEAR's and CPQ's codes, as in OSRL."""
        self._log.add_(self._rate * self.value * self._violation).clamp_(*self._bounds)

    def state(self) -> dict[str, float]:
        """What a checkpoint keeps."""
        return {"log": float(self._log)}

    def restore(self, state: dict[str, float]) -> None:
        """Goes on from `state()`."""
        self._log.fill_(state["log"])
