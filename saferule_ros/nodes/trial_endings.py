"""Tells the store how trials ended; what it cannot be told at once (a full disk, a held lock), it is told later.

Until it knows, a start brings back the policy before the trial, and patches begin with what the store calls active.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from rclpy.node import Node

from saferule_ros.errors import SaferuleError
from saferule_ros.nodes.background import Background
from saferule_ros.nodes.flight_logs import FlightLogs
from saferule_ros.nodes.policy_swap import PROBATION, Swapper
from saferule_ros.policy.places import Places
from saferule_ros.policy.swap_life import Event, State, SwapLife

# How often the store is told again what it could not be told [s].
STORE_RETRY = 5.0
# The log has at most one line about that in so long [s].
COMPLAINT_PERIOD = 60.0


class Ending(NamedTuple):
    """How the trial of a policy ended."""

    policy_id: str
    fault: str  # "": it proved good
    requester: str = PROBATION


class TrialEndings:
    """What the store was told, and is still to be told. For the executor's thread.

    Args:
        node: whose executor waits.
        swapper: tells the store.
        life: goes from reverting to steady when the store has been told, or could not be.
        flights: where the ticks that led to a fault are written.
        heard: called with the store's places when it has been told.
        changed: called with one line about each event, after it, and whether it is a fault.
    """

    def __init__(
        self, node: Node, swapper: Swapper, life: SwapLife, flights: FlightLogs, heard: Callable[[Places], None],
        changed: Callable[[str, bool], None],
    ) -> None:  # fmt: skip
        self._node = node
        self._swapper = swapper
        self._life = life
        self._flights = flights
        self._heard = heard
        self._changed = changed
        self._pending: Ending | None = None  # what the store does not know yet
        self._tried = 0.0  # when it was last told, monotonic [s]
        self.under_way: Background[Places] | None = None  # tells it now

    @property
    def complaint(self) -> str:
        """What the store does not know yet, for people; "" if it knows all."""
        if self._pending is None:
            return ""
        if self._pending.fault:
            return (
                f"{self._pending.policy_id} was taken back, which the store could not be told: there it is active "
                "until it can be, and patches begin with it"
            )
        return (
            f"{self._pending.policy_id} got through its probation, which the store could not be told: a restart brings "
            "back the one before"
        )

    @property
    def failed(self) -> str:
        """What the store still has on trial although it failed; "" if nothing."""
        return self._pending.policy_id if self._pending is not None and self._pending.fault else ""

    def expect(self, ending: Ending | None) -> None:
        """What the store is to be told at the next look; None: a later change of the store comprises what it was."""
        self._pending, self._tried = ending, 0.0

    def look(self) -> None:
        """To be called now and then: tells the store again what it could not be told."""
        if self._pending is None or self.under_way is not None or self._life.state is not State.STEADY:
            return
        if time.monotonic() - self._tried >= STORE_RETRY:
            self._follow_later(self._pending, again=True)

    def tell(self, ending: Ending) -> None:
        """Tells the store, beside all else."""
        self._follow_later(ending, again=False)

    async def told(self, ending: Ending) -> bool:
        """Tells the store, and waits for that; whether it could be told."""
        return await self._follow(self._begin(ending, again=False), ending, again=False)

    def _follow_later(self, ending: Ending, again: bool) -> None:
        telling = self._begin(ending, again)
        assert self._node.executor is not None
        self._node.executor.create_task(self._follow, telling, ending, again)

    def _begin(self, ending: Ending, again: bool) -> Background[Places]:
        self._pending, self._tried = ending, time.monotonic()
        name = "prove_bad" if ending.fault else "prove_good"
        self.under_way = telling = Background(self._node, name, lambda: self._tell(ending, again))
        return telling

    def _tell(self, ending: Ending, again: bool) -> Places:
        """In a thread: the store first, then the log of the ticks that led to it."""
        if not ending.fault:
            return self._swapper.prove_good(ending.policy_id)
        entries = [] if again else self._flights.take()
        try:
            return self._swapper.prove_bad(ending.policy_id, ending.fault, ending.requester)
        finally:
            if entries:
                self._flights.write(entries)

    async def _follow(self, telling: Background[Places], ending: Ending, again: bool) -> bool:
        """Waits until the store has been told, or could not be. Again: the swap's life has gone on without that."""
        reverting = bool(ending.fault) and not again
        try:
            places = await telling.done()
        except (SaferuleError, OSError) as error:
            complaint = f"the store could not be told how the probation ended: {error}"
            if reverting:
                self._life.on(Event.REFUSED)
            if again:
                self._node.get_logger().warning(complaint, throttle_duration_sec=COMPLAINT_PERIOD)
            else:
                self._changed(complaint, True)
            return False
        finally:
            self.under_way = None
        if self._pending is ending:
            self._pending = None
        if reverting:
            self._life.on(Event.DONE)
        self._heard(places)
        self._changed(f"{places.active} is active in the store", False)
        return True
