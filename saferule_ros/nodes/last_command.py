"""The command that went out last: what the robot does now, as far as this side knows."""

import numpy as np
from numpy.typing import NDArray

from saferule_ros.policy.failsafe import Limits, Reaction, react
from saferule_ros.units import NANOSECONDS

# For so long a robot goes on with its last command, where nobody says otherwise [s]: less than the 0.3 s after which
# the ready contract of a differential drive stops it, and enough for a fallback to begin at 10 Hz or more [ours].
DAMP_WITHIN = 0.2


class LastCommand:
    """What was commanded last, by whom and when.

    Times are of a clock that never goes back [ns].

    Args:
        damp_within: so long after a command [s] the robot surely carries it out still.
    """

    def __init__(self, damp_within: float = DAMP_WITHIN) -> None:
        self.action: NDArray[np.float32] | None = None  # (A,)
        self.by_policy = False
        self._damp_within = damp_within
        self._at: int | None = None  # when it went out; None: an episode has ended since

    def is_now(self, action: NDArray[np.float32] | None, by_policy: bool) -> None:
        """Another command is the last one, of ours or of whoever commands in our place."""
        self.action, self.by_policy = action, by_policy

    def goes_out(self, at: int) -> None:
        """One of ours is on its way."""
        self._at = at

    def ends(self) -> None:
        """The robot has stopped by itself, as it does at the end of an episode."""
        self._at = None

    def at_rest(self, now: int, later_s: float = 0.0) -> bool:
        """Whether the robot may have stopped by itself since, or will have `later_s` [s] from now.

        This side knows only how long ago that was, not when the robot gives up waiting: where it may have, a share of
        the last command would make it drive again. Zero is the only safe start then.
        """
        return self._at is None or now - self._at > (self._damp_within - later_s) * NANOSECONDS

    def safe_next(self, limits: Limits, now: int, later_s: float = 0.0) -> NDArray[np.float32]:
        """What somebody else who begins `later_s` [s] from now has to send, (A,)."""
        return react(limits, limits.reaction, self.action, self.at_rest(now, later_s))


def damping_of(limits: Limits) -> float:
    """What whoever sends a safe action again has to multiply it with, each time."""
    return limits.damping if limits.reaction is Reaction.DAMP else 1.0
