"""The safeguard in service: watched from observation to observation, begun anew with each episode, and counted."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from saferule_ros.nodes.wire import Asked
from saferule_ros.safeguard.model import Safeguard
from saferule_ros.safeguard.monitor import Monitor


class Look(NamedTuple):
    """What a tick came to.

    Attributes:
        unsafe: where the machine is, or what is amiss, if that is unsafe; "" if not.
        read: whether the observation could be read. One that cannot is unsafe, and nobody's fault.
        looked: whether the machine took a step; where an episode is met in its middle there is none before.
    """

    unsafe: str = ""
    read: bool = True
    looked: bool = True

    @property
    def verdict(self) -> str | None:
        """`unsafe`, of what can be somebody's doing; None: nobody knows."""
        return self.unsafe if self.read and self.looked else None


class SafeguardWatch:
    """One for a control path; only its control thread calls `look`.

    Args:
        safeguard: what is watched; None: nothing, and nothing is ever amiss.

    Attributes:
        unsafe_ticks: how many were unsafe, or could not be judged.
        last_unsafe: what was said of the newest of them.
    """

    def __init__(self, safeguard: Safeguard | None) -> None:
        self.monitor = Monitor(safeguard) if safeguard is not None else None
        self.unsafe_ticks = 0
        self.last_unsafe = ""
        self._begins_anew = True

    @property
    def state(self) -> str:
        """Name of the state that the machine is in; "" where nothing is watched."""
        return self.monitor.state if self.monitor is not None else ""

    def begin_anew(self) -> None:
        """Whatever step comes next, no action led to it: it begins an episode, or service."""
        self._begins_anew = True

    def look(self, asked: Asked, before: NDArray[np.float32] | None) -> Look:
        """One tick: what the action before led to.

        Args:
            before: that action, (A,); None: there was none.
        """
        if self.monitor is None:
            return Look()
        begins_anew, self._begins_anew = self._begins_anew, False
        if asked.step == 0 or before is None or begins_anew:
            self.monitor.reset()
            return Look(looked=asked.step == 0)  # an episode begins in a state that is not unsafe
        outcome = self.monitor.step(asked.data, before)
        if not outcome.unsafe:
            return Look()
        self.unsafe_ticks += 1
        self.last_unsafe = outcome.told
        return Look(outcome.told, outcome.read)
