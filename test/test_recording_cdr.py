"""Bytes by encoders that are not ours come out as the values that went in; other bytes are refused."""

import numpy as np
import pytest
from dataset_samples import make_episode
from recording_samples import action, encode, observation

from saferule_ros.recording.cdr import decode_action, decode_observation
from saferule_ros.recording.errors import CdrError
from saferule_ros.recording.messages import ACTION_TYPE, OBSERVATION_TYPE

EPISODE = make_episode(2)


def assert_same(one, other):
    for a, b in zip(one, other, strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("little_endian", [True, False])
@pytest.mark.parametrize("episode_id", ["", "a", "ab", "abc", "abcd", "abcde", "abcdefgh", "käfer-7"])
@pytest.mark.parametrize("size", [0, 1, 2, 3, 28])
def test_observations_come_out_as_they_went_in_at_every_alignment(little_endian, episode_id, size):
    data = np.linspace(-1, 1, size, dtype=np.float32)
    message = observation(EPISODE, 3, episode_id=episode_id, data=data, reward=0.5, cost=0.25, terminated=True)
    assert_same(decode_observation(encode(OBSERVATION_TYPE, message, little_endian)), message)


@pytest.mark.parametrize("little_endian", [True, False])
@pytest.mark.parametrize("policy_id", ["", "a", "ab", "abc", "abcd", "abcde", "abcdefgh"])
@pytest.mark.parametrize("reason", ["", "late", "no_policy"])
@pytest.mark.parametrize("size", [0, 1, 2, 3])
def test_actions_come_out_as_they_went_in_at_every_alignment(little_endian, policy_id, reason, size):
    data = np.linspace(-1, 1, size, dtype=np.float32)
    message = action(
        EPISODE, 3, policy_id=policy_id, fallback_reason=reason, data=data, fallback=bool(reason), inference_time=0.5
    )
    assert_same(decode_action(encode(ACTION_TYPE, message, little_endian)), message)


def test_extreme_values_survive():
    data = np.array([0.0, -0.0, np.inf, -np.inf, np.float32(1e-45), np.finfo(np.float32).max], dtype=np.float32)
    message = observation(EPISODE, 0)._replace(stamp=-1, sequence=2**64 - 1, step=2**32 - 1, data=data)
    again = decode_observation(encode(OBSERVATION_TYPE, message))
    assert again.data.tobytes() == data.tobytes()
    assert (again.stamp, again.sequence, again.step) == (-1, 2**64 - 1, 2**32 - 1)


@pytest.mark.parametrize(
    ("decode", "payload"),
    [
        (decode_observation, encode(OBSERVATION_TYPE, observation(EPISODE, 3))),
        (decode_action, encode(ACTION_TYPE, action(EPISODE, 3))),
    ],
)
def test_cut_and_lengthened_bytes_are_refused(decode, payload):
    for length in range(len(payload)):
        # Up to 3 bytes of padding may be missing or added without a change of meaning.
        if length < len(payload.rstrip(b"\x00")) - 3:
            with pytest.raises(CdrError):
                decode(payload[:length])
    with pytest.raises(CdrError, match="left over"):
        decode(payload + bytes(8))


def test_no_change_of_any_byte_raises_anything_but_our_error():
    generator = np.random.default_rng(0)
    pairs = (
        (decode_observation, encode(OBSERVATION_TYPE, observation(EPISODE, 3))),
        (decode_action, encode(ACTION_TYPE, action(EPISODE, 3))),
    )
    refused = 0
    for decode, payload in pairs:
        for _ in range(3000):
            dirty = bytearray(payload)
            for where in generator.integers(0, len(payload), 1 + generator.integers(4)):
                dirty[where] = generator.integers(256)
            try:
                decode(bytes(dirty))
            except CdrError:
                refused += 1
    assert refused > 1000


@pytest.mark.parametrize("start", ["0007", "0006", "0103", "ffff", ""])
def test_other_encodings_are_named(start):
    payload = bytes.fromhex(start) + encode(OBSERVATION_TYPE, observation(EPISODE, 0))[2:] if start else b""
    with pytest.raises(CdrError, match=f"begins with {start or 'nothing'}"):
        decode_observation(payload)


@pytest.mark.ros
def test_bytes_by_ros_itself_come_out_as_they_went_in():
    serialization = pytest.importorskip("rclpy.serialization")
    from saferule_ros.msg import Action, Observation

    wanted = observation(EPISODE, 4, episode_id="run-7")
    message = Observation(
        sequence=wanted.sequence,
        episode_id=wanted.episode_id,
        step=wanted.step,
        data=wanted.data,
        reward=wanted.reward,
        cost=wanted.cost,
    )
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(wanted.stamp, 10**9)
    assert_same(decode_observation(serialization.serialize_message(message)), wanted)

    wanted = action(EPISODE, 1, fallback_reason="stale_observation", inference_time=0.5)
    message = Action(**{name: value for name, value in wanted._asdict().items() if name != "stamp"})
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(wanted.stamp, 10**9)
    message.header.frame_id = "base_link"
    assert_same(decode_action(serialization.serialize_message(message)), wanted)
