"""Our own messages decoded many at a time are, to the bit, those that are decoded one by one."""

import numpy as np
import pytest
from dataset_samples import make_episode
from hypothesis import given, settings
from hypothesis import strategies as st
from recording_samples import action, encode, observation

from saferule_ros.recording import own_bulk
from saferule_ros.recording.cdr import decode_action, decode_observation
from saferule_ros.recording.errors import CdrError
from saferule_ros.recording.messages import ACTION_TYPE, OBSERVATION_TYPE
from saferule_ros.recording.own_bulk import BulkDecoder

EPISODE = make_episode(2, length=40)
DECODE = {OBSERVATION_TYPE: decode_observation, ACTION_TYPE: decode_action}

# A few lengths each, so that some messages are alike and others are not.
texts = st.sampled_from(["", "run-7", "run-8", "run-10", "käfer", "x" * 40])
vectors = st.sampled_from([0, 2, 3]).flatmap(
    lambda size: st.lists(st.floats(width=32), min_size=size, max_size=size)
).map(np.float32)  # fmt: skip
counts = st.integers(0, 2**64 - 1)
stamps = st.integers(-(2**31) * 10**9, 2**31 * 10**9 - 1)
floats = st.floats(width=32)
observations = st.builds(
    lambda order, **fields: encode(OBSERVATION_TYPE, observation(EPISODE, 0)._replace(**fields), order),
    st.booleans(), stamp=stamps, sequence=counts, episode_id=texts, step=st.integers(0, 2**32 - 1), data=vectors,
    reward=floats, cost=floats, terminated=st.booleans(), truncated=st.booleans(),
)  # fmt: skip
actions = st.builds(
    lambda order, **fields: encode(ACTION_TYPE, action(EPISODE, 0)._replace(**fields), order),
    st.booleans(), stamp=stamps, sequence=counts, observation_sequence=counts, data=vectors, policy_generation=counts,
    policy_id=texts, fallback=st.booleans(), fallback_reason=texts, inference_time=floats,
)  # fmt: skip
damage = st.one_of(
    st.just(lambda payload: payload),
    st.integers(0, 200).map(lambda size: lambda payload: payload[:size]),
    st.integers(1, 12).map(lambda size: lambda payload: payload + bytes(size)),
    st.tuples(st.integers(0, 150), st.integers(0, 255)).map(
        lambda change: lambda payload: payload[: change[0]] + bytes([change[1]]) + payload[change[0] + 1 :]
    ),
)


def one_by_one(kind, payload):
    try:
        return DECODE[kind](payload)
    except CdrError:
        return None


def assert_same(found, expected):
    assert type(found) is type(expected)
    for mine, other in zip(found or (), expected or (), strict=True):
        if isinstance(other, np.ndarray):
            assert (mine.dtype, mine.shape, mine.tobytes()) == (other.dtype, other.shape, other.tobytes())
        else:
            assert type(mine) is type(other) and repr(mine) == repr(other)  # NaN is NaN, -0.0 is not 0.0


@pytest.mark.parametrize(("kind", "messages"), [(OBSERVATION_TYPE, observations), (ACTION_TYPE, actions)])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_whatever_the_messages_are_the_result_is_that_of_one_by_one(kind, messages, data):
    some = data.draw(st.lists(messages, min_size=1, max_size=6))
    rows = data.draw(st.lists(st.tuples(st.sampled_from(some), damage), max_size=60))
    payloads = [change(payload) for payload, change in rows]
    payloads += [some[0]] * data.draw(st.sampled_from([0, own_bulk._WORTH]))
    decoder = BulkDecoder(kind)
    for _ in range(2):  # the second time, with what was learned in the first
        found = decoder.decode(payloads)
        for payload, one in zip(payloads, found, strict=True):
            assert_same(one, one_by_one(kind, payload))


@pytest.mark.parametrize(("kind", "say"), [(OBSERVATION_TYPE, observation), (ACTION_TYPE, action)])
def test_messages_of_one_layout_are_not_decoded_one_by_one(kind, say, monkeypatch):
    payloads = [encode(kind, say(EPISODE, step)) for step in range(40)]
    expected = [one_by_one(kind, payload) for payload in payloads]
    decoder, taken = BulkDecoder(kind), []
    one = BulkDecoder._one
    monkeypatch.setattr(BulkDecoder, "_one", lambda self, payload: taken.append(payload) or one(self, payload))
    found = decoder.decode(payloads[2:] if kind == ACTION_TYPE else payloads)
    for mine, other in zip(found, expected[2:] if kind == ACTION_TYPE else expected, strict=True):
        assert_same(mine, other)
    assert len(taken) == 1, "only the first, to learn the layout"
    decoder.decode(payloads[5:9])
    assert len(taken) == 1, "and a known one needs not even that"
    strangers = [payload.replace(b"\x00\x01", b"\x00\x00", 1) for payload in payloads[:3]]  # as long, another layout
    assert decoder.decode(strangers) == [one_by_one(kind, payload) for payload in strangers]
