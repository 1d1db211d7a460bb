"""`robot_bridge`: a contract at work. The robot's own topics become observations, actions its commands.

topics  those of the contract's sources     what is read, as raw bytes: the same code reads bags
        observation                         msg/Observation, one for each tick
        action                              msg/Action
        that of the contract's action       the robot's command; the contract's `stop` in silence, at an episode's end
                                            (unless only max_steps cut it: the robot goes on) and at that of the node
        ~/new_episode                       std_msgs/Empty: an episode was asked for (record it: ingest begins one, too)
service ~/new_episode                       std_srvs/Trigger
topic   /diagnostics
"""

import importlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rclpy.clock import Clock, ClockType
from rclpy.event_handler import QoSRequestedIncompatibleQoSInfo, SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import qos_policy_name_from_kind
from rclpy.serialization import serialize_message
from rclpy.time import Time
from std_msgs.msg import Empty, Header
from std_srvs.srv import Trigger

from saferule_ros.contract.command import Command
from saferule_ros.contract.command_check import check_command
from saferule_ros.contract.errors import ContractError
from saferule_ros.contract.model import load_contract
from saferule_ros.contract.translation import NEW_EPISODE, ContractTranslation, Made
from saferule_ros.msg import Action, Observation
from saferule_ros.nodes import process, qos
from saferule_ros.nodes.diagnostics import Diagnostics, Health, Level
from saferule_ros.nodes.parameters import load, parameter
from saferule_ros.nodes.passing_time import PassingTime
from saferule_ros.recording.errors import BagError
from saferule_ros.recording.message_types import known_definition
from saferule_ros.recording.messages import ObservationMessage, RawMessage
from saferule_ros.recording.scan import TopicInfo
from saferule_ros.units import NANOSECONDS

# How often time goes on where no message moves it: for ticks at a fixed rate, this many looks in a period.
_LOOKS_PER_TICK = 4
_SLOWEST_LOOK = 0.05  # [s]


@dataclass(frozen=True)
class Parameters:
    """Parameters of robot_bridge."""

    contract: str = parameter("", "contract file: what the robot's topics mean", required=True)
    diagnostics_period: float = parameter(1.0, "time between diagnostics", unit="s", low=0.1, high=60.0)


class RobotBridge(Node):
    """See the module."""

    def __init__(self, **node_arguments: Any) -> None:
        super().__init__("robot_bridge", **node_arguments)
        self._settings = load(self, Parameters)
        self._contract = load_contract(Path(self._settings.contract).expanduser())
        about = self._contract.action
        # A simulator's times begin anew with each start; names of episodes never come again.
        self._translation = ContractTranslation(self._contract, secrets.token_hex(4))
        self._command = Command(about)
        types = {source.topic: source.type for source in self._contract.sources.values()} | {about.topic: about.type}
        self._topics = {topic: TopicInfo(kind, known_definition(kind).text) for topic, kind in types.items()}
        self._topics[NEW_EPISODE] = TopicInfo("std_msgs/msg/Empty")
        self._action_type = message_class(about.type)
        check_command(self._command, self._action_type, serialize_message)
        self._last_action = self._command.first
        self._passed = PassingTime(self)
        self._last_sent: int | None = None  # when, by that [ns]
        self._stopped = False
        self._problem = ""
        self._unheard: dict[str, str] = {}  # topics of whose publishers one does not match, and why
        self._counts = {"observations": 0, "commands": 0, "stops": 0, "refused_actions": 0, "held_actions": 0}
        self._observations = self.create_publisher(Observation, "observation", qos.DATA)
        self._commands = self.create_publisher(self._action_type, about.topic, qos.COMMANDS)
        self._boundaries = self.create_publisher(Empty, "~/new_episode", qos.DATA)

    def start(self) -> None:
        """Opens for business."""
        self.create_subscription(Action, "action", self._on_action, qos.DATA)
        topics = {source.topic: source for source in self._contract.sources.values()}
        for topic, source in topics.items():
            same = [one for one in self._contract.sources.values() if one.topic == topic]
            reliable = qos.DATA if any(one.reliable for one in same) else qos.SENSORS
            self.create_subscription(
                message_class(source.type), topic, partial(self._on_message, topic),
                qos.KEPT if any(one.latched for one in same) else reliable, raw=True,
                event_callbacks=SubscriptionEventCallbacks(incompatible_qos=partial(self._on_incompatible, topic)),
            )  # fmt: skip
        if self._contract.episode.service:
            self.create_service(Trigger, "~/new_episode", self._new_episode)
        rate = self._contract.tick.rate
        period = min(_SLOWEST_LOOK, 1.0 / (rate * _LOOKS_PER_TICK) if rate else _SLOWEST_LOOK)
        self.create_timer(period, self._look, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._diagnostics = Diagnostics(self, self._settings.diagnostics_period, self._health)
        self.get_logger().info(f"contract {self._contract.name}, digest {self._contract.digest[:16]}")

    def stop(self) -> None:
        """The safe command goes out last, where any went out: whatever else drives the robot is left alone."""
        if self._last_sent is not None:
            self._send_stop()

    def _now(self) -> int:
        return self.get_clock().now().nanoseconds

    def _on_message(self, topic: str, payload: bytes) -> None:
        self._feed(RawMessage(topic, payload, self._now()))

    def _on_incompatible(self, topic: str, event: QoSRequestedIncompatibleQoSInfo) -> None:
        """A publisher does not offer what the contract asks for: nothing of it is ever heard."""
        policy = qos_policy_name_from_kind(event.last_policy_kind)
        self._unheard[topic] = (
            f"{topic}: a publisher's {policy} does not match what the contract asks for, so it is not heard: let it "
            "offer that (transient_local, reliable), or take latched and reliable out of the contract"
        )
        self._tell(self._unheard[topic])

    def _feed(self, message: RawMessage) -> None:
        self._publish_all(self._translation.take([message], self._topics))

    def _look(self) -> None:
        """Time goes on without messages, too."""
        self._publish_all(self._translation.runner.advance(self._now()))
        if self._last_sent is not None and not self._stopped:
            silent = self._passed() - self._last_sent
            if silent > round(self._contract.action.timeout * NANOSECONDS):
                self._tell(f"no action for {silent / NANOSECONDS:.3f} s: stop was sent")
                self._send_stop()

    def _publish_all(self, found: Iterable[Made]) -> None:
        """Publishes observations as they are made. An end is left alone by policy_server: the robot is stopped here."""
        ended = False
        try:
            for made in found:
                if isinstance(made, ObservationMessage):
                    ended = self._publish(made)
        except (ContractError, BagError) as error:  # sizes that only a message could tell
            self._tell(str(error))
        self._tell_notice()
        if ended and self._last_sent is not None:
            self._send_stop()

    def _publish(self, made: ObservationMessage) -> bool:
        """Returns whether the robot has to stop, as the newest observation ends its episode."""
        self._counts["observations"] += 1
        self._observations.publish(
            Observation(
                header=Header(stamp=Time(nanoseconds=made.stamp).to_msg()), sequence=made.sequence,
                episode_id=made.episode_id, step=made.step, data=made.data, reward=made.reward, cost=made.cost,
                terminated=made.terminated, truncated=made.truncated,
            )
        )  # fmt: skip
        # A robot that goes on for long is cut into episodes: between two of them nothing about it has ended.
        return made.terminated or (made.truncated and made.step != self._contract.episode.max_steps)

    def _on_action(self, message: Action) -> None:
        action = np.frombuffer(message.data, np.float32)
        if len(action) != self._contract.action_size or not np.isfinite(action).all():
            self._counts["refused_actions"] += 1
            self._tell(f"an action of {len(action)} values, or not finite, was refused: stop was sent")
            self._send_stop()
            return
        # The first command may go as far as the bounds: there is none before it that it could be too far from.
        since = self._passed() - self._last_sent if self._last_sent is not None else 3600 * NANOSECONDS
        held = self._command.held(action, self._last_action, since)
        self._count_held(action, held)
        self._send(held)
        self._stopped = False
        self._counts["commands"] += 1

    def _count_held(self, action: np.ndarray, held: np.ndarray) -> None:
        """Tells once that the robot does something else than the policy said: whoever learns from it must know."""
        changed = np.flatnonzero(held.astype(np.float32) != action)
        self._counts["held_actions"] += bool(len(changed))
        if len(changed) and self._counts["held_actions"] == 1:
            entry = changed[0]
            self._tell(
                f"action[{entry}] was {action[entry]:g}, the contract's low, high or max_rate held the command to "
                f"{held[entry]:g}: dataset_recorder records the former, the robot executes the latter. Raise these "
                "limits, or declare them to the policy: action_low and action_high of its spec, largest_rate of "
                "policy_server"
            )

    def _send_stop(self) -> None:
        action = self._command.stop(None if self._last_sent is None else self._last_action)
        if action is not None:
            self._send(action)
            self._counts["stops"] += 1
        self._stopped = True

    def _send(self, action: np.ndarray) -> None:
        command = self._action_type()
        self._command.fill(command, self._command.values(action))
        payload = serialize_message(command)
        now = self._now()  # before the robot can answer it
        self._commands.publish(command)
        self._last_action, self._last_sent = action, self._passed()
        # The history of commands, and a safeguard's labels, are of what was sent, read back from its bytes: a bag of
        # the robot's topics has no more than these. dataset_recorder records what the policy said.
        self._feed(RawMessage(self._contract.action.topic, payload, now))

    def _new_episode(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._boundaries.publish(Empty())
        self._feed(RawMessage(NEW_EPISODE, b"", self._now()))
        response.success = True
        response.message = "the next observation begins an episode"
        return response

    def _tell(self, problem: str) -> None:
        if problem != self._problem:
            self.get_logger().warning(problem)
        self._problem = problem

    def _tell_notice(self) -> None:
        runner = self._translation.runner
        if runner.notice:
            self._tell(runner.notice)
            runner.notice = ""

    def _deaf(self) -> str:
        """What is not heard for its quality of service, while nobody else says it."""
        for name, stream in self._translation.runner.streams.items():
            topic = self._contract.sources[name].topic
            if topic in self._unheard and not stream.counts["received"]:
                return self._unheard[topic]
        return ""

    def _others(self) -> str:
        """Who else commands the robot: a second robot with the same contract, whose topics are those of the first."""
        topic = self._contract.action.topic
        own = (self.get_namespace(), self.get_name())
        publishers = self.get_publishers_info_by_topic(topic)
        names = [(one.node_namespace, one.node_name) for one in publishers]
        others = sorted(f"{space.rstrip('/')}/{name}" for space, name in names if (space, name) != own)
        if not others and names.count(own) < 2:
            return ""
        return (
            f"{topic} is commanded by {', '.join(others) or 'a second node of this name'}, too: the robot gets all of "
            "it. A contract's topics are full names: each of several robots needs a contract with its own"
        )

    def _health(self) -> Health:
        runner = self._translation.runner
        values: dict[str, object] = {
            "contract": self._contract.name,
            "digest": self._contract.digest,
            **self._counts,
            **{f"ticks, {name}": count for name, count in runner.ticks.values.items()},
            **dict(sorted(runner.counts.items())),
        }
        for name, stream in runner.streams.items():
            values |= {f"{name}, {what}": count for what, count in sorted(stream.counts.items())}
        problem, self._problem = self._problem or self._deaf() or self._others() or runner.problem, ""
        if problem:
            return Health(Level.WARN, problem, values)
        return Health(Level.OK, runner.resting or f"{self._counts['observations']} observations", values)


def message_class(type_name: str) -> Any:
    """The generated class of package/msg/Name.

    Raises:
        ContractError: it is not installed.
    """
    package, _, name = type_name.split("/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), name)
    except (ImportError, AttributeError) as error:
        raise ContractError(
            f"message type {type_name!r} is not installed: {error}", "Install its package and source it"
        ) from error


main = partial(process.main, RobotBridge)
