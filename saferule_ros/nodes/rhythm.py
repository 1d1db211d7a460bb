"""When the next message is due, told by those before it."""

from __future__ import annotations

import math


class Rhythm:
    """Says when to get ready for the next message: once for each, a lead before it is due.

    Messages are expected to come as far apart as the last two did. Nothing is expected where those came so close
    together that getting ready would be late. A wrong guess costs a moment of work that was in vain.

    Args:
        lead: [s]; 0: never.
    """

    def __init__(self, lead: float) -> None:
        self._lead = lead
        self._newest = -math.inf
        self.ready_at = math.inf  # the clock of `came` [s]

    def came(self, now: float) -> None:
        """A message came."""
        interval = now - self._newest
        self._newest = now
        expects = self._lead > 0.0 and self._lead < interval < math.inf
        self.ready_at = now + interval - self._lead if expects else math.inf

    def is_time(self, now: float) -> bool:
        """Whether to get ready now."""
        if now < self.ready_at:
            return False
        self.ready_at = math.inf
        return True
