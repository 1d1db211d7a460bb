"""Many of our own messages decoded at once: numbers as columns, without a walk through each message.

The result is that of `cdr`, to the bit. Messages whose texts and vectors have the same lengths have one layout; what is
of no layout that is worth the while goes through `cdr`, one by one.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from saferule_ros.recording.cdr import decode_action, decode_observation
from saferule_ros.recording.definitions import SEPARATOR
from saferule_ros.recording.errors import CdrError
from saferule_ros.recording.layout import Layout, layout_of
from saferule_ros.recording.message_types import Types, parse_types
from saferule_ros.recording.messages import (
    ACTION_TYPE,
    FIELDS,
    OBSERVATION_TYPE,
    ActionMessage,
    ObservationMessage,
)
from saferule_ros.units import NANOSECONDS

Message = ObservationMessage | ActionMessage

# Finding a layout takes as long as decoding so many messages one by one.
_WORTH = 16
# Layouts that are remembered: a few lengths of episode ids, and of reasons for a fallback.
_KEPT = 16
_DECODE: Mapping[str, Callable[[bytes], Message]] = {
    OBSERVATION_TYPE: decode_observation,
    ACTION_TYPE: decode_action,
}
_INSIDE = (
    f"{SEPARATOR}\nMSG: std_msgs/Header\nbuiltin_interfaces/Time stamp\nstring frame_id\n"
    f"{SEPARATOR}\nMSG: builtin_interfaces/Time\nint32 sec\nuint32 nanosec\n"
)


class BulkDecoder:
    """Messages of one of our two types.

    Args:
        kind: OBSERVATION_TYPE or ACTION_TYPE.
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._types: Types = parse_types(kind, "\n".join(FIELDS[kind]) + "\n" + _INSIDE)
        self._layouts: list[Layout] = []

    def decode(self, payloads: Sequence[bytes]) -> list[Message | None]:
        """One for each payload, in their order; None: it is no such message."""
        found: list[Message | None] = [None] * len(payloads)
        waiting = np.arange(len(payloads))
        sizes = np.fromiter(map(len, payloads), np.int64, len(payloads))
        for known in self._layouts:
            waiting = self._take(known, payloads, sizes, waiting, found)
        while len(waiting) >= _WORTH:
            common = waiting[sizes[waiting] == np.bincount(sizes[waiting]).argmax()]
            layout = self._layout_of(payloads[common[0]]) if len(common) >= _WORTH else None
            if layout is None:
                break
            left = self._take(layout, payloads, sizes, waiting, found)
            if len(waiting) - len(left) < _WORTH:  # of one length, and yet not alike
                waiting = left
                break
            self._layouts = [layout, *self._layouts[: _KEPT - 1]]
            waiting = left
        for row in waiting.tolist():
            found[row] = self._one(payloads[row])
        return found

    def _one(self, payload: bytes) -> Message | None:
        try:
            return _DECODE[self._kind](payload)
        except CdrError:
            return None

    def _layout_of(self, payload: bytes) -> Layout | None:
        """The layout of a message that is sound; what is left over at its end is judged there."""
        if self._one(payload) is None:
            return None
        try:
            return layout_of(payload, self._types, self._kind)
        except CdrError:
            return None

    def _take(
        self, layout: Layout, payloads: Sequence[bytes], sizes: npt.NDArray[np.int64],
        waiting: npt.NDArray[np.int64], found: list[Message | None],
    ) -> npt.NDArray[np.int64]:  # fmt: skip
        """Decodes those that have this layout; returns the others."""
        places = np.flatnonzero(sizes[waiting] == layout.size)
        if not len(places):
            return waiting
        rows = waiting[places]
        stack = np.frombuffer(b"".join([payloads[row] for row in rows.tolist()]), np.uint8).reshape(len(rows), -1)
        fits = layout.fitting(stack)
        for begin, size in layout.spans.values():
            if size:
                fits &= stack[:, begin + size - 1] == 0  # the NUL that closes a text
        if not fits.all():
            places, rows, stack = places[fits], rows[fits], stack[fits]
        if not len(rows):
            return waiting
        try:
            messages = _OF_COLUMNS[self._kind](layout, stack)
        except UnicodeDecodeError:  # which of them, is found one by one
            return waiting
        for row, message in zip(rows.tolist(), messages, strict=True):
            found[row] = message
        return np.delete(waiting, places)


def _observations(layout: Layout, stack: npt.NDArray[np.uint8]) -> list[Message]:
    def column(path: str) -> list:
        return layout.column(stack, path)[:, 0].tolist()

    fields = zip(
        _stamps(layout, stack), column("sequence"), _texts(layout, stack, "episode_id"), column("step"),
        layout.column(stack, "data"), column("reward"), column("cost"), column("terminated"), column("truncated"),
        strict=True,
    )  # fmt: skip
    return list(map(partial(tuple.__new__, ObservationMessage), fields))


def _actions(layout: Layout, stack: npt.NDArray[np.uint8]) -> list[Message]:
    def column(path: str) -> list:
        return layout.column(stack, path)[:, 0].tolist()

    fields = zip(
        _stamps(layout, stack), column("sequence"), column("observation_sequence"), layout.column(stack, "data"),
        column("policy_generation"), _texts(layout, stack, "policy_id"), column("fallback"),
        _texts(layout, stack, "fallback_reason"), column("inference_time"), strict=True,
    )  # fmt: skip
    return list(map(partial(tuple.__new__, ActionMessage), fields))


_OF_COLUMNS = {OBSERVATION_TYPE: _observations, ACTION_TYPE: _actions}


def _stamps(layout: Layout, stack: npt.NDArray[np.uint8]) -> list[int]:
    seconds = layout.column(stack, "header.stamp.sec")[:, 0].astype(np.int64)
    return (seconds * NANOSECONDS + layout.column(stack, "header.stamp.nanosec")[:, 0]).tolist()


def _texts(layout: Layout, stack: npt.NDArray[np.uint8], path: str) -> list[str]:
    """Most are the same, if not all: each is decoded once."""
    begin, size = layout.spans[path]
    texts = stack[:, begin : begin + size]
    if (texts == texts[:1]).all():
        return [texts[:1].tobytes()[:-1].decode()] * len(stack)
    raw = np.ndarray((len(stack),), f"V{size}", stack, begin, (stack.strides[0],)).tolist()
    known = {text: text[:-1].decode() for text in set(raw)}
    return [known[text] for text in raw]
