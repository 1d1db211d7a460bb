"""unlearning_server as a process over DDS, with real jobs on a small workspace."""
# ruff: noqa: F811  (a fixture and the arguments that ask for it)

import itertools
import json
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from action_msgs.msg import GoalStatus
from action_msgs.srv import CancelGoal
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from learning_cases import WHOLE
from patch_samples import BAD_BAG, BAD_EPISODES, KEEP_BAG, KEEP_EPISODES, STEPS, make_workspace
from ros_helpers import READY, Ros, ros  # noqa: F401
from saferule_ros.action import Unlearn
from saferule_ros.msg import JobStatus
from saferule_ros.srv import Forget

from saferule_ros.dataset.forget_set import ForgetSet
from saferule_ros.nodes import qos
from saferule_ros.nodes.runner import NodeProcess
from saferule_ros.patching.report import Outcome, PatchReport
from saferule_ros.policy.store import PolicyStore
from saferule_ros.workspace import Workspace

pytestmark = pytest.mark.ros

NAME = "unlearning_server"
SHORT, ENDLESS = 30, 100_000  # unlearning steps: under a second; longer than any test
# Settings of a patch by which no classifier is learned: a second less for each job.
QUICK = "quick.yaml"
# Less than by default, so that a busy machine does not starve the jobs of the tests.
NICE = 1
# What asks for nothing but an answer has it in milliseconds. Under load the middleware loses one now and then, and then
# the test begins anew: see .ci/run.
ANSWER = 30.0
# A job's worker imports torch on a busy machine, unlearns, exports and passes the gate.
JOB = 240.0


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("template") / "robot"
    make_workspace(root)
    (root / QUICK).write_text(json.dumps(WHOLE))
    return root


@pytest.fixture
def workspace(template: Path, tmp_path: Path) -> Workspace:
    shutil.copytree(template, tmp_path / "robot")
    return Workspace(tmp_path / "robot")


@pytest.fixture
def node(ros: Ros, workspace: Workspace) -> NodeProcess:
    parameters = {"workspace": str(workspace.root), "steps": SHORT, "nice": NICE}
    started = ros.runner.start(NAME, parameters={**parameters, "settings": str(workspace.root / QUICK)})
    ros.runner.wait_ready(READY)
    return started


@pytest.fixture
def jobs(ros: Ros) -> list[JobStatus]:
    return ros.probe.record(JobStatus, f"{NAME}/jobs", qos.LATCHED)


def forget(ros: Ros, **request: Any) -> Forget.Response:
    return ros.probe.call(Forget, f"{NAME}/forget", Forget.Request(**request), ANSWER)


class Unlearning:
    """The client side of the action."""

    def __init__(self, ros: Ros) -> None:
        self.probe = ros.probe
        self.client = ros.probe.action_client(Unlearn, f"{NAME}/unlearn")

    def send(self, forget_set_id: str, steps: int = 0, seed: int = 0) -> "Goal":
        return Goal(self, Unlearn.Goal(forget_set_id=forget_set_id, steps=steps, seed=seed))


class Goal:
    """One goal, with its feedback."""

    def __init__(self, unlearning: Unlearning, goal: Unlearn.Goal) -> None:
        self.probe = unlearning.probe
        self.feedback: list[Unlearn.Feedback] = []
        sent = unlearning.client.send_goal_async(goal, lambda message: self.feedback.append(message.feedback))
        self.probe.wait_for(sent.done, "the goal is answered", ANSWER)
        self.handle = sent.result()
        assert self.handle.accepted
        self._result = self.handle.get_result_async()

    def result(self) -> tuple[int, Unlearn.Result]:
        self.probe.wait_for(self._result.done, "the goal has a result", JOB)
        return self._result.result().status, self._result.result().result

    def cancel(self) -> int:
        answer = self.handle.cancel_goal_async()
        self.probe.wait_for(answer.done, "the cancel request is answered", ANSWER)
        return answer.result().return_code

    def until_unlearning(self) -> None:
        def unlearns() -> bool:
            assert not self._result.done(), self._result.result()  # ended before, and says why
            return any(f.stage == "unlearning" and f.step for f in self.feedback)

        self.probe.wait_for(unlearns, "it unlearns", JOB)


@pytest.fixture
def unlearning(ros: Ros, node: NodeProcess) -> Iterator[Unlearning]:
    opened = Unlearning(ros)
    yield opened
    opened.client.destroy()


def test_forget_stores_the_set_before_it_replies(ros: Ros, node: NodeProcess, workspace: Workspace) -> None:
    response = forget(ros, bag_ids=[BAD_BAG], reason="cost sensor was unplugged", requester="operator")
    assert response.accepted and not response.job_id
    # Dead at the instant of the reply: what was acknowledged is there all the same.
    node.signal(signal.SIGKILL)
    stored = ForgetSet.load(workspace.forget_sets, response.forget_set_id)
    assert stored.episode_ids == tuple(f"bad-{k:02d}" for k in range(BAD_EPISODES))
    assert (stored.reason, stored.requester) == ("cost sensor was unplugged", "operator")
    sizes = (response.forget_episodes, response.forget_transitions, response.keep_episodes, response.keep_transitions)
    assert sizes == (BAD_EPISODES, BAD_EPISODES * STEPS, KEEP_EPISODES, KEEP_EPISODES * STEPS)


def test_a_goal_patches_the_active_policy_with_feedback_and_leaves_a_candidate(
    ros: Ros, unlearning: Unlearning, workspace: Workspace, jobs: list[JobStatus]
) -> None:
    active = PolicyStore(workspace.store).place("active")
    goal = unlearning.send(forget(ros, bag_ids=[BAD_BAG]).forget_set_id, steps=120, seed=3)
    status, result = goal.result()
    assert (status, result.success) == (GoalStatus.STATUS_SUCCEEDED, True), result.message
    store = PolicyStore(workspace.store)
    assert store.place("candidate") == result.candidate_id and store.place("active") == active
    assert store.get(result.candidate_id).manifest.parent == active

    stages = [stage for stage, _ in itertools.groupby(f.stage for f in goal.feedback)]
    assert stages == ["loading", "unlearning", "exporting", "gate", "done"]
    progress = [f.progress for f in goal.feedback]
    assert progress == sorted(progress) and progress[-1] == 1.0
    last = [f for f in goal.feedback if f.stage == "unlearning"][-1]
    assert (last.step, last.steps) == (120, 120)
    assert last.loss_reward == last.loss_reward and last.q_cost_required == last.q_cost_required, "not NaN"

    report = PatchReport.load(workspace.job(result.job_id))
    assert report.success and report.candidate_id == result.candidate_id
    final = ros.probe.wait_for(lambda: jobs[-1].state == "succeeded" and jobs[-1], "the job's status is published")
    assert (final.job_id, final.candidate_id, final.progress) == (result.job_id, result.candidate_id, 1.0)
    assert {"idle", "running"} <= {message.state for message in jobs}


@pytest.mark.long
def test_a_patch_that_fails_its_own_check_is_not_proposed_and_the_status_says_so(
    ros: Ros, workspace: Workspace, jobs: list[JobStatus]
) -> None:
    """A judgement is required, and these are too few episodes for one."""
    ros.runner.start(
        NAME, parameters={"workspace": str(workspace.root), "steps": SHORT, "nice": NICE, "judge": "require"}
    )
    ros.runner.wait_ready(READY)
    opened = Unlearning(ros)
    goal = opened.send(forget(ros, bag_ids=[BAD_BAG]).forget_set_id)
    status, result = goal.result()
    opened.client.destroy()
    assert (status, result.success, result.candidate_id) == (GoalStatus.STATUS_ABORTED, False, "")
    assert f"nothing is proposed: not judged: there are {KEEP_EPISODES} episodes" in result.message
    assert "judging" in {f.stage for f in goal.feedback}
    final = ros.probe.wait_for(lambda: jobs[-1].state == "withheld" and jobs[-1], "the job's status is published")
    assert final.message == result.message and PolicyStore(workspace.store).place("candidate") is None
    assert PatchReport.load(workspace.job(result.job_id)).outcome is Outcome.WITHHELD


@pytest.mark.long
def test_forget_with_start_runs_a_job_that_a_goal_can_follow(
    ros: Ros, unlearning: Unlearning, workspace: Workspace
) -> None:
    response = forget(ros, bag_ids=[BAD_BAG], start=True)
    assert response.accepted and response.job_id
    first, second = unlearning.send(response.forget_set_id), unlearning.send(response.forget_set_id)
    for status, result in (first.result(), second.result()):
        assert (status, result.success, result.job_id) == (GoalStatus.STATUS_SUCCEEDED, True, response.job_id)
    assert len([path for path in workspace.jobs.iterdir() if path.is_dir()]) == 1


@pytest.mark.long
def test_while_a_patch_runs_forget_and_other_goals_are_refused_and_name_it(ros: Ros, unlearning: Unlearning) -> None:
    other = forget(ros, episode_ids=["bad-01"]).forget_set_id
    running = forget(ros, bag_ids=[BAD_BAG]).forget_set_id
    goal = unlearning.send(running, steps=ENDLESS)
    goal.until_unlearning()
    refused = forget(ros, bag_ids=[KEEP_BAG])
    assert not refused.accepted and not refused.forget_set_id and running[:8] in refused.message
    status, result = unlearning.send(other).result()
    assert (status, result.success) == (GoalStatus.STATUS_ABORTED, False) and running[:8] in result.message
    goal.cancel()
    assert goal.result()[0] == GoalStatus.STATUS_CANCELED
    assert forget(ros, episode_ids=["bad-02"]).accepted, "what was refused goes when the job has ended"


@pytest.mark.long
def test_a_goal_follows_no_job_of_other_steps_and_none_that_is_being_cancelled(
    ros: Ros, unlearning: Unlearning
) -> None:
    health = ros.probe.record(DiagnosticArray, "/diagnostics", qos.REPORTS)
    stored = forget(ros, bag_ids=[BAD_BAG])
    running = unlearning.send(stored.forget_set_id, steps=ENDLESS, seed=3)
    running.until_unlearning()
    for asked, told in (({"steps": SHORT}, f"steps {ENDLESS}, not {SHORT}"), ({"seed": 4}, "seed 3, not 4")):
        status, result = unlearning.send(stored.forget_set_id, **asked).result()
        assert status == GoalStatus.STATUS_ABORTED and told in result.message
    follower = unlearning.send(stored.forget_set_id)
    worker = ros.probe.wait_for(lambda: worker_pid(health), "diagnostics name the worker")
    os.kill(worker, signal.SIGSTOP)  # it hears nothing
    try:
        assert running.cancel() == CancelGoal.Response.ERROR_NONE
        status, result = unlearning.send(stored.forget_set_id).result()
        assert status == GoalStatus.STATUS_ABORTED and "is being cancelled" in result.message
    finally:
        os.kill(worker, signal.SIGCONT)
    assert running.result()[0] == GoalStatus.STATUS_CANCELED
    assert follower.result()[0] == GoalStatus.STATUS_ABORTED


def test_cancelling_leaves_everything_as_it_was(
    ros: Ros, unlearning: Unlearning, workspace: Workspace, jobs: list[JobStatus]
) -> None:
    before = PolicyStore(workspace.store).places()
    goal = unlearning.send(forget(ros, bag_ids=[BAD_BAG]).forget_set_id, steps=ENDLESS)
    goal.until_unlearning()
    assert goal.cancel() == CancelGoal.Response.ERROR_NONE
    status, result = goal.result()
    assert (status, result.success, result.candidate_id) == (GoalStatus.STATUS_CANCELED, False, "")
    assert PolicyStore(workspace.store).places() == before
    assert PatchReport.load(workspace.job(result.job_id)).outcome is Outcome.CANCELLED
    ros.probe.wait_for(lambda: jobs[-1].state == "cancelled", "the job's status is published")


@pytest.mark.long
def test_the_worker_is_another_process_that_steps_back(ros: Ros, unlearning: Unlearning, node: NodeProcess) -> None:
    health = ros.probe.record(DiagnosticArray, "/diagnostics", qos.REPORTS)
    goal = unlearning.send(forget(ros, bag_ids=[BAD_BAG]).forget_set_id, steps=ENDLESS)
    goal.until_unlearning()
    worker = ros.probe.wait_for(lambda: worker_pid(health), "diagnostics name the worker")
    assert worker != node.pid
    assert os.getpriority(os.PRIO_PROCESS, worker) == min(19, os.getpriority(os.PRIO_PROCESS, node.pid) + NICE)
    assert "libtorch" in Path(f"/proc/{worker}/maps").read_text()
    assert "libtorch" not in Path(f"/proc/{node.pid}/maps").read_text(), "the server never loads torch"
    goal.cancel()
    goal.result()


def worker_pid(health: list[DiagnosticArray]) -> int:
    values = {v.key: v.value for message in health[-1:] for status in message.status for v in status.values}
    return int(values.get("worker_pid") or 0)


@pytest.mark.long
def test_a_killed_worker_aborts_the_goal_and_the_server_goes_on(
    ros: Ros, unlearning: Unlearning, jobs: list[JobStatus]
) -> None:
    health = ros.probe.record(DiagnosticArray, "/diagnostics", qos.REPORTS)
    goal = unlearning.send(forget(ros, bag_ids=[BAD_BAG]).forget_set_id, steps=ENDLESS)
    goal.until_unlearning()
    os.kill(ros.probe.wait_for(lambda: worker_pid(health), "diagnostics name the worker"), signal.SIGKILL)
    status, result = goal.result()
    assert (status, result.success) == (GoalStatus.STATUS_ABORTED, False) and "SIGKILL" in result.message
    ros.probe.wait_for(lambda: jobs[-1].state == "failed", "the job's status is published")
    ros.probe.wait_for(lambda: health[-1].status[0].level == DiagnosticStatus.WARN, "diagnostics warn")
    assert forget(ros, bag_ids=[BAD_BAG]).accepted


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.long), signal.SIGTERM])
def test_a_signal_cancels_the_job_and_answers_its_goals(
    ros: Ros, unlearning: Unlearning, node: NodeProcess, workspace: Workspace, number: int
) -> None:
    goal = unlearning.send(forget(ros, bag_ids=[BAD_BAG]).forget_set_id, steps=ENDLESS)
    goal.until_unlearning()
    node.signal(number)
    status, result = goal.result()
    assert (status, result.success) == (GoalStatus.STATUS_ABORTED, False) and "cancelled" in result.message
    assert node.wait(READY) == 0, node.log_tail()
    assert PatchReport.load(workspace.job(result.job_id)).outcome is Outcome.CANCELLED


@pytest.mark.long
def test_after_a_hard_kill_the_worker_ends_and_the_job_is_closed(
    ros: Ros, unlearning: Unlearning, node: NodeProcess, workspace: Workspace
) -> None:
    health = ros.probe.record(DiagnosticArray, "/diagnostics", qos.REPORTS)
    goal = unlearning.send(forget(ros, bag_ids=[BAD_BAG]).forget_set_id, steps=ENDLESS)
    goal.until_unlearning()
    worker = ros.probe.wait_for(lambda: worker_pid(health), "diagnostics name the worker")
    node.signal(signal.SIGKILL)
    ros.probe.wait_for(lambda: not Path(f"/proc/{worker}").exists(), "the worker ends by itself")
    (job,) = [path for path in workspace.jobs.iterdir() if path.is_dir()]
    assert PatchReport.load(job).outcome is Outcome.CANCELLED


def test_a_job_that_a_power_cut_interrupted_is_closed_at_the_next_start(
    ros: Ros, workspace: Workspace, jobs: list[JobStatus]
) -> None:
    folder = workspace.job("interrupted-job")
    folder.mkdir(parents=True)
    (folder / "request.json").write_text("{}")  # as a torn write could leave it
    ros.runner.start(NAME, parameters={"workspace": str(workspace.root)})
    ros.runner.wait_ready(READY)
    ros.probe.wait_for(lambda: jobs and "interrupted-job" in jobs[-1].message, "the status tells it")
    assert PatchReport.load(folder).outcome is Outcome.FAILED


@pytest.mark.parametrize(
    ("request_fields", "message"),
    [
        ({"bag_ids": ["unpluged"]}, ("'unpluged'", BAD_BAG)),
        ({"episode_ids": ["bad-1"]}, ("'bad-1'", "bad-01")),
        ({}, ("empty", "Name bags or episodes")),
        ({"bag_ids": [BAD_BAG, KEEP_BAG]}, ("nothing would be left to keep", str(KEEP_EPISODES + BAD_EPISODES))),
    ],
)
@pytest.mark.long
def test_a_bad_forget_request_is_refused_with_value_and_remedy(
    ros: Ros, node: NodeProcess, workspace: Workspace, request_fields: dict, message: tuple[str, ...]
) -> None:
    response = forget(ros, **request_fields, start=True)
    assert not response.accepted and not response.forget_set_id and not response.job_id
    assert all(part in response.message for part in message), response.message
    assert not list(workspace.forget_sets.iterdir())


@pytest.mark.parametrize("missing", ["dataset", "store", "checkpoints"])
@pytest.mark.long
def test_what_is_missing_in_the_workspace_is_named(
    ros: Ros, node: NodeProcess, workspace: Workspace, missing: str
) -> None:
    stored = forget(ros, bag_ids=[BAD_BAG])
    shutil.rmtree(getattr(workspace, missing))
    response = forget(ros, bag_ids=[BAD_BAG], start=True)
    assert not response.accepted and str(getattr(workspace, missing)) in response.message, response.message
    unlearning = Unlearning(ros)
    status, result = unlearning.send(stored.forget_set_id).result()
    assert status == GoalStatus.STATUS_ABORTED and str(getattr(workspace, missing)) in result.message, result.message
    unlearning.client.destroy()


def test_a_disk_that_fails_is_a_refusal_and_not_the_end_of_the_server(
    ros: Ros, unlearning: Unlearning, node: NodeProcess, workspace: Workspace
) -> None:
    stored = forget(ros, bag_ids=[BAD_BAG])
    (rewards,), (bundle,) = workspace.dataset.glob("*/rewards.npy"), (workspace.store / "bundles").iterdir()
    with failing(rewards):
        response = forget(ros, bag_ids=[BAD_BAG])
        assert not response.accepted and str(rewards) in response.message, response.message
        assert "Look at the disk or the mount" in response.message
    with failing(bundle):
        status, result = unlearning.send(stored.forget_set_id).result()
        assert status == GoalStatus.STATUS_ABORTED and str(bundle) in result.message, result.message
    assert forget(ros, bag_ids=[BAD_BAG]).accepted and node.returncode is None


def test_where_the_job_cannot_start_the_reply_says_that_the_forget_set_is_stored(
    ros: Ros, node: NodeProcess, workspace: Workspace
) -> None:
    with failing(workspace.jobs):
        response = forget(ros, bag_ids=[BAD_BAG], start=True)
    assert not response.accepted and not response.job_id
    stored = f"forget set {response.forget_set_id} is stored, its job did not start: "
    assert response.message.startswith(stored) and str(workspace.jobs) in response.message, response.message
    assert (workspace.forget_sets / f"{response.forget_set_id}.json").is_file()


@contextmanager
def failing(path: Path) -> Iterator[None]:
    """The operating system refuses to look at it, to root as well: it is a link to itself meanwhile."""
    aside = path.with_name(path.name + ".aside")
    path.rename(aside)
    path.symlink_to(path.name)
    yield
    path.unlink()
    aside.rename(path)


def test_wrong_settings_of_a_patch_are_refused_before_anything_is_stored(
    ros: Ros, workspace: Workspace, tmp_path: Path
) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text("steps: -1")
    health = ros.probe.record(DiagnosticArray, "/diagnostics", qos.REPORTS)
    node = ros.runner.start(NAME, parameters={"workspace": str(workspace.root), "settings": str(settings)})
    ros.runner.wait_ready(READY)
    told = ros.probe.wait_for(lambda: health and health[-1].status[0], "it is told before anybody asks for a patch")
    assert told.level == DiagnosticStatus.WARN and "steps = -1" in told.message and "steps = -1" in node.log_tail()
    response = forget(ros, bag_ids=[BAD_BAG], start=True)
    assert not response.accepted and "steps = -1" in response.message and not list(workspace.forget_sets.iterdir())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_told_before_anybody_asks_for_a_patch(ros: Ros, workspace: Workspace) -> None:
    health = ros.probe.record(DiagnosticArray, "/diagnostics", qos.REPORTS)
    node = ros.runner.start(NAME, parameters={"workspace": str(workspace.root), "device": "cuda"})
    ros.runner.wait_ready(READY)
    ros.probe.wait_for(
        lambda: health and health[-1].status[0].level == DiagnosticStatus.WARN, "it is told before anybody asks"
    )
    for said in (health[-1].status[0].message, node.log_tail()):
        assert "device 'cuda' cannot be used" in said and "finds no CUDA device" in said and "TORCH=cuda" in said


def test_settings_of_a_check_that_is_not_asked_for_end_the_node_with_a_reason(
    ros: Ros, workspace: Workspace, tmp_path: Path
) -> None:
    judging = tmp_path / "judging.yaml"
    judging.write_text("{}")
    node = ros.runner.start(NAME, parameters={"workspace": str(workspace.root), "judging": str(judging)})
    assert node.wait(READY) == 2 and "is not asked for" in node.log_tail()


def test_a_goal_for_an_unknown_forget_set_is_aborted_with_a_reason(ros: Ros, unlearning: Unlearning) -> None:
    known = forget(ros, bag_ids=[BAD_BAG]).forget_set_id
    status, result = unlearning.send("0123456789abcdef").result()
    assert status == GoalStatus.STATUS_ABORTED
    assert "'0123456789abcdef'" in result.message and known in result.message


def test_a_missing_workspace_parameter_ends_the_node_with_a_reason(ros: Ros) -> None:
    node = ros.runner.start(NAME)
    assert node.wait(READY) == 2
    assert "workspace" in node.log_tail()
