"""What control reads and writes as bytes is what rclpy reads and writes as messages."""

from __future__ import annotations

import array
import struct

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from hypothesis import given, settings
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message, serialize_message
from saferule_ros.msg import Action, Observation

from saferule_ros.nodes import wire
from saferule_ros.nodes.wire import Command, from_message, read_observation

pytestmark = pytest.mark.ros

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)
floats = st.floats(width=32)
vectors = st.lists(floats, max_size=70)
counts = st.integers(0, 2**64 - 1)
QUICK = settings(max_examples=300, deadline=None)


@QUICK
@given(
    frame=texts, episode=texts, data=vectors, sequence=counts, step=st.integers(0, 2**32 - 1), cost=floats,
    ended=st.tuples(st.booleans(), st.booleans()),
    stamp=st.tuples(st.integers(-(2**31), 2**31 - 1), st.integers(0, 10**9 - 1)),
)  # fmt: skip
def test_an_observation_is_read_from_its_bytes_as_from_its_message(
    frame: str, episode: str, data: list[float], sequence: int, step: int, cost: float, ended: tuple[bool, bool],
    stamp: tuple[int, int],
) -> None:  # fmt: skip
    message = Observation(
        sequence=sequence, step=step, episode_id=episode, data=array.array("f", data), cost=cost, reward=1.0,
        terminated=ended[0], truncated=ended[1],
    )  # fmt: skip
    message.header.frame_id = frame
    message.header.stamp.sec, message.header.stamp.nanosec = stamp
    payload = serialize_message(message)
    plain, expected = wire._read_plain(payload), from_message(message)
    assert plain is not None, "not read by the quick way"
    for found in (plain, read_observation(payload)):
        assert found is not None and found.data.dtype == np.float32
        assert found.data.tobytes() == expected.data.tobytes()
        assert repr(found._replace(data=expected.data)) == repr(expected)


@QUICK
@given(
    data=vectors, numbers=st.tuples(counts, counts, counts), policy=texts, reason=texts, fallback=st.booleans(),
    seconds=floats, stamp=st.integers(-(2**31) * 10**9, 2**31 * 10**9 - 1),
)  # fmt: skip
def test_rclpy_reads_an_action_as_it_was_written(
    data: list[float],
    numbers: tuple[int, int, int],
    policy: str,
    reason: str,
    fallback: bool,
    seconds: float,
    stamp: int,
) -> None:
    sequence, observation_sequence, generation = numbers
    command = Command(
        stamp,
        sequence,
        observation_sequence,
        np.asarray(data, np.float32),
        generation,
        policy,
        fallback,
        reason,
        seconds,
    )
    message = Action(
        sequence=sequence, observation_sequence=observation_sequence, data=array.array("f", data),
        policy_generation=generation, policy_id=policy, fallback=fallback, fallback_reason=reason,
        inference_time=seconds,
    )  # fmt: skip
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 10**9)
    found = deserialize_message(command.serialized(), Action)
    assert repr(found) == repr(message)
    # Bits that a text may not show; not the bytes of both messages: what pads their fields is whatever was there.
    assert found.data.tobytes() == message.data.tobytes()
    assert struct.pack("f", found.inference_time) == struct.pack("f", message.inference_time)


@QUICK
@given(st.binary(max_size=120))
def test_other_bytes_are_not_read_the_quick_way_beyond_their_end(rest: bytes) -> None:
    for found in (wire._read_plain(b"\x00\x01\x00\x00" + rest), read_observation(rest)):
        assert found is None or found.data.nbytes <= len(rest)
