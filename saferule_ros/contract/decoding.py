"""Messages of one source into samples: a time and numbers each. Live one by one, from bags many at once: same code."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from saferule_ros.contract.model import Clock
from saferule_ros.contract.paths import FieldPath
from saferule_ros.recording.layout import Layout, batches
from saferule_ros.recording.message_types import Types
from saferule_ros.units import NANOSECONDS

# Layouts of a topic whose selections are kept: more than a robot's messages ever alternate between.
_KEPT_LAYOUTS = 16
_STAMP = ("header.stamp.sec", "header.stamp.nanosec")


class Sample(NamedTuple):
    """One message: `values` (K,) float64 as they stand in it, or `problem` says why there are none."""

    time: int
    values: npt.NDArray[np.float64] | None
    problem: str = ""


@dataclass(frozen=True)
class Reading:
    """What is read of the messages of a topic: see `model.Source`, whose words these are."""

    type: str
    fields: tuple[FieldPath, ...]
    joints: tuple[str, ...] = ()
    joint_names: str = ""
    size: int | None = None
    time: Clock | None = None
    clip: tuple[float, float] | None = None


class Decoder:
    """Samples of one topic.

    Args:
        reading: what is read.
        types: definitions of the topic's type and those inside.
    """

    def __init__(self, reading: Reading, types: Types) -> None:
        self._reading, self._types = reading, types
        self._size = reading.size
        self._known: Layout | None = None
        self._selections: dict[int, tuple[Layout, list[tuple[str, npt.NDArray[np.intp]]] | str]] = {}

    def decode(self, payloads: Sequence[bytes], received: Sequence[int]) -> list[Sample]:
        """One sample for each message, in their order.

        Args:
            payloads: CDR bytes.
            received: when each came [ns].
        """
        found: list[Sample] = [Sample(time, None, "") for time in received]
        for batch in batches(payloads, self._types, self._reading.type, self._known):
            if batch.layout is None:
                row = int(batch.rows[0])
                found[row] = Sample(received[row], None, f"malformed: {batch.error}")
                continue
            self._known = batch.layout
            times, problem = self._times(batch.layout, batch.payloads)
            selection = self._selection(batch.layout)
            if isinstance(selection, str) or problem:
                for position, row in enumerate(batch.rows):
                    text = selection if isinstance(selection, str) else problem
                    found[row] = Sample(int(times[position]) if times is not None else received[row], None, text)
                continue
            values = self._values(batch.layout, batch.payloads, selection)
            finite = np.all(np.isfinite(values), axis=1).tolist()
            for position, row in enumerate(batch.rows):
                time = int(times[position]) if times is not None else received[row]
                if times is not None and not time:
                    found[row] = Sample(received[row], None, "its stamp is 0; set time: received")
                elif finite[position]:
                    found[row] = self._sized(time, values[position])
                else:
                    found[row] = Sample(time, None, "non-finite")
        return found

    def _sized(self, time: int, values: npt.NDArray[np.float64]) -> Sample:
        self._size = len(values) if self._size is None else self._size
        if len(values) != self._size:
            return Sample(time, None, f"wrong size: {len(values)} numbers, expected {self._size}")
        return Sample(time, values)

    def _times(self, layout: Layout, payloads: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.int64] | None, str]:
        """Stamps [ns], or None where the time of reception counts."""
        has_header = all(path in layout.leaves for path in _STAMP)
        if self._reading.time is Clock.RECEIVED or (self._reading.time is None and not has_header):
            return None, ""
        if not has_header:
            return None, "it has no header; set time: received"
        seconds, nanoseconds = (layout.column(payloads, path)[:, 0].astype(np.int64) for path in _STAMP)
        return seconds * NANOSECONDS + nanoseconds, ""

    def _values(
        self, layout: Layout, payloads: npt.NDArray[np.uint8], selection: list[tuple[str, npt.NDArray[np.intp]]]
    ) -> npt.NDArray[np.float64]:
        columns = [layout.column(payloads, path)[:, entries].astype(np.float64) for path, entries in selection]
        values = np.concatenate(columns, axis=1) if columns else np.zeros((len(payloads), 0))
        return values if self._reading.clip is None else np.clip(values, *self._reading.clip)

    def _selection(self, layout: Layout) -> list[tuple[str, npt.NDArray[np.intp]]] | str:
        """Which numbers of this layout, or why they are not there."""
        known = self._selections.get(id(layout))
        if known is None:
            try:
                known = (layout, select(layout, self._reading))
            except LookupError as error:
                known = (layout, str(error.args[0]))
            if len(self._selections) >= _KEPT_LAYOUTS:
                self._selections.clear()
            self._selections[id(layout)] = known
        return known[1]


def select(layout: Layout, reading: Reading) -> list[tuple[str, npt.NDArray[np.intp]]]:
    """(path of a leaf, which of its numbers), in the order of the reading.

    Raises:
        LookupError: a field, an entry or a joint is not in messages of this layout.
    """
    found = []
    for field in reading.fields:
        for path in _leaves(layout, field):
            size = layout.leaves[path].size
            if reading.joints:
                entries = _joints(layout, reading, size)
            else:
                try:
                    entries = field.entries(size)
                except IndexError:
                    raise LookupError(f"{field.text} is not there: {path} has {size} entries") from None
            found.append((path, np.array(entries, np.intp)))
    return found


def _leaves(layout: Layout, field: FieldPath) -> list[str]:
    if field.base in layout.leaves:
        return [field.base]
    inside = [path for path in layout.leaves if path.startswith(f"{field.base}.")]
    if not inside or field.index is not None:
        why = "is a text" if field.base in layout.texts else "is not in the message"
        raise LookupError(f"{field.text} {why}")
    return inside


def _joints(layout: Layout, reading: Reading, size: int) -> list[int]:
    names = layout.texts.get(reading.joint_names, ())
    for joint in reading.joints:
        if joint not in names:
            raise LookupError(f"joint {joint!r} is not in the message; it has {', '.join(names) or 'no names'}")
    entries = [names.index(joint) for joint in reading.joints]
    if max(entries) >= size:
        raise LookupError(f"{size} numbers for {len(names)} joints")
    return entries
