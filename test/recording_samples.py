"""Messages, bags and faults for tests of recording. Bytes are made by an encoder that is not ours (rosbags)."""

from functools import cache
from pathlib import Path

import numpy as np
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from saferule_ros.dataset.episode import Episode
from saferule_ros.recording.assembler import EpisodeAssembler
from saferule_ros.recording.bag_writer import BagWriter, loop_topics
from saferule_ros.recording.cdr import decode_action, decode_observation
from saferule_ros.recording.messages import (
    ACTION_TYPE,
    OBSERVATION_TYPE,
    ActionMessage,
    ObservationMessage,
    RawMessage,
)
from saferule_ros.signing import PrivateKey

MESSAGES = Path(__file__).parent.parent / "msg"
OBSERVATION_TOPIC, ACTION_TOPIC = "/arm/observation", "/arm/action"
START = 1_700_000_000 * 10**9
TICK = 10**7  # ns


@cache
def typestore():
    store = get_typestore(Stores.ROS2_JAZZY)
    for name in (OBSERVATION_TYPE, ACTION_TYPE):
        text = (MESSAGES / f"{name.rsplit('/', maxsplit=1)[-1]}.msg").read_text()
        store.register(get_types_from_msg(text, name))
    return store


def encode(kind: str, message: ObservationMessage | ActionMessage, little_endian: bool = True) -> bytes:
    types = typestore().types
    fields = message._asdict()
    seconds, nanoseconds = divmod(fields.pop("stamp"), 10**9)
    stamp = types["builtin_interfaces/msg/Time"](sec=seconds, nanosec=nanoseconds)
    header = types["std_msgs/msg/Header"](stamp=stamp, frame_id="base")
    return bytes(typestore().serialize_cdr(types[kind](header=header, **fields), kind, little_endian=little_endian))


def observation(episode: Episode, step: int, first_sequence: int = 1, **changes) -> ObservationMessage:
    """What is published at a step of an episode."""
    end = step == episode.length
    message = ObservationMessage(
        stamp=START + step * TICK,
        sequence=first_sequence + step,
        episode_id=episode.id,
        step=step,
        data=episode.observations[step],
        reward=float(episode.rewards[step - 1]) if step else 0.0,
        cost=float(episode.costs[step - 1]) if step else 0.0,
        terminated=episode.terminated and end,
        truncated=episode.truncated and end,
    )
    return message._replace(**changes)


def action(episode: Episode, step: int, first_sequence: int = 1, **changes) -> ActionMessage:
    """What answers it. The first `episode.fallbacks` commands are the safe action."""
    fallback = step < episode.fallbacks
    message = ActionMessage(
        stamp=START + step * TICK + 1,
        sequence=first_sequence + step + 100,
        observation_sequence=first_sequence + step,
        data=episode.actions[step],
        policy_generation=3,
        policy_id=episode.policy_ids[min(step, len(episode.policy_ids) - 1)],
        fallback=fallback,
        fallback_reason="late" if fallback else "",
        inference_time=0.001,
    )
    return message._replace(**changes)


def stream(episode: Episode, first_sequence: int = 1) -> list[ObservationMessage | ActionMessage]:
    """All that is published in an episode, in order: observation, command, observation, …"""
    messages: list[ObservationMessage | ActionMessage] = []
    for step in range(episode.length):
        messages += [observation(episode, step, first_sequence), action(episode, step, first_sequence)]
    return [*messages, observation(episode, episode.length, first_sequence)]


def received(messages: list[ObservationMessage | ActionMessage], start: int = START) -> list[RawMessage]:
    """The same as bytes, received one microsecond after the other."""
    raw = []
    for number, message in enumerate(messages):
        is_observation = isinstance(message, ObservationMessage)
        kind, topic = (OBSERVATION_TYPE, OBSERVATION_TOPIC) if is_observation else (ACTION_TYPE, ACTION_TOPIC)
        raw.append(RawMessage(topic, encode(kind, message), start + 1000 * number))
    return raw


def record(folder: Path, raw: list[RawMessage], finish: bool = True, key: PrivateKey | None = None) -> BagWriter:
    """What dataset_recorder does: assembles, and writes each episode that is finished."""
    writer = BagWriter(folder, loop_topics(OBSERVATION_TOPIC, ACTION_TOPIC), "test", "jazzy", key=key)
    assembler = EpisodeAssembler(writer.bag_id)
    finished = []
    for message in raw:
        if message.topic == OBSERVATION_TOPIC:
            finished += assembler.observation(decode_observation(message.data), message)
        else:
            finished += assembler.action(decode_action(message.data), message)
    finished += assembler.finish() if finish else []
    for assembled in finished:
        writer.write_episode(assembled.messages, assembled.facts)
    return writer


def record_episodes(folder: Path, episodes: list[Episode], key: PrivateKey | None = None) -> BagWriter:
    """A bag of these episodes, one after the other, with sequence numbers that go on."""
    messages: list[ObservationMessage | ActionMessage] = []
    first_sequence = 1
    for episode in episodes:
        messages += stream(episode, first_sequence)
        first_sequence += episode.length + 1
    return record(folder, received(messages), key=key)


def same_arrays(one: Episode, other: Episode) -> bool:
    """Equal to the bit in all four columns."""
    names = ("observations", "actions", "rewards", "costs")
    return all(np.array_equal(getattr(one, n).view(np.uint32), getattr(other, n).view(np.uint32)) for n in names)
