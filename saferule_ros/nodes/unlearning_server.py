"""`unlearning_server`: takes forget sets, runs patch jobs in a niced process, reports on them.

    service ~/forget   srv/Forget       stores a forget set, and starts a job if asked
    action  ~/unlearn  action/Unlearn   runs a job, or follows the running one
    topic   ~/jobs     msg/JobStatus    latched: the newest job
    topic   /diagnostics

It never touches what is served: a job ends with a candidate in the store, which `policy_server` may swap in.
"""

import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rclpy.action import ActionServer, CancelResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from saferule_ros.action import Unlearn
from saferule_ros.dataset.forget_set import ForgetSet
from saferule_ros.dataset.selection import parse_steps, parse_window
from saferule_ros.device import Device
from saferule_ros.errors import SaferuleError, SettingsError
from saferule_ros.msg import JobStatus
from saferule_ros.nodes import process, qos
from saferule_ros.nodes.answering import only_refusals
from saferule_ros.nodes.diagnostics import Diagnostics, Health, Level
from saferule_ros.nodes.goals import Goals
from saferule_ros.nodes.job_messages import (
    IDLE,
    RUNNING,
    feedback_of,
    final_status,
    refusal,
    result_of,
    running_status,
)
from saferule_ros.nodes.job_runner import JobRefused, JobRunner, request_for
from saferule_ros.nodes.parameters import load, parameter
from saferule_ros.patching.device_check import DeviceCheck
from saferule_ros.patching.forget import StoredForgetSet, store_forget_set
from saferule_ros.patching.judge_mode import JudgeMode
from saferule_ros.patching.process import STOP_SECONDS, new_job_id
from saferule_ros.patching.progress import PatchProgress
from saferule_ros.patching.readiness import check_can_patch
from saferule_ros.patching.recovery import close_interrupted_jobs
from saferule_ros.patching.report import Outcome, PatchReport
from saferule_ros.patching.request import PatchRequest
from saferule_ros.patching.settings import judging_settings
from saferule_ros.srv import Forget
from saferule_ros.unlearning.settings import MOST_STEPS
from saferule_ros.workspace import Workspace

# While the node stops, it still answers those who wait for the job; one look at the executor takes this.
STOP_SPIN_SECONDS = 0.05
# A killed worker is gone in milliseconds; the answers to its goals go out within this.
LAST_ANSWERS_SECONDS = 1.0
# How often it is looked whether the check of the device has ended [s].
DEVICE_PERIOD = 0.5


@dataclass(frozen=True)
class Parameters:
    """Parameters of unlearning_server."""

    workspace: str = parameter("", "folder of store, dataset, checkpoints and jobs", required=True)
    settings: str = parameter("", "YAML file with patch settings; empty: the defaults")
    steps: int = parameter(
        0, "unlearning steps unless a goal says otherwise; 0: as in the settings", low=0, high=MOST_STEPS
    )
    seed: int = parameter(0, "seed of jobs that `forget` starts", low=0, high=2**62)
    judge: str = parameter(
        "none", "offline check of a patch before it is proposed; advise: where its model can be trusted",
        choices=tuple(JudgeMode),
    )  # fmt: skip
    judging: str = parameter("", "YAML file with settings of that check; empty: the defaults")
    nice: int = parameter(10, "niceness of the worker, added to this node's", low=0, high=19)
    threads: int = parameter(1, "threads of the worker", low=1, high=256)
    device: str = parameter("cpu", "what unlearns; cuda: the GPU of this node's machine", choices=tuple(Device))
    result_timeout: int = parameter(900, "how long a goal's result is kept", unit="s", low=1, high=86_400)
    diagnostics_period: float = parameter(1.0, "time between diagnostics", unit="s", low=0.1, high=60.0)


def _there(file: str) -> Path | None:
    """A settings file; None: the defaults. Raises SettingsError where it is not there."""
    if not file:
        return None
    path = Path(file).expanduser()
    if not path.is_file():
        raise SettingsError(f"there is no settings file {str(path)!r}", "Give a YAML file; empty: the defaults")
    return path


class UnlearningServer(Node):
    """See the module."""

    def __init__(self, **node_arguments: Any) -> None:
        super().__init__("unlearning_server", **node_arguments)
        self._settings = load(self, Parameters)
        self._judge = JudgeMode(self._settings.judge)
        # What is in the first depends on the learner that is to forget: it is read when a job is asked for, and once at
        # the start, so that nobody hears of a mistake in it only when the patch is needed.
        self._patch_settings, self._judging = _there(self._settings.settings), _there(self._settings.judging)
        judging_settings(self._judge, self._judging)
        self._workspace = Workspace(Path(self._settings.workspace)).create()
        self._goals = Goals()
        self._stopping = False
        self._jobs: JobRunner | None = None
        self._action: ActionServer | None = None
        self._device_check: DeviceCheck | None = None
        self._wrong_settings = self._no_device = ""
        self._status = JobStatus(state=IDLE, time_left=-1.0)

    def start(self) -> None:
        """Opens for business; the executor exists now."""
        assert self.executor is not None
        self._jobs = JobRunner(self.executor, self._on_progress, self._on_end)
        self._publisher = self.create_publisher(JobStatus, "~/jobs", qos.LATCHED)
        self._diagnostics = Diagnostics(self, self._settings.diagnostics_period, self._health)
        interrupted = close_interrupted_jobs(self._workspace)
        if interrupted:
            self._status.message = f"interrupted before this start: {', '.join(interrupted)}"
            self.get_logger().warning(self._status.message)
        self._publish(self._status)
        self._look_at_settings()
        self.create_service(Forget, "~/forget", self._forget)
        self._action = ActionServer(
            self,
            Unlearn,
            "~/unlearn",
            execute_callback=_never,
            handle_accepted_callback=self._on_goal,
            cancel_callback=self._on_cancel,
            result_timeout=self._settings.result_timeout,
        )
        self._device_check = DeviceCheck(self._settings.device)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._device_timer = self.create_timer(DEVICE_PERIOD, self._look_at_device, clock=steady)

    def stop(self) -> None:
        """Cancels the job, waits for its end, and answers everybody who waits for it."""
        self._stopping = True
        if self._jobs is None:
            return
        if self._device_check is not None:
            self._device_check.end()
        self._jobs.cancel()
        self._spin_until_answered(STOP_SECONDS)
        self._jobs.kill()
        self._spin_until_answered(LAST_ANSWERS_SECONDS)
        if self._action is not None:
            self._action.destroy()

    def _spin_until_answered(self, patience: float) -> None:
        assert self.executor is not None and self._jobs is not None
        end = time.monotonic() + patience
        while (self._jobs.request or self._goals.unanswered) and time.monotonic() < end:
            self.executor.spin_once(timeout_sec=STOP_SPIN_SECONDS)
        # A goal's result is sent by a task of its own, after the one that ended the goal.
        self.executor.spin_once(timeout_sec=STOP_SPIN_SECONDS)

    def _forget(self, request: Forget.Request, response: Forget.Response) -> Forget.Response:
        try:
            with self._only_refusals():
                self._take_on(request, response)
            response.accepted = True
        except SaferuleError as error:
            response.accepted = False
            stored = f"forget set {response.forget_set_id} is stored, its job did not start: "
            response.message = f"{stored if response.forget_set_id else ''}{error}"
        self.get_logger().info(f"forget (asked by {request.requester or 'unknown'}): {response.message}")
        return response

    def _take_on(self, request: Forget.Request, response: Forget.Response) -> None:
        self._refuse_while_running()
        if request.start:
            self._check_can_patch()
        stored = store_forget_set(
            self._workspace, request.bag_ids, request.episode_ids, request.reason, request.requester,
            [parse_steps(text) for text in request.steps], [parse_window(text) for text in request.times],
            request.policy_ids, request.recorded_by, request.where,
        )  # fmt: skip
        _describe(stored, response)
        if request.start:
            response.job_id = self._start_job(
                stored.forget_set.id, self._settings.steps, self._settings.seed, request.requester
            )
            response.message += f"; job {response.job_id} runs"

    def _only_refusals(self) -> AbstractContextManager[None]:
        """The workspace may lie on a disk that fails, or on a mount that has gone stale."""
        return only_refusals(self, f"Look at the disk or the mount of {str(self._workspace.root)!r}, then ask again")

    def _refuse_while_running(self) -> None:
        assert self._jobs is not None
        if self._stopping:
            raise JobRefused("unlearning_server is shutting down", "Ask again when it runs")
        running = self._jobs.request
        if running is not None and self._jobs.cancelling:
            raise JobRefused(
                f"job {running.job_id} for forget set {running.forget_set_id} is being cancelled",
                "Ask again in some seconds, when it has ended",
            )
        if running is not None:
            raise JobRefused(
                f"job {running.job_id} for forget set {running.forget_set_id} runs",
                "Wait for its end or cancel it; then ask again",
            )

    def _check_can_patch(self) -> None:
        check_can_patch(self._workspace, self._patch_settings, self._judge, self._judging)
        self._wrong_settings = ""

    def _look_at_device(self) -> None:
        """Once: whoever asks for a patch must not be the first to hear that its GPU is not there."""
        assert self._device_check is not None
        problem = self._device_check.problem
        if problem is None:
            return
        self._device_timer.cancel()
        if problem:
            self._no_device = problem
            self.get_logger().error(f"no patch can succeed: {problem}")
            self._diagnostics.publish()

    def _look_at_settings(self) -> None:
        try:
            with self._only_refusals():
                self._check_can_patch()
        except SettingsError as error:
            self._wrong_settings = f"no patch can start: {error}"
            self.get_logger().error(self._wrong_settings)
        except SaferuleError:
            pass  # nothing to patch yet, most often; whoever asks for a patch is told

    def _start_job(self, forget_set_id: str, steps: int, seed: int, requester: str) -> str:
        assert self._jobs is not None
        request = request_for(
            job_id=new_job_id(forget_set_id),
            workspace=self._workspace.root,
            forget_set_id=forget_set_id,
            steps=steps,
            seed=seed,
            settings=self._patch_settings,
            judge=self._judge,
            device=self._settings.device,
            judging=self._judging,
            nice=self._settings.nice,
            threads=self._settings.threads,
            requester=requester,
        )
        self._jobs.start(request)
        return request.job_id

    def _on_goal(self, goal: ServerGoalHandle) -> None:
        asked: Unlearn.Goal = goal.request
        assert self._jobs is not None
        try:
            if not self._runs_already(asked):
                with self._only_refusals():
                    self._refuse_while_running()
                    wanted = ForgetSet.load(self._workspace.forget_sets, asked.forget_set_id)
                    self._check_can_patch()
                    who = wanted.requester or "unlearn goal"  # a goal itself says nobody
                    self._start_job(asked.forget_set_id, asked.steps or self._settings.steps, asked.seed, who)
        except SaferuleError as error:
            self.get_logger().warning(f"goal refused: {error}")
            self._goals.refuse(goal, refusal(str(error)))
            return
        self._goals.follow(goal)

    def _runs_already(self, asked: Unlearn.Goal) -> bool:
        """Whether the job that runs is the one that is asked for, and will come to its end."""
        assert self._jobs is not None
        running = self._jobs.request
        if running is None or running.forget_set_id != asked.forget_set_id:
            return False
        if self._stopping or self._jobs.cancelling:
            return False
        for name, wanted, has in (("steps", asked.steps, running.steps), ("seed", asked.seed, running.seed)):
            if wanted not in (0, has):  # 0: not said
                raise JobRefused(
                    f"job {running.job_id} for this forget set runs with {name} {has or 'as configured'}, not {wanted}",
                    "Ask without, to follow it; or cancel it and ask again",
                )
        return True

    def _on_cancel(self, _goal: ServerGoalHandle) -> CancelResponse:
        assert self._jobs is not None
        self._jobs.cancel()
        return CancelResponse.ACCEPT

    def _on_progress(self, request: PatchRequest, progress: PatchProgress) -> None:
        self._goals.feed(feedback_of(progress))
        self._publish(running_status(request, progress))

    def _on_end(self, report: PatchReport, last: PatchProgress) -> None:
        if report.outcome in (Outcome.SUCCEEDED, Outcome.WITHHELD):
            self._no_device = ""  # it was only slow to answer
        log = self.get_logger().error if report.outcome is Outcome.FAILED else self.get_logger().info
        log(f"job {report.job_id} {report.outcome}: {report.message}")
        self._publish(final_status(report, last))
        self._goals.finish(result_of(report))

    def _publish(self, status: JobStatus) -> None:
        changed = status.state != self._status.state
        status.header.stamp = self.get_clock().now().to_msg()
        self._status = status
        self._publisher.publish(status)
        if changed:
            self._diagnostics.publish()

    def _health(self) -> Health:
        status = self._status
        assert self._jobs is not None
        values = {
            "job_id": status.job_id,
            "forget_set_id": status.forget_set_id,
            "state": status.state,
            "stage": status.stage,
            "step": f"{status.step} of {status.steps}",
            "worker_pid": self._jobs.pid or "",
            "workspace": self._workspace.root,
        }
        amiss = [words for words in (self._wrong_settings, self._no_device) if words]
        if status.state in (Outcome.FAILED, Outcome.WITHHELD):
            amiss.append(f"the last job {status.state}: {status.message}")
        if amiss:
            return Health(Level.WARN, "; ".join(amiss), values)
        running = f"job {status.job_id}: {status.stage}"
        return Health(Level.OK, running if status.state == RUNNING else status.state, values)


def _never(_goal: ServerGoalHandle) -> Unlearn.Result:
    raise AssertionError("goals are executed with a callback of their own, see Goals")


def _describe(stored: StoredForgetSet, response: Forget.Response) -> None:
    response.forget_set_id = stored.forget_set.id
    response.forget_episodes = stored.forget_episodes
    response.forget_transitions = stored.forget_transitions
    response.keep_episodes = stored.keep_episodes
    response.keep_transitions = stored.keep_transitions
    response.message = (
        f"forget set {stored.forget_set.id} stored: {stored.forget_episodes} episodes to forget, "
        f"{stored.keep_episodes} to keep"
    )


def main() -> None:
    """The executable."""
    process.main(UnlearningServer)
