"""sim_bridge: a Safety-Gymnasium task behind the same topics as a robot, in lock-step or in real time.

Topics: publishes `observation`, `/clock`, `sim_bridge/episodes`, `sim_bridge/path`, `sim_bridge/image`; listens to
`action`, `dataset_recorder/episodes`. Services: `sim_bridge/run_episodes`, `sim_bridge/capture_image`.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass

import numpy as np
from nav_msgs.msg import Path
from numpy.typing import NDArray
from rclpy.node import Node
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger

from saferule_ros.errors import SaferuleError, SettingsError
from saferule_ros.msg import Episode
from saferule_ros.nodes import process, qos
from saferule_ros.nodes.diagnostics import Diagnostics, Health, Level
from saferule_ros.nodes.parameters import load, parameter
from saferule_ros.nodes.sim_conductor import Conductor, Deadlines
from saferule_ros.nodes.sim_episode import MODES, POLICY, Outcome, PlannedEpisode, plan
from saferule_ros.nodes.sim_messages import episode_message, image_message, path_message
from saferule_ros.sim.behaviour import demonstrator
from saferule_ros.sim.camera import OVERVIEW, Camera, named_view, overview
from saferule_ros.sim.environment import SafetyEnvironment
from saferule_ros.srv import RunEpisodes

DIAGNOSTICS_PERIOD = 1.0  # [s], the usual one of diagnostics in ROS


@dataclass(frozen=True)
class Parameters:
    """Parameters of sim_bridge."""

    task: str = parameter("SafetyPointCircle1", "Safety-Gymnasium task, with or without version", required=True)
    mode: str = parameter(
        MODES[0],
        "how episodes run that do not say it: wait for each action, or tick by the clock",
        choices=MODES,
    )
    control_rate: float = parameter(0.0, "ticks per second; 0: the task's own", unit="Hz", low=0.0, high=1000.0)
    answer_deadline: float = parameter(5.0, "lock-step: longest wait for an action", unit="s", low=0.1, high=600.0)
    company_deadline: float = parameter(
        30.0, "longest wait, before an episode, for the nodes that it needs", unit="s", low=0.1, high=600.0
    )
    seal_deadline: float = parameter(
        30.0, "longest wait for the recorder to confirm a scripted episode", unit="s", low=0.1, high=3600.0
    )
    safe_action: tuple[float, ...] = parameter(
        (), "acts where no usable action came; task units; empty: zeros", low=-1e6, high=1e6
    )
    camera: str = parameter(OVERVIEW, "camera of capture_image: overview, or one that the task has")
    camera_extent: float = parameter(
        2.5, "half the side of the square that the overview shows", unit="m", low=0.1, high=100.0
    )
    image_width: int = parameter(960, "width of captured images", unit="pixels", low=16, high=4096)
    image_height: int = parameter(720, "height of captured images", unit="pixels", low=16, high=4096)


class SimBridge(Node):
    """See module."""

    def __init__(self) -> None:
        super().__init__("sim_bridge")
        self._settings = settings = load(self, Parameters)
        self._environment = SafetyEnvironment(settings.task)
        self._task = self._environment.task
        self._used_ids: set[str] = set()
        # Part of names that nobody chose: no two starts of this node give the same one.
        self._label = f"{self._task.id.rpartition('-v')[0]}-{secrets.token_hex(4)}"
        self._camera: Camera | None = None
        self._started = time.monotonic()
        self._conductor = Conductor(
            self,
            self._environment,
            self._safe_action(),
            settings.control_rate or self._task.control_rate,
            Deadlines(settings.answer_deadline, settings.company_deadline, settings.seal_deadline),
            self._on_end,
        )
        self._episodes = self.create_publisher(Episode, "~/episodes", qos.EPISODES)
        self._path = self.create_publisher(Path, "~/path", qos.LATCHED)
        self._image = self.create_publisher(Image, "~/image", qos.REPORTS)
        self.create_service(RunEpisodes, "~/run_episodes", self._run_episodes)
        self.create_service(Trigger, "~/capture_image", self._capture_image)
        self._ended = {"episodes": 0, "given up": 0, "steps": 0, "fallbacks": 0}
        self._diagnostics = Diagnostics(self, DIAGNOSTICS_PERIOD, self._health)

    def start(self) -> None:
        """See process.Stoppable."""
        self.get_logger().info(f"{self._task.id} ready: {self._task.observation_size} observations")

    def stop(self) -> None:
        """See process.Stoppable: whoever waits for results hears that there will be none."""
        self._conductor.give_up("sim_bridge was stopped")
        if self._camera is not None:
            self._camera.close()
        self._environment.close()

    def _safe_action(self) -> NDArray[np.float32]:
        low = np.asarray(self._task.action_low, np.float32)
        high = np.asarray(self._task.action_high, np.float32)
        given = self._settings.safe_action or tuple(np.clip(np.zeros_like(low), low, high))
        action = np.asarray(given, np.float32)
        if action.shape != low.shape or (action < low).any() or (action > high).any():
            raise SettingsError(
                f"Parameter safe_action of {self.get_name()} is {action.tolist()}",
                f"{self._task.id} takes {low.size} numbers from {low.tolist()} to {high.tolist()}",
            )
        return action

    def _run_episodes(self, request: RunEpisodes.Request, response: RunEpisodes.Response) -> RunEpisodes.Response:
        left = self._conductor.unfinished
        try:
            if left:
                raise SaferuleError(f"a run is under way, {left} episode(s) left", "Ask again when it has ended")
            episodes = plan(
                request.label or self._label,
                request.episodes,
                request.seed,
                request.mode or self._settings.mode,
                request.driver or POLICY,
                request.erase_cost,
                self._used_ids,
            )
            if episodes[0].driver != POLICY:  # is there a script for this task?
                demonstrator(self._task.id, episodes[0].driver, episodes[0].seed)
        except SaferuleError as error:
            response.message = str(error)
            return response
        response.episode_ids = [episode.id for episode in episodes]
        self._used_ids.update(response.episode_ids)
        self._conductor.add(episodes)
        response.accepted = True
        return response

    def _on_end(self, planned: PlannedEpisode, outcome: Outcome, problem: str) -> None:
        self._ended["episodes"] += not problem
        self._ended["given up"] += bool(problem)
        self._ended["steps"] += outcome.length
        self._ended["fallbacks"] += outcome.fallbacks
        stamp = self._conductor.topics.now
        self._episodes.publish(episode_message(planned, outcome, stamp, problem))
        self._path.publish(path_message(outcome.path, stamp))
        if problem:
            self.get_logger().error(f"{planned.id} given up after {outcome.length} steps: {problem}")
            return
        self.get_logger().info(
            f"{planned.id}: {outcome.length} steps, return {outcome.episode_return:.2f}, "
            f"cost {outcome.episode_cost:.1f}, {outcome.fallbacks} fallbacks"
        )

    def _capture_image(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Draws the world as it is now; takes some 20 ms, the first time about a second."""
        try:
            if self._conductor.topics.sequence == 0:
                raise SaferuleError("there is nothing to see before the first episode", "Run an episode first")
            if self._camera is None:
                self._camera = Camera(self._settings.image_width, self._settings.image_height)
            model, data, name = self._environment.model, self._environment.data, self._settings.camera
            by_name = name != OVERVIEW
            view = named_view(model, data, name) if by_name else overview(self._settings.camera_extent)
            pixels = self._camera.picture(model, data, view)
        except SaferuleError as error:
            response.message = str(error)
            return response
        self._image.publish(image_message(pixels, self._conductor.topics.now, name))
        response.success = True
        response.message = f"published on {self._image.topic_name}"
        return response

    def _health(self) -> Health:
        bad = self._ended["given up"] + self._conductor.stray_actions
        values = {
            "task": self._task.id,
            "state": self._conductor.state,
            "observations": self._conductor.topics.sequence,
            "stray_actions": self._conductor.stray_actions,
            "uptime [s]": round(time.monotonic() - self._started, 1),
            **self._ended,
        }
        return Health(Level.WARN if bad else Level.OK, self._conductor.state, values)


def main() -> None:
    """Body of the executable."""
    process.main(SimBridge)
