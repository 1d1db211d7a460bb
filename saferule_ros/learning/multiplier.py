"""The Lagrange multiplier of the cost limit: a PID controller that is capped and does not wind up.

Its numbers are tensors where the losses are, so that no step waits for them and steps can be captured.

Source: Stooke, Achiam and Abbeel (2020), as in OSRL. [ours]: the cap, the clipped integral and that its state is part
of the checkpoint. Without them lambda grows without bound while the limit is out of reach, and comes down as slowly.
"""

import torch
from torch import Tensor

from saferule_ros.errors import SettingsError
from saferule_ros.learning.settings import MultiplierSettings


class Multiplier:
    """lambda, a number in [0, cap].

    Args:
        settings: see MultiplierSettings.
        device: where the losses are.

    Attributes:
        value: lambda, a scalar in double precision: beside a vector it takes the vector's.
    """

    def __init__(self, settings: MultiplierSettings, device: torch.device) -> None:
        def scalar(value: float) -> Tensor:
            return torch.tensor(value, dtype=torch.float64, device=device)

        self._settings = settings
        self.value = scalar(settings.multiplier_start)
        self._integral = scalar(settings.multiplier_start)  # so that the first step goes on from the start
        self._last_excess = scalar(0.0)

    @property
    def adapts(self) -> bool:
        """Whether any gain is set; otherwise lambda stays where it is."""
        s = self._settings
        return max(s.multiplier_proportional, s.multiplier_integral, s.multiplier_derivative) > 0.0

    def update(self, excess: Tensor) -> None:
        """One step of control.

        Args:
            excess: cost value above kappa, a scalar in double precision; negative below it.
        """
        s = self._settings
        self._integral.add_(s.multiplier_integral * excess).clamp_(0.0, s.multiplier_cap)
        increase = (excess - self._last_excess).clamp(min=0.0)
        moved = self._integral + s.multiplier_proportional * excess + s.multiplier_derivative * increase
        self.value.copy_(moved.clamp(0.0, s.multiplier_cap))
        self._last_excess.copy_(excess)

    def hold(self, value: float) -> None:
        """Sets lambda; control goes on from there.

        Raises:
            SettingsError: outside [0, cap].
        """
        if value != self._clipped(value):
            raise SettingsError(
                f"multiplier {value:g} is outside 0 to this learner's multiplier_cap {self._settings.multiplier_cap:g}",
                "Choose one within, or learn with a larger cap",
            )
        self.restore({"value": value, "integral": value, "last_excess": 0.0})

    def restart(self, above: float) -> None:
        """Sets lambda to what it began with and so much more, within [0, cap]; control goes on from there."""
        self.hold(self._clipped(self._settings.multiplier_start + above))

    def state(self) -> dict[str, float]:
        """What a checkpoint keeps."""
        return {name: float(number) for name, number in self._numbers().items()}

    def restore(self, state: dict[str, float]) -> None:
        """Goes on from `state()`."""
        for name, number in self._numbers().items():
            number.fill_(state[name])

    def _numbers(self) -> dict[str, Tensor]:
        return {"value": self.value, "integral": self._integral, "last_excess": self._last_excess}

    def _clipped(self, value: float) -> float:
        return min(max(value, 0.0), self._settings.multiplier_cap)
