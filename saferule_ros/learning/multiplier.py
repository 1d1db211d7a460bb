"""The Lagrange multiplier of the cost limit: a PID controller that is capped and does not wind up.

Source: Stooke, Achiam and Abbeel (2020), as in OSRL. [ours]: the cap, the clipped integral and that its state is part
of the checkpoint. Without them lambda grows without bound while the limit is out of reach, and comes down as slowly.
"""

from saferule_ros.errors import SettingsError
from saferule_ros.learning.settings import MultiplierSettings


class Multiplier:
    """lambda, a number in [0, cap].

    Args:
        settings: see MultiplierSettings.
    """

    def __init__(self, settings: MultiplierSettings) -> None:
        self._settings = settings
        self.value = settings.multiplier_start
        self.integral = settings.multiplier_start  # so that the first step goes on from the start
        self.last_excess = 0.0

    @property
    def adapts(self) -> bool:
        """Whether any gain is set; otherwise lambda stays where it is."""
        s = self._settings
        return max(s.multiplier_proportional, s.multiplier_integral, s.multiplier_derivative) > 0.0

    def update(self, excess: float) -> None:
        """One step of control.

        Args:
            excess: cost value above kappa; negative below it.
        """
        s = self._settings
        self.integral = self._clipped(self.integral + s.multiplier_integral * excess)
        increase = max(excess - self.last_excess, 0.0)
        self.value = self._clipped(
            self.integral + s.multiplier_proportional * excess + s.multiplier_derivative * increase
        )
        self.last_excess = excess

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
        self.value = self.integral = value
        self.last_excess = 0.0

    def restart(self, above: float) -> None:
        """Sets lambda to what it began with and so much more, within [0, cap]; control goes on from there."""
        self.hold(self._clipped(self._settings.multiplier_start + above))

    def state(self) -> dict[str, float]:
        """What a checkpoint keeps."""
        return {"value": self.value, "integral": self.integral, "last_excess": self.last_excess}

    def restore(self, state: dict[str, float]) -> None:
        """Goes on from `state()`."""
        self.value, self.integral, self.last_excess = state["value"], state["integral"], state["last_excess"]

    def _clipped(self, value: float) -> float:
        return min(max(value, 0.0), self._settings.multiplier_cap)
