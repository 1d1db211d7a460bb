"""A subscription that takes messages as raw bytes, all that wait at once."""

from collections.abc import Callable, Mapping
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile

# One wake-up of the executor costs as much as taking some tens of messages. Not more than this many at a
# time, so that the other topic and the services get their turn.
BATCH = 256


class Intake:
    """Feeds `take` with the CDR bytes of a topic, in the order of reception."""

    def __init__(self, node: Node, kind: type, topic: str, profile: QoSProfile, take: Callable[[bytes], None]) -> None:
        self._kind = kind
        self._take = take
        self._subscription = node.create_subscription(kind, topic, self._received, profile, raw=True)

    @property
    def topic(self) -> str:
        """Full name of the topic, remapping applied."""
        return str(self._subscription.topic_name)

    def drain(self, limit: int | None = None) -> int:
        """Takes what has arrived and was not handed out yet; returns how many messages that were."""
        taken = 0
        while limit is None or taken < limit:
            found = self._next()
            if found is None:
                break
            self._take(found[0])
            taken += 1
        return taken

    def drain_until(self, sent: int) -> bool:
        """Like drain, but only what was sent up to a time [ns since 1970]; True once a later message came (and was left
        out): all before it have been handed out, since a publisher's messages arrive in their order."""
        while (found := self._next()) is not None:
            if found[1]["source_timestamp"] > sent:
                return True
            self._take(found[0])
        return False

    def _next(self) -> tuple[bytes, Mapping[str, Any]] | None:
        # What the executor itself calls; it has no public name in rclpy, from Humble to Kilted.
        return self._subscription.handle.take_message(self._kind, True)

    def _received(self, payload: bytes) -> None:
        self._take(payload)
        self.drain(BATCH)
