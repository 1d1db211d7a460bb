"""Writes the ticks that led to safe actions to files, which `saferule policy replay` decides again.

In service a fault can last for hours, so a log is written at most once in REST, and the oldest are removed.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

from rclpy.node import Node

from saferule_ros.errors import SaferuleError
from saferule_ros.nodes.background import Background
from saferule_ros.nodes.serving import ControlPath
from saferule_ros.policy import durable, flight

# A log is of some seconds and has about a megabyte: what lasts longer shows in the next one.
REST = 60.0  # [s]
KEPT = 50
OWN_NAMES = "[0-9]*T[0-9]*.[0-9]*Z.jsonl"  # nothing else in the folder is touched


class FlightLogs:
    """A folder of them.

    Args:
        node: whose log tells of one that could not be written.
        path: counts safe actions, and keeps the newest ticks.
        folder: made when the first is written.
    """

    def __init__(self, node: Node, path: ControlPath, folder: Path) -> None:
        self._node = node
        self._path = path
        self._folder = folder
        self._seen = 0  # safe actions when ticks were taken last
        self._taken = -REST  # when they were, monotonic [s]

    def look(self) -> None:
        """Writes a log, in a thread, if there were safe actions since the last one and that is long enough ago."""
        if self._path.fallbacks != self._seen and time.monotonic() - self._taken >= REST:
            entries = self.take()
            Background(self._node, "flight", lambda: self.write(entries))

    def take(self) -> list[flight.Entry]:
        """The ticks that are kept now, to be written."""
        self._seen, self._taken = self._path.fallbacks, time.monotonic()
        return self._path.flight.copy()

    def write(self, entries: list[flight.Entry]) -> None:
        """Writes a log. One that cannot be written is told of, and no fault."""
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        try:
            flight.write(entries, self._folder / f"{stamp}.jsonl")
            for old in sorted(self._folder.glob(OWN_NAMES))[:-KEPT]:
                durable.remove(old)
        except (SaferuleError, OSError) as error:
            self._node.get_logger().warning(f"the last ticks could not be written down: {error}")
