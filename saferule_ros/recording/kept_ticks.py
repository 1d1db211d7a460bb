"""The beginning of a long episode, as columns on disk: ticks at which nothing can change any more."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from saferule_ros.recording.messages import ActionMessage, ObservationMessage
from saferule_ros.recording.overflow import Overflow


class KeptTicks:
    """Transitions from step 0 on, without a hole.

    Attributes:
        length: how many there are.
        policy_ids: that acted, in order of first appearance.
        fallbacks: commands that were the declared safe action.

    Args:
        folder: see `Overflow`.
    """

    def __init__(self, folder: Path | None) -> None:
        self.length = 0
        self.policy_ids: dict[str, None] = {}
        self.fallbacks = 0
        self._sizes = (0, 0)
        names = ("observations", "actions", "rewards", "costs", "stamps")
        self._columns = {name: Overflow(folder) for name in names}

    @property
    def held(self) -> int:
        """Bytes in memory."""
        return sum(column.held for column in self._columns.values())

    def add(self, observation: ObservationMessage, action: ActionMessage, outcome: ObservationMessage) -> None:
        """The next transition: what was seen, what was done, and the observation that it led to."""
        self._columns["observations"].add(_floats(observation.data))
        self._columns["actions"].add(_floats(action.data))
        self._columns["rewards"].add(_floats(outcome.reward))
        self._columns["costs"].add(_floats(outcome.cost))
        self._columns["stamps"].add(np.int64(observation.stamp).tobytes())
        self._sizes = len(observation.data), len(action.data)
        self.length += 1
        if action.policy_id:
            self.policy_ids.setdefault(action.policy_id)
        self.fallbacks += action.fallback

    def columns(self, last: ObservationMessage) -> dict[str, npt.NDArray]:
        """Columns of an `Episode`, which `last` ends; mapped from the files. Nothing can be added any more."""
        self._columns["observations"].add(_floats(last.data))
        entries = {"observations": (self._sizes[0],), "actions": (self._sizes[1],)}
        return {
            name: column.rows(np.int64 if name == "stamps" else np.float32, *entries.get(name, ()))
            for name, column in self._columns.items()
        }


def _floats(values: npt.NDArray[np.float32] | float) -> bytes:
    return np.asarray(values, np.float32).tobytes()
