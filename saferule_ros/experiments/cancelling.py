"""How long work is told to stop: it keeps what it has, and says so."""

from collections.abc import Callable

from saferule_ros.errors import SaferuleError

# Asked before every gradient step and every episode.
Cancelled = Callable[[], bool]


class TrialCancelled(SaferuleError):
    """A trial was told to stop. What it had finished is on disk, and long training can be gone on with."""
