"""One simulated robot: reset, step, where it is, what a camera sees. Deterministic by seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saferule_ros.errors import SaferuleError
from saferule_ros.sim.camera import OVERVIEW, OVERVIEW_EXTENT, Camera, Image, named_view, overview
from saferule_ros.sim.compat import make_environment
from saferule_ros.sim.tasks import Task, task

# Policies run in float32, whose rounding may put an action this far beyond a bound; anything more is a fault.
BOUND_TOLERANCE = 1e-5
# Range of the simulator's own generator (numpy RandomState).
LARGEST_SEED = 2**32 - 1


class ActionError(SaferuleError):
    """An action has the wrong size, is not finite or lies outside the task's bounds."""


class EpisodeStateError(SaferuleError):
    """step() before reset(), or after the end of the episode."""


@dataclass(frozen=True)
class Transition:
    """What one step gave: observation float32 (O,), its reward and cost, and whether it was the last."""

    observation: NDArray[np.float32]
    reward: float
    cost: float
    terminated: bool
    truncated: bool

    @property
    def done(self) -> bool:
        """Whether the episode ended with this step."""
        return self.terminated or self.truncated


@dataclass(frozen=True)
class Pose:
    """A planar robot's true state, which policies do not see: position [m], velocity [m/s], heading [rad]."""

    position: NDArray[np.float64]
    velocity: NDArray[np.float64]
    heading: float


class SafetyEnvironment:
    """A Safety-Gymnasium task. The same seed and actions give the same trajectory, bit for bit.

    Args:
        task_id: with or without version.

    Raises:
        UnknownTaskError, SimulatorMissingError: see `task`.
    """

    def __init__(self, task_id: str) -> None:
        self.task: Task = task(task_id)
        self._env: Any = make_environment(self.task.id)
        self._low = np.asarray(self.task.action_low, np.float64)
        self._high = np.asarray(self.task.action_high, np.float64)
        self._running = False
        self.observation = np.zeros(self.task.observation_size, np.float32)  # the last one, (O,)
        self._camera: Camera | None = None

    def reset(self, seed: int) -> NDArray[np.float32]:
        """Starts the episode of that seed (0 to 2**32 - 1); returns its first observation, float32 (O,)."""
        if not 0 <= seed <= LARGEST_SEED:
            raise SaferuleError(f"seed {seed} is out of range", f"Choose one from 0 to {LARGEST_SEED}")
        observation, _ = self._env.reset(seed=int(seed))
        self._running = True
        self.observation = np.asarray(observation, np.float32)
        return self.observation

    def step(self, action: NDArray[np.floating[Any]]) -> Transition:
        """Applies one action (A,), rounded to float32 first, so that what is logged is what was done.

        Raises:
            ActionError: wrong size, not finite, or outside the bounds. Nothing moved.
            EpisodeStateError: no episode is running.
        """
        checked = self._checked(action)
        if not self._running:
            raise EpisodeStateError(f"step() on {self.task.id} while no episode runs", "Call reset(seed) first")
        observation, reward, cost, terminated, truncated, _ = self._env.step(checked)
        self._running = not (terminated or truncated)
        self.observation = np.asarray(observation, np.float32)
        return Transition(self.observation, float(reward), float(cost), bool(terminated), bool(truncated))

    def _checked(self, action: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        values = np.asarray(action, np.float32).astype(np.float64)
        if values.shape != self._low.shape:
            raise ActionError(
                f"action of shape {values.shape} for {self.task.id}", f"It must have shape {self._low.shape}"
            )
        if not np.isfinite(values).all():
            raise ActionError(
                f"action {values.tolist()} for {self.task.id} is not finite",
                "The policy computed a NaN or infinity: check its inputs and weights",
            )
        if (values < self._low - BOUND_TOLERANCE).any() or (values > self._high + BOUND_TOLERANCE).any():
            raise ActionError(
                f"action {values.tolist()} for {self.task.id} is out of bounds",
                f"Bounds are {self._low.tolist()} to {self._high.tolist()}",
            )
        return np.clip(values, self._low, self._high)

    @property
    def model(self) -> Any:
        """The MuJoCo model (mujoco.MjModel) of the running episode."""
        inner = self._env.unwrapped
        return inner.task.model if hasattr(inner, "task") else inner.model

    @property
    def data(self) -> Any:
        """The MuJoCo state (mujoco.MjData) of the running episode."""
        inner = self._env.unwrapped
        return inner.task.data if hasattr(inner, "task") else inner.data

    def pose(self) -> Pose | None:
        """The robot's true planar state; None for tasks without a robot on a plane (locomotion)."""
        inner = self._env.unwrapped
        if not hasattr(inner, "task"):
            return None
        agent = inner.task.agent
        heading = float(np.arctan2(agent.mat[1, 0], agent.mat[0, 0]))
        return Pose(agent.pos[:2].copy(), agent.vel[:2].copy(), heading)

    def position(self) -> tuple[float, float] | None:
        """Where the robot is in the world, x and y [m]; None as for pose()."""
        pose = self.pose()
        return None if pose is None else (float(pose.position[0]), float(pose.position[1]))

    def walls(self) -> tuple[float | None, float | None]:
        """Greatest |x| and |y| [m] that cost nothing; None where there is no such limit."""
        inner = self._env.unwrapped
        walls = getattr(inner.task, "sigwalls", None) if hasattr(inner, "task") else None
        if walls is None or not walls.is_constrained:
            return None, None
        return walls.locate_factor, walls.locate_factor if walls.num == 4 else None

    def robot_geoms(self) -> NDArray[np.int64]:
        """Indices of the robot's geoms in the model; empty where there is no planar robot."""
        if self.pose() is None:
            return np.empty(0, np.int64)
        model = self.model
        root = model.body("agent").id
        return np.flatnonzero(model.body_rootid[model.geom_bodyid] == root)

    def render(self, camera: str = OVERVIEW, width: int = 640, height: int = 480) -> Image:
        """What a camera sees now, uint8 (height, width, 3).

        Args:
            camera: "overview" (from high in the south, navigation tasks only) or a camera of the MuJoCo
                model, e.g. "fixedfar", "fixednear", "track", "vision".
            width, height: pixels.

        Raises:
            PictureError: no EGL on this machine, or no such camera.
        """
        if self._camera is None or (self._camera.width, self._camera.height) != (width, height):
            if self._camera is not None:
                self._camera.close()
            self._camera = Camera(width, height)
        if camera == OVERVIEW and self.pose() is not None:
            view = overview(OVERVIEW_EXTENT)
        else:
            view = named_view(self.model, self.data, camera)
        return self._camera.picture(self.model, self.data, view)

    def close(self) -> None:
        """Frees the simulator and its camera; the object is of no use afterwards."""
        if self._camera is not None:
            self._camera.close()
            self._camera = None
        self._env.close()
