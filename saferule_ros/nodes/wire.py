"""Observations in and actions out as the bytes that the middleware carries, for the control path alone.

rclpy makes a Python message of the bytes that came and bytes of the message that goes, field by field: about 40 us of a
round trip of 360 [measured in a trial]. Here only what control needs is read, where `recording/cdr.py` finds it, and an
action is one `struct.pack`; nothing else writes our messages as bytes.

Source: OMG DDS-XTypes 1.3, clause 7.4: plain CDR, alignment counted from the byte after the encapsulation header.
What is not plain little-endian CDR of our own layout is left to rclpy.
"""

from __future__ import annotations

import functools
import struct
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rclpy.serialization import deserialize_message

from saferule_ros.msg import Observation
from saferule_ros.recording.cdr import observation_parts
from saferule_ros.recording.errors import CdrError
from saferule_ros.units import NANOSECONDS

_PLAIN = b"\x00\x01"  # plain CDR, little-endian


class Asked(NamedTuple):
    """What control needs of an observation."""

    sequence: int
    step: int
    stamp_ns: int
    data: NDArray[np.float32]  # (O,) raw units; a view of the bytes
    cost: float
    ended: bool  # terminated or truncated: asks for no action


def read_observation(payload: bytes) -> Asked | None:
    """Reads a serialized msg/Observation; None where the bytes are none."""
    asked = _read_plain(payload) if payload[:2] == _PLAIN else None
    if asked is not None:
        return asked
    try:
        return from_message(deserialize_message(payload, Observation))
    except RuntimeError:  # RCLError and RMWError are such
        return None


def from_message(message: Observation) -> Asked:
    """The same of a message."""
    stamp = message.header.stamp
    return Asked(
        message.sequence, message.step, stamp.sec * NANOSECONDS + stamp.nanosec, np.asarray(message.data, np.float32),
        message.cost, message.terminated or message.truncated,
    )  # fmt: skip


def _read_plain(payload: bytes) -> Asked | None:
    """None where the bytes are not as they should be."""
    try:
        seconds, nanoseconds, sequence, _, _, step, data, _, cost, terminated, truncated, _ = observation_parts(payload)
    except (struct.error, ValueError, CdrError):
        return None
    return Asked(sequence, step, seconds * NANOSECONDS + nanoseconds, data, cost, terminated or truncated)


class Command(NamedTuple):
    """All of a msg/Action but its frame, which is empty."""

    stamp_ns: int
    sequence: int
    observation_sequence: int
    data: NDArray[np.float32]  # (A,) raw units
    policy_generation: int
    policy_id: str
    fallback: bool
    fallback_reason: str
    inference_time: float  # [s]

    def serialized(self) -> bytes:
        """As the middleware carries it."""
        policy_id, reason = self.policy_id.encode(), self.fallback_reason.encode()
        layout = _layout(len(self.data), len(policy_id), len(reason))
        seconds, nanoseconds = divmod(self.stamp_ns, NANOSECONDS)
        return layout.pack(
            _PLAIN, seconds, nanoseconds, 1, b"", self.sequence, self.observation_sequence, len(self.data),
            self.data.tobytes(), self.policy_generation, len(policy_id) + 1, policy_id, self.fallback,
            len(reason) + 1, reason, self.inference_time,
        )  # fmt: skip


@functools.lru_cache(maxsize=256)  # a policy and its reasons have a handful
def _layout(size: int, policy_id: int, reason: int) -> struct.Struct:
    """The wire layout of an action with so many numbers and texts so long."""
    parts, at = ["<2s2x"], 0

    def add(part: str, alignment: int) -> None:
        nonlocal at
        padding = -at % alignment
        parts.append(f"{padding}x{part}" if padding else part)
        at += padding + struct.calcsize(f"<{part}")

    add("i", 4)  # header.stamp
    add("I", 4)
    add("I", 4)  # header.frame_id: its length with the closing NUL
    add("1s", 1)
    add("Q", 8)  # sequence
    add("Q", 8)  # observation_sequence
    add("I", 4)  # data
    add(f"{4 * size}s", 4)
    add("Q", 8)  # policy_generation
    add("I", 4)  # policy_id
    add(f"{policy_id + 1}s", 1)
    add("?", 1)  # fallback
    add("I", 4)  # fallback_reason
    add(f"{reason + 1}s", 1)
    add("f", 4)  # inference_time
    return struct.Struct("".join(parts))
