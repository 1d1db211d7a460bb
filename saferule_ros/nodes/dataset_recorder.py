"""`dataset_recorder`: pairs observations and actions into episodes and seals them durably as a rosbag2 bag.

topics  observation, action     what is recorded
service ~/start, ~/stop         srv/StartRecording, srv/StopRecording
topic   ~/episodes              msg/Episode, latched: published when the episode is durable on disk
topic   /diagnostics
"""

import shutil
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.time import Time
from rclpy.timer import Timer

from saferule_ros.contract.model import load_contract
from saferule_ros.errors import SaferuleError
from saferule_ros.msg import Action, Episode, Observation
from saferule_ros.nodes import process, qos
from saferule_ros.nodes.diagnostics import Diagnostics, Health, Level
from saferule_ros.nodes.intake import Intake
from saferule_ros.nodes.parameters import load, parameter
from saferule_ros.nodes.recording import FLUSH_PERIOD, BagSeries, Recording
from saferule_ros.nodes.sealer import WAITING_EPISODES, Sealed
from saferule_ros.recording.bag_writer import BagWriter, SplitLimits, loop_topics
from saferule_ros.recording.messages import RawMessage
from saferule_ros.signing import KeyFolder
from saferule_ros.srv import StartRecording, StopRecording
from saferule_ros.units import NANOSECONDS
from saferule_ros.workspace import Workspace

MIB = 2**20
# How often a recording that `autostart` could not begin is tried again [s]: somebody may have made room.
RETRY_PERIOD = 2.0
# What was published shortly before a stop has arrived after such a silence [s], unless some of it got lost.
SETTLED = 0.2
LOOK_AGAIN = 0.005  # between two looks at what a stop still waits for [s]


@dataclass(frozen=True)
class Parameters:
    """Parameters of dataset_recorder."""

    workspace: str = parameter("", "folder of the robot's bags", required=True)
    autostart: bool = parameter(False, "record from the start on, into bags that are named by the time")
    # Each episode that is sealed rewrites what metadata and manifest say of those before it in its bag, half a kB for
    # each: 130 kB on average with this many, about as much as ten seconds of a robot's own messages.
    max_bag_episodes: int = parameter(
        500, "a bag that `autostart` made ends after so many episodes, and the next one begins", unit="episodes",
        low=1, high=100_000,
    )  # fmt: skip
    recorded_by: str = parameter("", "who or what records, for the metadata of bags that `autostart` makes")
    # DDS repairs what got lost at the end of a burst at its next heartbeat, by default within 3 s.
    command_patience: float = parameter(
        5.0,
        "how long an ended episode waits for a missing command, and a stop for what silent publishers sent before it",
        unit="s",
        low=0.01,
        high=60.0,
    )
    contract: str = parameter(
        "", "contract file of robot_bridge: its digest goes into the bags' manifests; empty: none"
    )
    sign: bool = parameter(True, "sign the bags' manifests with the workspace's key")
    max_file_size: int = parameter(1024, "an episode's file ends at this size", unit="MiB", low=1, high=1_000_000)
    max_file_time: float = parameter(3600.0, "an episode's file ends after so long", unit="s", low=1.0, high=1e6)
    min_free_space: int = parameter(
        500, "with less free space on the disk, no new episode is taken", unit="MiB", low=0, high=100_000_000
    )
    diagnostics_period: float = parameter(1.0, "time between diagnostics", unit="s", low=0.1, high=60.0)


def has_waited_enough(waited: float, silence: float, is_open: bool, patience: float) -> bool:
    """Whether a stop gives up waiting for what was sent before it.

    From publishers that have fallen silent, nothing is expected after `patience`, or after a short while where no
    episode is open that could lack something. One that goes on, but whose clock is behind, never proves that all came:
    twice that time is the limit.

    Args:
        waited: since the stop was asked for [s].
        silence: since the last message, or since the stop was asked for, whichever is later [s].
        is_open: an episode is open.
        patience: for what silent publishers sent [s].
    """
    expected_for = patience if is_open else SETTLED
    return silence > expected_for or waited > 2.0 * patience


class RecorderError(SaferuleError):
    """A recording cannot be started or stopped."""


class DatasetRecorder(Node):
    """See the module."""

    def __init__(self, **node_arguments: Any) -> None:
        super().__init__("dataset_recorder", **node_arguments)
        self._settings = load(self, Parameters)
        self._workspace = Workspace(Path(self._settings.workspace)).create()
        contract = self._settings.contract
        self._contract = load_contract(Path(contract).expanduser()).digest if contract else ""
        self._recording: Recording | None = None
        self._last_message = time.monotonic()
        self._received_at = 0  # [ns since the epoch]
        self._problem = ""
        self._retry: Timer | None = None  # as long as a recording that `autostart` is to begin has not begun
        self._episodes = self.create_publisher(Episode, "~/episodes", qos.EPISODES)
        self._observations = Intake(self, Observation, "observation", qos.DATA, self._on_observation)
        self._actions = Intake(self, Action, "action", qos.DATA, self._on_action)
        self._topics = loop_topics(self._observations.topic, self._actions.topic)

    def start(self) -> None:
        """Opens for business."""
        self._diagnostics = Diagnostics(self, self._settings.diagnostics_period, self._health)
        self.create_service(StartRecording, "~/start", self._start)
        self.create_service(StopRecording, "~/stop", self._stop)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(self._settings.command_patience / 2, self._give_up_missing, clock=steady)
        self.create_timer(FLUSH_PERIOD, self._tend, clock=steady)
        if self._settings.autostart:
            self._retry = self.create_timer(RETRY_PERIOD, self._autostart, clock=steady)
            self._autostart()

    def stop(self) -> None:
        """Seals what is open."""
        if self._recording is not None:
            self._drain()
            self._end()

    def _autostart(self) -> None:
        """Until it succeeds, or somebody starts or stops: a robot with a full disk is there to say so."""
        try:
            self._begin("", self._settings.recorded_by, in_series=True)
        except (SaferuleError, OSError) as error:
            problem = f"recording cannot begin: {error}"
            if problem != self._problem:  # once, not with every retry
                self._problem = problem
                self.get_logger().error(f"{problem}; it is tried again every {RETRY_PERIOD:g} s")
                self._diagnostics.publish()

    def _waits_no_more(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    def _begin(self, bag_id: str, recorded_by: str, in_series: bool = False) -> Recording:
        if self._recording is not None:
            raise RecorderError(
                f"bag {self._recording.bag_id!r} is being recorded", "Stop it first: dataset_recorder/stop"
            )
        writer = self._new_bag(bag_id, recorded_by)
        series = BagSeries(self._settings.max_bag_episodes, partial(self._new_bag, "", recorded_by))
        # What arrived before is not part of it.
        self._drain()
        self._problem = ""
        self._waits_no_more()
        self._recording = Recording(
            writer, self._on_sealed, self._settings.min_free_space * MIB, series if in_series else None
        )
        return self._recording

    def _new_bag(self, bag_id: str, recorded_by: str) -> BagWriter:
        folder = self._workspace.bag(bag_id or f"bag-{datetime.now(UTC).strftime('%Y%m%dT%H%M%S.%fZ')}")
        free = shutil.disk_usage(self._workspace.root).free
        if free < self._settings.min_free_space * MIB:
            raise RecorderError(
                f"the disk is nearly full: {free // MIB} MiB are free, min_free_space is "
                f"{self._settings.min_free_space} MiB",
                "Make room; nothing is deleted here",
            )
        limits = SplitLimits(self._settings.max_file_size * MIB, round(self._settings.max_file_time * NANOSECONDS))
        key = KeyFolder(self._workspace.keys).own() if self._settings.sign else None
        writer = BagWriter(folder, self._topics, recorded_by, contract=self._contract, key=key, limits=limits)
        self.get_logger().info(f"recording into {folder}")
        return writer

    def _end(self) -> Recording:
        if self._recording is None and self._retry is not None:
            self._waits_no_more()
            why, self._problem = self._problem, ""
            raise RecorderError(
                f"nothing is being recorded: {why}", "It is not tried again; start it with dataset_recorder/start"
            )
        if self._recording is None:
            raise RecorderError("nothing is being recorded", "Start a recording first: dataset_recorder/start")
        recording, self._recording = self._recording, None
        recording.close()
        self.get_logger().info(
            f"bag {recording.bag_id}: {recording.episodes} episodes, {recording.transitions} transitions"
        )
        return recording

    def _await_what_was_sent(self) -> None:
        """Takes all that was published before now.

        A burst can overflow the middleware's queues, and is then repaired late. A later message proves that nothing is
        missing; where none comes, see `has_waited_enough`.
        """
        sent, began = time.time_ns(), time.monotonic()
        awaited = [self._observations, self._actions]
        while awaited := [intake for intake in awaited if not intake.drain_until(sent)]:
            now = time.monotonic()
            is_open = self._recording is not None and bool(self._recording.open_episodes)
            if has_waited_enough(
                now - began, now - max(began, self._last_message), is_open, self._settings.command_patience
            ):
                return
            time.sleep(LOOK_AGAIN)

    def _drain(self) -> None:
        while self._observations.drain() + self._actions.drain():
            pass

    def _on_observation(self, payload: bytes) -> None:
        if self._recording is not None:
            self._recording.observation(self._received(self._observations, payload))

    def _on_action(self, payload: bytes) -> None:
        if self._recording is not None:
            self._recording.action(self._received(self._actions, payload))

    def _received(self, intake: Intake, payload: bytes) -> RawMessage:
        self._last_message = time.monotonic()
        # In the system's time, as rosbag2 has it; stamps inside the messages are the robot's. Where the clock is set
        # back, it stands still for us until it is there again: the order in a bag is that of reception.
        self._received_at = max(self._received_at, time.time_ns())
        return RawMessage(intake.topic, payload, self._received_at)

    def _give_up_missing(self) -> None:
        recording = self._recording
        if recording is None or not recording.lacks_commands:
            return
        # To a process that was held up, this timer is due before the messages that wait for it.
        self._drain()
        quiet = time.monotonic() - self._last_message
        if recording.lacks_commands and quiet > self._settings.command_patience:
            recording.give_up_missing_commands()

    def _tend(self) -> None:
        if self._recording is not None:
            self._recording.tend()

    def _on_sealed(self, sealed: Sealed) -> None:
        """In the sealer's thread. Publishing is safe from any thread, and must not wait for the node's."""
        message = episode_message(sealed)
        self._problem = sealed.error
        self._episodes.publish(message)
        log = self.get_logger().error if sealed.error else self.get_logger().debug
        log(f"episode {message.episode_id}: {message.message or 'sealed'}")

    def _start(self, request: StartRecording.Request, response: StartRecording.Response) -> StartRecording.Response:
        try:
            recording = self._begin(request.bag_id, request.recorded_by)
        except (SaferuleError, OSError) as error:
            response.message = str(error)
            self.get_logger().warning(f"start refused: {error}")
            return response
        response.success = True
        response.bag_id, response.path = recording.bag_id, recording.path
        response.message = f"recording into {recording.path}"
        return response

    def _stop(self, _request: StopRecording.Request, response: StopRecording.Response) -> StopRecording.Response:
        try:
            self._await_what_was_sent()
            recording = self._end()
        except SaferuleError as error:
            response.message = str(error)
            return response
        response.success = recording.failed == 0
        response.bag_id, response.path = recording.bag_id, recording.path
        response.episodes, response.transitions = recording.episodes, recording.transitions
        response.message = f"{recording.episodes} episodes, {recording.transitions} transitions sealed"
        if recording.bags > 1:
            response.message += f", in the last of {recording.bags} bags"
        if recording.failed:
            response.message += f"; {recording.failed} episodes could not be written: {self._problem}"
        return response

    def _health(self) -> Health:
        recording = self._recording
        if recording is None:
            level = Level.ERROR if self._problem else Level.OK
            return Health(level, self._problem or "idle", {"workspace": self._workspace.root})
        values = {
            "bag_id": recording.bag_id,
            "path": recording.path,
            "bags": recording.bags,
            "episodes": recording.episodes,
            "transitions": recording.transitions,
            "episodes_not_written": recording.failed,
            "episodes_not_announced": recording.untold,
            "episodes_waiting_for_disk": recording.waiting,
            "open_episodes": ", ".join(recording.open_episodes),
            "messages": recording.messages,
            "messages_in_memory": recording.held,
            "messages_undecodable": recording.undecodable,
            "messages_of_no_episode": recording.strays,
            "episodes_not_taken": recording.not_taken,
            "episodes_without_transition": recording.empty,
        }
        if recording.disk_problem:
            return Health(Level.ERROR, recording.disk_problem, values)
        if self._problem:
            return Health(Level.ERROR, self._problem, values)
        if recording.untold_problem:
            return Health(Level.WARN, recording.untold_problem, values)
        if recording.waiting >= WAITING_EPISODES:
            return Health(Level.WARN, "the disk is too slow: messages wait in the middleware", values)
        if recording.journal_problem:
            return Health(Level.WARN, recording.journal_problem, values)
        if recording.bag_problem:
            return Health(Level.WARN, recording.bag_problem, values)
        if recording.undecodable:
            return Health(Level.WARN, f"{recording.undecodable} messages could not be decoded", values)
        return Health(Level.OK, f"recording {recording.bag_id}", values)


def episode_message(sealed: Sealed) -> Episode:
    """The acknowledgement of one episode, or why there is none."""
    assembled, episode = sealed.assembled, sealed.assembled.episode
    message = Episode(
        episode_id=assembled.episode_id,
        bag_id=sealed.bag_id,
        lost=assembled.faults.lost,
        message=sealed.error or assembled.message,
    )
    message.header.stamp = Time(nanoseconds=assembled.end).to_msg()
    if episode is not None:
        message.length = episode.length
        message.episode_return, message.episode_cost = episode.episode_return, episode.episode_cost
        message.terminated, message.truncated = episode.terminated, episode.truncated
        message.policy_ids, message.fallbacks = list(episode.policy_ids), episode.fallbacks
        message.digest = "" if sealed.error else episode.digest
    return message


main = partial(process.main, DatasetRecorder)
