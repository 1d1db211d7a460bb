"""Our two messages as plain data: what recording needs of msg/Observation and msg/Action, without ROS."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

OBSERVATION_TYPE = "saferule_ros/msg/Observation"
ACTION_TYPE = "saferule_ros/msg/Action"

# Fields in wire order. What a bag's own definition is compared with before its bytes are decoded.
OBSERVATION_FIELDS = (
    "std_msgs/Header header",
    "uint64 sequence",
    "string episode_id",
    "uint32 step",
    "float32[] data",
    "float32 reward",
    "float32 cost",
    "bool terminated",
    "bool truncated",
)
ACTION_FIELDS = (
    "std_msgs/Header header",
    "uint64 sequence",
    "uint64 observation_sequence",
    "float32[] data",
    "uint64 policy_generation",
    "string policy_id",
    "bool fallback",
    "string fallback_reason",
    "float32 inference_time",
)
# A command that is stamped later than an observation by less than this part of the distance of two may have led to it:
# jitter of queues, as a robot in lock-step answers a command before a recorder has it. [ours]
COMMAND_JITTER = 10
FIELDS = {OBSERVATION_TYPE: OBSERVATION_FIELDS, ACTION_TYPE: ACTION_FIELDS}


class ObservationMessage(NamedTuple):
    """One msg/Observation. `stamp` in nanoseconds, `data` (O,) float32, the rest as in the message."""

    stamp: int
    sequence: int
    episode_id: str
    step: int
    data: npt.NDArray[np.float32]
    reward: float
    cost: float
    terminated: bool
    truncated: bool


class ActionMessage(NamedTuple):
    """One msg/Action. `stamp` in nanoseconds, `data` (A,) float32, the rest as in the message."""

    stamp: int
    sequence: int
    observation_sequence: int
    data: npt.NDArray[np.float32]
    policy_generation: int
    policy_id: str
    fallback: bool
    fallback_reason: str
    inference_time: float


class RawMessage(NamedTuple):
    """One message as it came over the wire, with where and when.

    Attributes:
        topic: full name, with the leading slash.
        data: CDR bytes with their 4-byte encapsulation header.
        log_time: time of reception [ns since the epoch].
    """

    topic: str
    data: bytes
    log_time: int
