"""ROS messages of sim_bridge, made from what the simulator gave."""

from __future__ import annotations

import array
from collections.abc import Iterable

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Pose, PoseStamped
from nav_msgs.msg import Path
from numpy.typing import NDArray
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from saferule_ros.msg import Action, Episode, Observation
from saferule_ros.nodes.sim_episode import Outcome, PlannedEpisode, Tick
from saferule_ros.units import NANOSECONDS

#: Frame of `sim_bridge/path`: the simulator's world, x and y [m].
WORLD = "world"


def time_message(nanoseconds: int) -> Time:
    return Time(sec=nanoseconds // NANOSECONDS, nanosec=nanoseconds % NANOSECONDS)


def floats(values: NDArray[np.float32]) -> array.array[float]:
    """The vector as rosidl keeps it: assigning anything else to a message costs a check of every entry."""
    return array.array("f", np.ascontiguousarray(values, np.float32).tobytes())


def observation_message(planned: PlannedEpisode, tick: Tick, sequence: int, stamp: Time) -> Observation:
    return Observation(
        header=Header(stamp=stamp),
        sequence=sequence,
        episode_id=planned.id,
        step=tick.step,
        data=floats(tick.observation),
        reward=tick.reward,
        cost=0.0 if planned.erase_cost else tick.cost,
        terminated=tick.terminated,
        truncated=tick.truncated,
    )


def demonstrated_action(action: NDArray[np.float32], sequence: int, observation_sequence: int, stamp: Time) -> Action:
    return Action(
        header=Header(stamp=stamp),
        sequence=sequence,
        observation_sequence=observation_sequence,
        data=floats(action),
    )


def episode_message(planned: PlannedEpisode, outcome: Outcome, stamp: Time, problem: str) -> Episode:
    """The true outcome, also where the published costs were erased."""
    return Episode(
        header=Header(stamp=stamp),
        episode_id=planned.id,
        length=outcome.length,
        episode_return=outcome.episode_return,
        episode_cost=outcome.episode_cost,
        terminated=outcome.terminated,
        # An episode that was given up is cut, whatever the task says.
        truncated=outcome.truncated or bool(problem),
        policy_ids=outcome.policy_ids,
        fallbacks=outcome.fallbacks,
        message=problem,
    )


def path_message(path: Iterable[tuple[float, float]], stamp: Time) -> Path:
    header = Header(stamp=stamp, frame_id=WORLD)
    poses = [PoseStamped(header=header, pose=Pose(position=Point(x=x, y=y))) for x, y in path]
    return Path(header=header, poses=poses)


def image_message(pixels: NDArray[np.uint8], stamp: Time, camera: str) -> Image:
    """Image of uint8 pixels (height, width, 3), RGB."""
    height, width, channels = pixels.shape
    return Image(
        header=Header(stamp=stamp, frame_id=camera),
        height=height,
        width=width,
        encoding="rgb8",
        step=width * channels,
        data=array.array("B", np.ascontiguousarray(pixels).tobytes()),
    )
