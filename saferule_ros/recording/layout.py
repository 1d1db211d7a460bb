"""Where the fields of a serialized message lie, and many messages of one layout decoded at once.

Messages of one topic nearly always have the same layout: the lengths of arrays and strings in them do not change. It is
found by walking through the first one; the next ones are only compared with it in the few bytes that hold those
lengths, and their numbers are read as columns, without an object per message.

Source: OMG DDS-XTypes 1.3, clause 7.4 (plain CDR, version 1: alignment counts from the byte after the header).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from saferule_ros.recording.errors import CdrError
from saferule_ros.recording.message_types import NUMBERS, SCALAR, SEQUENCE, STRINGS, Types

HEADER = 4  # bytes: representation and options
_ORDERS = {b"\x00\x00": ">", b"\x00\x01": "<"}
# A payload may be padded to a multiple of 4; and rmw_fastrtps, asked to serialize, guesses a size that counts the
# widest alignment at each length, and leaves what it did not need at the end.
_PADDING, _GUESSED = 3, 8
# Structures inside each other; the deepest of the common interfaces have 6. Beyond it, a definition is a trap.
_DEEPEST = 32


@dataclass(frozen=True)
class Leaf:
    """Numbers that lie together: `count` of them from byte `offset` on; -1 for a single one."""

    offset: int
    dtype: np.dtype
    count: int

    @property
    def size(self) -> int:
        """How many numbers: 1 for a single one."""
        return 1 if self.count == SCALAR else self.count


@dataclass
class Layout:
    """Of messages with the same type, byte order, and lengths of arrays and strings.

    Attributes:
        size: bytes of a payload.
        leaves: path -> numbers; paths as in Python: "position", "pose.pose.position.x", "points[0].positions".
        texts: path -> text, of single strings only as in the first message; of arrays of strings ("name") in all.
        spans: path -> (offset, bytes) of single strings, with their closing NUL.
        lengths: path -> number of entries of an array of messages.
        skeleton: (offset, bytes) that all messages of this layout share.
    """

    size: int = 0
    leaves: dict[str, Leaf] = field(default_factory=dict)
    texts: dict[str, tuple[str, ...]] = field(default_factory=dict)
    spans: dict[str, tuple[int, int]] = field(default_factory=dict)
    lengths: dict[str, int] = field(default_factory=dict)
    skeleton: list[tuple[int, bytes]] = field(default_factory=list)

    def fits(self, payload: bytes) -> bool:
        """Whether a message has this layout."""
        return len(payload) == self.size and all(
            payload[offset : offset + len(expected)] == expected for offset, expected in self.skeleton
        )

    def fitting(self, payloads: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
        """Which of many messages (n, size) have this layout."""
        found = np.ones(len(payloads), np.bool_)
        for offset, expected in self.skeleton:
            # As one value of so many bytes each: compared at the speed of memory.
            whole = np.dtype(f"V{len(expected)}")
            piece = np.ndarray((len(payloads),), whole, payloads, offset, (payloads.strides[0],))
            found &= piece == np.frombuffer(expected, whole)[0]
        return found

    def column(self, payloads: npt.NDArray[np.uint8], path: str) -> npt.NDArray:
        """The numbers at a path: a view (n, count) of contiguous payloads (n, size)."""
        leaf = self.leaves[path]
        return np.ndarray(
            (len(payloads), leaf.size), leaf.dtype, payloads, leaf.offset, (payloads.strides[0], leaf.dtype.itemsize)
        )


def layout_of(payload: bytes, types: Types, type_name: str) -> Layout:
    """Walks through one message.

    Raises:
        CdrError: the bytes are cut, too long, or of another type.
    """
    walk = _Walk(payload, types)
    walk.structure(type_name, "", 0)
    left = len(payload) - walk.at
    # A message without fields is sent as one byte.
    if left > _PADDING + _GUESSED * len(walk.fixed) + (not types[type_name]):
        raise CdrError(f"{left} bytes are left over after a {type_name}", _OTHER_VERSION)
    layout = walk.layout
    layout.size = len(payload)
    layout.skeleton = _merged(walk.fixed, payload)
    return layout


def batches(payloads: Sequence[bytes], types: Types, type_name: str, known: Layout | None = None) -> "list[Batch]":
    """Messages of one type, put together by layout.

    Args:
        payloads: in any order and of any layouts.
        known: the layout that most of them probably have: of the batch before.

    Returns:
        Batches in the order in which their layouts first appear; of malformed messages one with an error each.
    """
    found: list[Batch] = []
    waiting = np.arange(len(payloads))
    sizes = np.fromiter(map(len, payloads), np.int64, len(payloads))
    layout = known
    while len(waiting):
        if layout is None:
            try:
                layout = layout_of(payloads[waiting[0]], types, type_name)
            except CdrError as error:
                found.append(Batch(waiting[:1], None, _stacked([]), error.what))
                waiting = waiting[1:]
                continue
        candidates = waiting[sizes[waiting] == layout.size]
        all_alike = len(candidates) == len(payloads)
        stack = _stacked(payloads if all_alike else [payloads[index] for index in candidates])
        fitting = layout.fitting(stack) if len(candidates) else np.zeros(0, np.bool_)
        if fitting.any():
            found.append(Batch(candidates[fitting], layout, stack if fitting.all() else stack[fitting]))
            waiting = np.setdiff1d(waiting, candidates[fitting], assume_unique=True)
        layout = None
    return found


@dataclass(frozen=True)
class Batch:
    """Messages `rows` of those given: their layout and bytes (n, size), or what is wrong with the one."""

    rows: npt.NDArray[np.int64]
    layout: Layout | None
    payloads: npt.NDArray[np.uint8]
    error: str = ""


def _stacked(payloads: Sequence[bytes]) -> npt.NDArray[np.uint8]:
    if not payloads:
        return np.zeros((0, 0), np.uint8)
    return np.frombuffer(b"".join(payloads), np.uint8).reshape(len(payloads), -1)


def _merged(fixed: list[tuple[int, int]], payload: bytes) -> list[tuple[int, bytes]]:
    """Ranges that touch each other become one: fewer comparisons."""
    ranges: list[list[int]] = []
    for begin, end in fixed:
        if ranges and ranges[-1][1] == begin:
            ranges[-1][1] = end
        else:
            ranges.append([begin, end])
    return [(begin, payload[begin:end]) for begin, end in ranges]


_OTHER_VERSION = "Are publisher and reader built from the same version of the messages?"


class _Walk:
    """Goes through one payload, type by type, and notes where everything lies."""

    def __init__(self, payload: bytes, types: Types) -> None:
        order = _ORDERS.get(payload[:2])
        if order is None or len(payload) < HEADER:
            raise CdrError(
                f"a payload begins with {payload[:HEADER].hex() or 'nothing'}",
                "Expected plain CDR (0000 or 0001 first), as the usual ROS middlewares write it",
            )
        self.layout = Layout()
        self.fixed = [(0, 2)]
        self.at = HEADER
        self._payload, self._types, self._order = payload, types, order
        self._length = np.dtype(f"{order}u4")

    def structure(self, type_name: str, prefix: str, depth: int) -> None:
        if depth > _DEEPEST:
            raise CdrError(f"{type_name} lies more than {_DEEPEST} structures deep", "Such a message is not read")
        for name, kind, length in self._types[type_name]:
            path = prefix + name
            count = self._count(path) if length == SEQUENCE else length
            if kind in NUMBERS:
                self._numbers(path, NUMBERS[kind], count)
            elif kind in STRINGS:
                wide = kind == "wstring"
                texts = [self._text(path, wide, count != SCALAR) for _ in range(1 if count == SCALAR else count)]
                self.layout.texts[path] = tuple(texts)
            elif count == SCALAR:
                self.structure(kind, f"{path}.", depth + 1)
            else:
                self.layout.lengths[path] = count
                for number in range(count):
                    self.structure(kind, f"{path}[{number}].", depth + 1)

    def _count(self, path: str) -> int:
        """Length of a sequence or string: one of the bytes that make the layout."""
        self._align(4)
        self._need(4, path)
        count = int(np.frombuffer(self._payload, self._length, 1, self.at)[0])
        self.fixed.append((self.at, self.at + 4))
        self.at += 4
        # Every entry takes a byte at least; a damaged length must not make us count for hours.
        self._need(count, path)
        return count

    def _numbers(self, path: str, dtype: np.dtype, count: int) -> None:
        size = 1 if count == SCALAR else count
        if size:  # nothing is aligned for an empty sequence
            self._align(dtype.itemsize)
        self._need(size * dtype.itemsize, path)
        self.layout.leaves[path] = Leaf(self.at, dtype.newbyteorder("<" if self._order == "<" else ">"), count)
        self.at += size * dtype.itemsize

    def _text(self, path: str, wide: bool, is_fixed: bool) -> str:
        size = self._count(path) * (2 if wide else 1)
        self._need(size, path)
        content = self._payload[self.at : self.at + size]
        if not is_fixed:
            self.layout.spans[path] = (self.at, size)
        elif size:
            self.fixed.append((self.at, self.at + size))
        self.at += size
        encoding = ("utf-16-le" if self._order == "<" else "utf-16-be") if wide else "utf-8"
        return content.decode(encoding, errors="replace").rstrip("\0")

    def _align(self, size: int) -> None:
        self.at += -(self.at - HEADER) % size

    def _need(self, size: int, path: str) -> None:
        left = len(self._payload) - self.at
        if size > left:
            raise CdrError(f"{path} reaches {size - left} bytes beyond the end of {len(self._payload)}", _OTHER_VERSION)
