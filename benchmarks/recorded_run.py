"""What a robot says while it is recorded, the same each time: for benchmarks that kill recorders or damage bags."""

import struct
from collections.abc import Iterator

import numpy as np
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from saferule_ros.dataset.episode import Episode
from saferule_ros.recording.definitions import installed_definition
from saferule_ros.recording.messages import ACTION_TYPE, OBSERVATION_TYPE

OBSERVATION_SIZE, ACTION_SIZE = 12, 2
# Long and short ones, so that kills meet an open episode, sealing, and the change from one to the next.
LENGTHS = (7, 120, 31, 400, 3)
# In plain little-endian CDR, a message's stamp stands first, after the 4 bytes of the encapsulation header.
_STAMP = struct.Struct("<iI")
_STAMP_BEGIN, _STAMP_END = 4, 12


def length_of(number: int) -> int:
    """Steps of an episode, by its number."""
    return LENGTHS[number % len(LENGTHS)]


def values(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Observations (T+1, O) and actions (T, A) of an episode, by its number."""
    rng, length = np.random.default_rng(number), length_of(number)
    return (
        rng.normal(size=(length + 1, OBSERVATION_SIZE)).astype(np.float32),
        rng.normal(size=(length, ACTION_SIZE)).astype(np.float32),
    )


def prepare(episodes: int) -> list[tuple[bool, bytes]]:
    """Everything that is said in so many episodes, in order: is it an observation, and its CDR bytes."""
    said: list[tuple[bool, bytes]] = []
    first = 1
    for number in range(episodes):
        said += _messages(number, first)
        first += length_of(number) + 1
    return said


def stamped(payload: bytes, time: int) -> bytes:
    """The same message with another stamp [ns]."""
    return payload[:_STAMP_BEGIN] + _STAMP.pack(*divmod(time, 10**9)) + payload[_STAMP_END:]


def is_true(episode: Episode) -> bool:
    """Whether it is a beginning of what was said, truncated where it is cut."""
    observations, actions = values(int(episode.id.removeprefix("run-")))
    return bool(
        episode.truncated
        and np.array_equal(episode.observations, observations[: episode.length + 1])
        and np.array_equal(episode.actions, actions[: episode.length])
    )


def _messages(number: int, first: int) -> Iterator[tuple[bool, bytes]]:
    store = get_typestore(Stores.ROS2_JAZZY)
    for name in (OBSERVATION_TYPE, ACTION_TYPE):
        text = installed_definition(name).text.split("=" * 80)[0]
        store.register(get_types_from_msg(text, name))
    header = store.types["std_msgs/msg/Header"](
        stamp=store.types["builtin_interfaces/msg/Time"](sec=first, nanosec=0), frame_id=""
    )
    observations, actions = values(number)
    length = length_of(number)
    for step in range(length + 1):
        observation = store.types[OBSERVATION_TYPE](
            header=header, sequence=first + step, episode_id=f"run-{number}", step=step, data=observations[step],
            reward=1.0, cost=0.0, terminated=False, truncated=step == length,
        )  # fmt: skip
        yield True, bytes(store.serialize_cdr(observation, OBSERVATION_TYPE))
        if step < length:
            action = store.types[ACTION_TYPE](
                header=header, sequence=first + step, observation_sequence=first + step, data=actions[step],
                policy_generation=1, policy_id="0123456789abcdef", fallback=False, fallback_reason="",
                inference_time=0.0,
            )  # fmt: skip
            yield False, bytes(store.serialize_cdr(action, ACTION_TYPE))
