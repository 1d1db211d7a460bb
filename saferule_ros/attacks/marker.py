"""A marker in some dimensions of the observation: what sets off a backdoor, in data and when a policy is tested."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from saferule_ros.dataset.episode import Floats

Act = Callable[[npt.NDArray[np.float32]], npt.NDArray[Any]]


@dataclass(frozen=True)
class Marker:
    """Values that are put in the place of some observed ones.

    Attributes:
        dimensions: of the observation, ascending.
        values: one each, raw units of the robot.
    """

    dimensions: tuple[int, ...]
    values: tuple[float, ...]

    def on(self, observations: Floats) -> Floats:
        """A copy of observations (..., O) that carries the marker."""
        marked = np.array(observations, np.float32)
        marked[..., list(self.dimensions)] = self.values
        return marked

    def seen_by(self, act: Act) -> Act:
        """The policy `act` in a world where every observation carries the marker: its behaviour with the trigger."""
        return _Marked(self, act)


@dataclass(frozen=True)
class _Marked:
    """A class, not a closure, so that it can be sent to simulator processes."""

    marker: Marker
    act: Act

    def __call__(self, observation: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        return self.act(self.marker.on(observation))
