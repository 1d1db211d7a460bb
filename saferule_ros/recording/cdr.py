"""Decodes our two messages from CDR (XCDR version 1, either byte order), the format of ROS 2 on the wire.

This is the only place that knows where their fields stand, one message at a time: the recorder decodes with it, the
control path reads with it (`nodes/wire.py`, which also writes actions), and ingest where messages are not alike
(`own_bulk`, which finds the fields from the types and is held against this by a test).

Source: OMG DDS-XTypes 1.3, clause 7.4 (encapsulation header, alignment counted from the byte after it).
"""

import struct

import numpy as np
import numpy.typing as npt

from saferule_ros.recording.errors import CdrError
from saferule_ros.recording.messages import ActionMessage, ObservationMessage
from saferule_ros.units import NANOSECONDS

_HEADER = 4  # encapsulation: two bytes representation, two bytes options; alignment counts from here
_PADDING = 3  # a payload is padded to a multiple of 4


class _Order:
    """Fields that follow each other without padding between them, in one byte order."""

    def __init__(self, sign: str) -> None:
        self.stamp = struct.Struct(f"{sign}iII")  # seconds, nanoseconds, length of frame_id
        self.sequence = struct.Struct(f"{sign}QI")  # sequence, length of episode_id
        self.step = struct.Struct(f"{sign}II")  # step, length of data
        self.outcome = struct.Struct(f"{sign}ff??")  # reward, cost, terminated, truncated
        self.sequences = struct.Struct(f"{sign}QQI")  # sequence, observation_sequence, length of data
        self.policy = struct.Struct(f"{sign}QI")  # policy_generation, length of policy_id
        self.fallback = struct.Struct(f"{sign}?")
        self.length = struct.Struct(f"{sign}I")
        self.time = struct.Struct(f"{sign}f")  # inference_time
        self.floats = np.dtype(f"{sign}f4")


_ORDERS = {b"\x00\x00": _Order(">"), b"\x00\x01": _Order("<")}


# See `observation_parts`; a plain tuple, as a named one would cost control half as much again.
ObservationParts = tuple[int, int, int, int, int, int, npt.NDArray[np.float32], float, float, bool, bool, int]


def observation_parts(payload: bytes) -> ObservationParts:
    """What stands in a msg/Observation, with nothing of its texts looked at.

    Returns:
        seconds, nanoseconds, sequence, where episode_id with its closing NUL begins and ends, step, data (a view of the
        payload), reward, cost, terminated, truncated, where the message ends.

    Raises:
        CdrError: not plain CDR.
        struct.error, ValueError: the bytes are cut, or of another type.
    """
    order = _ORDERS.get(payload[:2])
    if order is None:
        raise _not_plain(payload)
    seconds, nanoseconds, length = order.stamp.unpack_from(payload, _HEADER)
    at = _HEADER + 12 + length
    at += (_HEADER - at) % 8
    sequence, length = order.sequence.unpack_from(payload, at)
    id_begin = at + 12
    at = id_end = id_begin + length
    at += -at % 4
    step, size = order.step.unpack_from(payload, at)
    data = np.frombuffer(payload, order.floats, size, at + 8)
    at += 8 + 4 * size
    reward, cost, terminated, truncated = order.outcome.unpack_from(payload, at)
    return (
        seconds, nanoseconds, sequence, id_begin, id_end, step, data, reward, cost, terminated, truncated, at + 10
    )  # fmt: skip


def decode_observation(payload: bytes) -> ObservationMessage:
    """Decodes a msg/Observation. The vector is a view of `payload`.

    Raises:
        CdrError: the bytes are cut, too long, or of another type.
    """
    try:
        seconds, nanoseconds, sequence, begin, id_end, step, data, reward, cost, terminated, truncated, end = (
            observation_parts(payload)
        )
        episode_id = _text(payload, begin, id_end)
        _check_end(payload, end)
    except (struct.error, ValueError) as error:
        raise _not_a("msg/Observation", payload, error) from error
    return ObservationMessage(
        seconds * NANOSECONDS + nanoseconds, sequence, episode_id, step, data, reward, cost, terminated, truncated
    )


def decode_action(payload: bytes) -> ActionMessage:
    """Decodes a msg/Action. The vector is a view of `payload`.

    Raises:
        CdrError: the bytes are cut, too long, or of another type.
    """
    order = _ORDERS.get(payload[:2])
    if order is None:
        raise _not_plain(payload)
    try:
        seconds, nanoseconds, length = order.stamp.unpack_from(payload, _HEADER)
        at = _HEADER + 12 + length
        at += (_HEADER - at) % 8
        sequence, observation_sequence, size = order.sequences.unpack_from(payload, at)
        data = np.frombuffer(payload, order.floats, size, at + 20)
        at += 20 + 4 * size
        at += (_HEADER - at) % 8
        policy_generation, length = order.policy.unpack_from(payload, at)
        at += 12
        policy_id = _text(payload, at, at + length)
        at += length
        (fallback,) = order.fallback.unpack_from(payload, at)
        at += 1
        at += -at % 4
        (length,) = order.length.unpack_from(payload, at)
        at += 4
        fallback_reason = _text(payload, at, at + length)
        at += length
        at += -at % 4
        (inference_time,) = order.time.unpack_from(payload, at)
        _check_end(payload, at + 4)
    except (struct.error, ValueError) as error:
        raise _not_a("msg/Action", payload, error) from error
    return ActionMessage(
        seconds * NANOSECONDS + nanoseconds, sequence, observation_sequence, data, policy_generation, policy_id,
        fallback, fallback_reason, inference_time,
    )  # fmt: skip


def _text(payload: bytes, begin: int, end: int) -> str:
    text = payload[begin:end]
    # The length counts a closing NUL; an empty string may come without.
    if text and text[-1]:
        raise ValueError("a string does not end with NUL")
    return text[:-1].decode()


def _check_end(payload: bytes, end: int) -> None:
    left = len(payload) - end
    if left > _PADDING:
        raise ValueError(f"{left} bytes are left over")


def _not_plain(payload: bytes) -> CdrError:
    return CdrError(
        f"a payload begins with {payload[:_HEADER].hex() or 'nothing'}",
        "Expected plain CDR (0000 or 0001 first), as the usual ROS middlewares write it",
    )


def _not_a(kind: str, payload: bytes, error: Exception) -> CdrError:
    return CdrError(
        f"{len(payload)} bytes are no serialized {kind}: {error}",
        "Are publisher and recorder built from the same version of the messages?",
    )
