"""Controllers with few parameters, for random search to find: they drive the robots of the velocity tasks. [ours]"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]


class Controller(ABC):
    """Gives actions; all that it does follows from its parameters.

    Attributes:
        scaled: whether observations come as standard scores, as random search likes them, or raw.
    """

    scaled: ClassVar[bool]

    @staticmethod
    @abstractmethod
    def start(observation_size: int, action_size: int) -> Vector:
        """The parameters that a search begins with."""

    @abstractmethod
    def __init__(self, parameters: Vector) -> None: ...

    @abstractmethod
    def act(self, observation: Vector, step: int) -> Vector:
        """The action (A,) within [-1, 1] for an observation (O,) in the step of that number."""


class Linear(Controller):
    """action = clip(M s), as in Mania et al. (2018); M is (A, O)."""

    scaled = True

    @staticmethod
    def start(observation_size: int, action_size: int) -> Vector:
        return np.zeros((action_size, observation_size))

    def __init__(self, parameters: Vector) -> None:
        self._matrix = parameters

    def act(self, observation: Vector, step: int) -> Vector:
        return np.clip(self._matrix @ observation, -1.0, 1.0)


# The Ant: joints hip 1, ankle 1, … hip 4, ankle 4 in the observation, which stand in another order among the actions.
_JOINT_POSITIONS, _JOINT_VELOCITIES = slice(5, 13), slice(19, 27)
_ORIENTATION_W, _ORIENTATION_Z = 1, 4  # of the torso's quaternion
_ACTION_OF_JOINT = [6, 7, 0, 1, 2, 3, 4, 5]
_ANT_PERIOD = 0.05  # of control [s]
# Which way a hip turns to push the torso forward, and an ankle to bend, leg by leg; legs 1 and 2 stand to the left.
_BACKWARD = np.array([1.0, 1.0, -1.0, -1.0])
_BEND = np.array([1.0, -1.0, -1.0, 1.0])
_LEFT = np.repeat([1.0, 1.0, -1.0, -1.0], 2) * np.tile([1.0, 0.0], 4)  # hips alone: (8,)
_MOST_STEERING = 0.8  # share by which a stride can be longer or shorter


class AntGait(Controller):
    """A trot: each joint follows a sine, by a spring and a damper; strides left and right differ to keep the course.

    Parameters (27,): offset, sine and cosine of each of the 8 joints [rad], logarithm of the frequency [Hz] and of
    the spring's stiffness [full torque per rad], steering [per rad of heading error].
    """

    scaled = False
    DAMPING = 0.05  # per stiffness [s]

    @staticmethod
    def start(observation_size: int, action_size: int) -> Vector:
        """A slow trot that was found by hand: legs 1 and 3 against 2 and 4. It does not fall."""
        phases = np.array([0.0, np.pi, 0.0, np.pi])
        swing, lift, mean_bend, lag = 0.7, 0.2, 0.87, np.pi / 4
        joints = np.zeros((4, 2, 3))  # leg; hip, ankle; offset, sine, cosine
        joints[:, 0, 1:] = (_BACKWARD * swing * np.array([np.cos(phases), np.sin(phases)])).T
        joints[:, 1, 0] = _BEND * mean_bend
        joints[:, 1, 1:] = (_BEND * lift * np.array([np.cos(phases + lag), np.sin(phases + lag)])).T
        return np.concatenate([joints.ravel(), np.log([2.5, 0.5]), [1.0]])

    def __init__(self, parameters: Vector) -> None:
        self._joints = parameters[:24].reshape(8, 3)
        self._frequency, self._stiffness = np.exp(parameters[24:26])
        self._steering = parameters[26]

    def act(self, observation: Vector, step: int) -> Vector:
        phase = 2.0 * np.pi * self._frequency * step * _ANT_PERIOD
        heading = 2.0 * np.arctan2(observation[_ORIENTATION_Z], observation[_ORIENTATION_W])
        heading = (heading + np.pi) % (2.0 * np.pi) - np.pi
        stride = 1.0 + np.clip(self._steering * heading, -_MOST_STEERING, _MOST_STEERING) * _LEFT  # (8,)
        offset, sine, cosine = self._joints.T
        wanted = offset + stride * (sine * np.sin(phase) + cosine * np.cos(phase))
        error = wanted - observation[_JOINT_POSITIONS]
        torque = self._stiffness * (error - self.DAMPING * observation[_JOINT_VELOCITIES])
        return np.clip(torque[_ACTION_OF_JOINT], -1.0, 1.0)
