"""The verbs of one robot, simulated here: what the services and topics of its nodes let a person do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from nav_msgs.msg import Path as PathMessage
from rclpy.task import Future

from saferule_ros.action import Unlearn
from saferule_ros.msg import Episode, PolicyStatus
from saferule_ros.nodes import qos
from saferule_ros.nodes.demo.operator import Goal, Operator, Refused
from saferule_ros.nodes.demo.settings import Deadlines
from saferule_ros.nodes.node_process import NodeProcess
from saferule_ros.nodes.runner import Runner
from saferule_ros.srv import Forget, RollbackPolicy, RunEpisodes, StartRecording, StopRecording, SwapPolicy

Stamp = tuple[int, int]


@dataclass(frozen=True)
class EndedEpisode:
    """What sim_bridge said of one episode: the true outcome, and where the robot went, x and y [m]."""

    message: Episode
    path: list[tuple[float, float]]


class Robot:
    """Makes each request, waits for the answer, and raises what a person would have to be told.

    Args:
        operator: does the talking.
        runner: has the robot's processes.
        deadlines: see there.
        namespace: of the robot's nodes, e.g. "robot_1"; empty: none.
        paths: listen to where the robot goes, which `outcome` needs.
    """

    def __init__(
        self, operator: Operator, runner: Runner, deadlines: Deadlines, namespace: str = "", paths: bool = True
    ) -> None:
        self.operator = operator
        self.runner = runner
        self.namespace = namespace
        self.ended: dict[str, Episode] = {}
        self.sealed: dict[str, Episode] = {}
        self.status: PolicyStatus | None = None
        self._deadlines = deadlines
        self._paths: dict[Stamp, list[tuple[float, float]]] = {}
        operator.subscribe(Episode, self._name("sim_bridge/episodes"), qos.EPISODES, self._on_ended)
        operator.subscribe(Episode, self._name("dataset_recorder/episodes"), qos.EPISODES, self._on_sealed)
        if paths:
            # Only the newest is kept by its publisher, but they come half a second apart at least.
            operator.subscribe(PathMessage, self._name("sim_bridge/path"), qos.EPISODES, self._on_path)
        operator.subscribe(PolicyStatus, self._name("policy_server/status"), qos.LATCHED, self._on_status)

    # --- episodes ---------------------------------------------------------------------------------------------

    def begin_episodes(self, **request: Any) -> Future:
        """Asks for episodes (fields of RunEpisodes) and does not wait, not even for the answer."""
        return self.operator.begin(RunEpisodes, self._name("sim_bridge/run_episodes"), RunEpisodes.Request(**request))

    def start_episodes(self, **request: Any) -> list[str]:
        """Asks for episodes (fields of RunEpisodes); returns their ids."""
        reply = self._call(RunEpisodes, "sim_bridge", "run_episodes", RunEpisodes.Request(**request))
        return accepted_ids(reply)

    def ended_episode(self, episode_id: str, deadline: float) -> Episode:
        """What sim_bridge says of an episode, once it has ended; Refused if it was given up."""
        of = self.process("sim_bridge")
        self.operator.wait(lambda: episode_id in self.ended, f"episode {episode_id} ends", deadline, of)
        ended = self.ended[episode_id]
        if ended.message:
            raise Refused(f"episode {episode_id} was given up: {ended.message}", "See the log of sim_bridge")
        return ended

    def outcome(self, episode_id: str, deadline: float) -> EndedEpisode:
        """An episode once it has ended, with its path. Errors as for `ended_episode`."""
        ended, of = self.ended_episode(episode_id, deadline), self.process("sim_bridge")
        self.operator.wait(lambda: _stamp(ended) in self._paths, f"the path of {episode_id} arrives", deadline, of)
        return EndedEpisode(ended, self._paths[_stamp(ended)])

    def recorded(self, episode_id: str, deadline: float = 0.0) -> Episode:
        """What the recorder says of an episode, once it is durable on disk."""
        what, of = f"episode {episode_id} is recorded", self.process("dataset_recorder")
        self.operator.wait(lambda: episode_id in self.sealed, what, deadline or self._deadlines.answer, of)
        return self.sealed[episode_id]

    # --- recording --------------------------------------------------------------------------------------------

    def start_recording(self, bag_id: str, recorded_by: str) -> None:
        request = StartRecording.Request(bag_id=bag_id, recorded_by=recorded_by)
        _require(self._call(StartRecording, "dataset_recorder", "start", request), "dataset_recorder/start")

    def stop_recording(self) -> StopRecording.Response:
        reply = self._call(StopRecording, "dataset_recorder", "stop", StopRecording.Request())
        return _require(reply, "dataset_recorder/stop")

    # --- policies ---------------------------------------------------------------------------------------------

    def await_serving(self) -> PolicyStatus:
        """Waits until a policy is served."""
        self.operator.wait(
            lambda: self.status is not None and self.status.state == "serving",
            "policy_server serves a policy", self._deadlines.nodes, self.process("policy_server"),
        )  # fmt: skip
        assert self.status is not None
        return self.status

    def swap(self) -> SwapPolicy.Response:
        """Swaps the candidate in; returns when it acts."""
        deadline = self._deadlines.swap
        return _require(self._call(SwapPolicy, "policy_server", "swap", SwapPolicy.Request(), deadline), "the swap")

    def roll_back(self, reason: str) -> RollbackPolicy.Response:
        request = RollbackPolicy.Request(reason=reason)
        return _require(self._call(RollbackPolicy, "policy_server", "rollback", request), "the rollback")

    # --- forgetting -------------------------------------------------------------------------------------------

    def forget(self, bag_ids: Sequence[str], reason: str, requester: str) -> Forget.Response:
        """Stores the forget set."""
        request = Forget.Request(bag_ids=list(bag_ids), reason=reason, requester=requester)
        reply = self._call(Forget, "unlearning_server", "forget", request)
        if not reply.accepted:
            raise Refused(f"unlearning_server/forget: {reply.message}")
        return reply

    def unlearn(
        self, forget_set_id: str, steps: int, seed: int, on_feedback: Callable[[Unlearn.Feedback], None]
    ) -> Goal[Unlearn.Result]:
        """Starts the patch; returns when the goal is accepted."""
        goal = Unlearn.Goal(forget_set_id=forget_set_id, steps=steps, seed=seed)
        name, of = self._name("unlearning_server/unlearn"), self.process("unlearning_server")
        return self.operator.send_goal(Unlearn, name, goal, on_feedback, self._deadlines.answer, of)

    # --- within -----------------------------------------------------------------------------------------------

    def _name(self, relative: str) -> str:
        return f"/{self.namespace}/{relative}" if self.namespace else relative

    def process(self, node: str) -> NodeProcess | None:
        """The process of one of the robot's nodes."""
        return self.runner.processes.get(node)

    def _call(self, kind: type, node: str, verb: str, request: Any, deadline: float = 0.0) -> Any:
        deadline = deadline or self._deadlines.answer
        return self.operator.call(kind, self._name(f"{node}/{verb}"), request, deadline, self.process(node))

    def _on_ended(self, message: Episode) -> None:
        self.ended[message.episode_id] = message

    def _on_sealed(self, message: Episode) -> None:
        self.sealed[message.episode_id] = message

    def _on_path(self, message: PathMessage) -> None:
        self._paths[_stamp(message)] = [(p.pose.position.x, p.pose.position.y) for p in message.poses]

    def _on_status(self, message: PolicyStatus) -> None:
        self.status = message


def accepted_ids(reply: RunEpisodes.Response) -> list[str]:
    """Ids of the episodes that will run; Refused if none will."""
    if not reply.accepted:
        raise Refused(f"sim_bridge/run_episodes: {reply.message}")
    return list(reply.episode_ids)


def is_whole(sealed: Episode) -> bool:
    """Whether all of an episode is in its bag."""
    return not sealed.message and not sealed.lost


def check_recorded(sealed: Episode) -> None:
    """Raises Refused unless all of an episode is in its bag."""
    if not is_whole(sealed):
        raise Refused(
            f"recording of episode {sealed.episode_id} into bag {sealed.bag_id!r}: {sealed.lost} ticks lost: "
            f"{sealed.message}",
            "The recorder could not keep up, or its disk is full: see its log",
        )


def _require(reply: Any, what: str) -> Any:
    if not reply.success:
        raise Refused(f"{what}: {reply.message}")
    return reply


def _stamp(message: Any) -> Stamp:
    return message.header.stamp.sec, message.header.stamp.nanosec
