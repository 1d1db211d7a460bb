"""Decodes our two messages from CDR (XCDR version 1, either byte order), the format of ROS 2 on the wire.

Source: OMG DDS-XTypes 1.3, clause 7.4 (encapsulation header, alignment counted from the byte after it).
"""

import struct

import numpy as np

from saferule_ros.recording.errors import CdrError
from saferule_ros.recording.messages import ActionMessage, ObservationMessage

_HEADER = 4  # encapsulation: two bytes representation, two bytes options; alignment counts from here
_BYTE_ORDERS = {b"\x00\x00": ">", b"\x00\x01": "<"}
_PADDING = 3  # a payload is padded to a multiple of 4
_NANOSECONDS = 10**9


class _Cursor:
    """Walks through one payload. Every read checks that the bytes are there (struct and slices do)."""

    __slots__ = ("at", "bytes", "order")

    def __init__(self, payload: bytes) -> None:
        order = _BYTE_ORDERS.get(payload[:2])
        if order is None or len(payload) < _HEADER:
            raise CdrError(
                f"a payload begins with {payload[:_HEADER].hex() or 'nothing'}",
                "Expected plain CDR (0000 or 0001 first), as the usual ROS middlewares write it",
            )
        self.bytes, self.order, self.at = payload, order, _HEADER

    def values(self, layout: str, alignment: int) -> tuple:
        """Fixed-size fields that follow each other without padding between them."""
        self.at += -(self.at - _HEADER) % alignment
        found = struct.unpack_from(self.order + layout, self.bytes, self.at)
        self.at += struct.calcsize(self.order + layout)
        return found

    def string(self) -> str:
        (size,) = self.values("I", 4)
        end = self.at + size
        if end > len(self.bytes):
            raise ValueError(f"a string of {size} bytes reaches beyond the end")
        text = self.bytes[self.at : end]
        self.at = end
        # The length counts a closing NUL; an empty string may come without.
        if size and text[-1]:
            raise ValueError("a string does not end with NUL")
        return text[:-1].decode()

    def floats(self) -> np.ndarray:
        (size,) = self.values("I", 4)
        found = np.frombuffer(self.bytes, dtype=self.order + "f4", count=size, offset=self.at)
        self.at += 4 * size
        return found

    def stamp(self) -> int:
        """std_msgs/Header; its frame_id is of no use here."""
        seconds, nanoseconds = self.values("iI", 4)
        self.string()
        return seconds * _NANOSECONDS + nanoseconds

    def finish(self) -> None:
        left = len(self.bytes) - self.at
        if left > _PADDING:
            raise ValueError(f"{left} bytes are left over")


def decode_observation(payload: bytes) -> ObservationMessage:
    """Decodes a msg/Observation. The vector is a view of `payload`.

    Raises:
        CdrError: the bytes are cut, too long, or of another type.
    """
    cursor = _Cursor(payload)
    try:
        stamp = cursor.stamp()
        (sequence,) = cursor.values("Q", 8)
        episode_id = cursor.string()
        (step,) = cursor.values("I", 4)
        data = cursor.floats()
        reward, cost, terminated, truncated = cursor.values("ff??", 4)
        cursor.finish()
    except (struct.error, ValueError) as error:
        raise _not_a("msg/Observation", payload, error) from error
    return ObservationMessage(stamp, sequence, episode_id, step, data, reward, cost, terminated, truncated)


def decode_action(payload: bytes) -> ActionMessage:
    """Decodes a msg/Action. The vector is a view of `payload`.

    Raises:
        CdrError: the bytes are cut, too long, or of another type.
    """
    cursor = _Cursor(payload)
    try:
        stamp = cursor.stamp()
        sequence, observation_sequence = cursor.values("QQ", 8)
        data = cursor.floats()
        (policy_generation,) = cursor.values("Q", 8)
        policy_id = cursor.string()
        (fallback,) = cursor.values("?", 1)
        fallback_reason = cursor.string()
        (inference_time,) = cursor.values("f", 4)
        cursor.finish()
    except (struct.error, ValueError) as error:
        raise _not_a("msg/Action", payload, error) from error
    return ActionMessage(
        stamp,
        sequence,
        observation_sequence,
        data,
        policy_generation,
        policy_id,
        fallback,
        fallback_reason,
        inference_time,
    )


def _not_a(kind: str, payload: bytes, error: Exception) -> CdrError:
    return CdrError(
        f"{len(payload)} bytes are no serialized {kind}: {error}",
        "Are publisher and recorder built from the same version of the messages?",
    )
