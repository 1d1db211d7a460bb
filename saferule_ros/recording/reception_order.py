"""Messages of a bag in the order in which they were received, which need not be the order of its file.

The real recorder compresses message by message in several threads and writes each as it is ready; readers of rosbag2
sort by the time of reception. Here that is done on the way through, without ever holding more than a short while of a
bag: a bag may be larger than memory.
"""

from bisect import insort_right
from collections import deque
from collections.abc import Iterable, Iterator
from operator import attrgetter

from saferule_ros.recording.messages import RawMessage

# How far a message may be behind [ns]: longer than compressing the largest one takes. [ours]
SPAN = 2 * 10**9
# What is held at most [bytes]: images of two seconds may be more than memory. [ours]
MOST_BYTES = 64 * 2**20
_OBJECT = 256  # bytes that a message takes beside its payload, at least: small ones may be many

_received = attrgetter("log_time")


class ReceptionOrder:
    """Holds the newest messages back until none that was received before them can come any more."""

    def __init__(self) -> None:
        self._held: deque[RawMessage] = deque()
        self._bytes = 0
        self._given = -(2**63)  # time of the newest that was given out

    def sort(self, messages: Iterable[RawMessage]) -> Iterator[RawMessage]:
        """The next messages of the bag. What may still be overtaken stays here until `rest`."""
        held = self._held
        for message in messages:
            if message.log_time < self._given - SPAN:  # the clock was set back: what comes now is later all the same
                yield from self.rest()
            if not held or held[-1].log_time <= message.log_time:
                held.append(message)
            else:
                insort_right(held, message, key=_received)
            self._bytes += len(message.data) + _OBJECT
            due = held[-1].log_time - SPAN
            while held and (held[0].log_time < due or self._bytes > MOST_BYTES):
                yield self._next()

    def rest(self) -> Iterator[RawMessage]:
        """What was held back; then it begins anew."""
        while self._held:
            yield self._next()
        self._given = -(2**63)

    def _next(self) -> RawMessage:
        message = self._held.popleft()
        self._bytes -= len(message.data) + _OBJECT
        self._given = message.log_time
        return message
