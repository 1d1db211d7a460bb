"""Patch progress and reports as the messages of `unlearning_server`."""

from saferule_ros.action import Unlearn
from saferule_ros.msg import JobStatus
from saferule_ros.patching.progress import PatchProgress, Stage
from saferule_ros.patching.report import PatchReport
from saferule_ros.patching.request import PatchRequest

IDLE = "idle"
RUNNING = "running"


def feedback_of(progress: PatchProgress) -> Unlearn.Feedback:
    """The action's feedback: it has exactly the fields of PatchProgress."""
    fields = progress.model_dump()
    return Unlearn.Feedback(**{**fields, "stage": str(progress.stage)})


def result_of(report: PatchReport) -> Unlearn.Result:
    """The action's result."""
    return Unlearn.Result(
        success=report.success,
        message=report.message,
        job_id=report.job_id,
        candidate_id=report.candidate_id,
        duration=report.duration,
        certified=report.certified,
        q_reward_forget=report.q_reward_forget,
        q_reward_reference=report.q_reward_reference,
        q_cost_forget=report.q_cost_forget,
        q_cost_required=report.q_cost_required,
    )


def refusal(message: str) -> Unlearn.Result:
    """The result of a goal that was not taken on."""
    nan = float("nan")
    return Unlearn.Result(
        success=False,
        message=message,
        q_reward_forget=nan,
        q_reward_reference=nan,
        q_cost_forget=nan,
        q_cost_required=nan,
    )


def running_status(request: PatchRequest, progress: PatchProgress) -> JobStatus:
    """The latched status while a job runs."""
    return JobStatus(
        job_id=request.job_id,
        forget_set_id=request.forget_set_id,
        state=RUNNING,
        stage=str(progress.stage),
        step=progress.step,
        steps=progress.steps,
        progress=progress.progress,
        time_left=progress.time_left,
    )


def final_status(report: PatchReport, last: PatchProgress) -> JobStatus:
    """The latched status after a job."""
    return JobStatus(
        job_id=report.job_id,
        forget_set_id=report.forget_set_id,
        state=str(report.outcome),
        stage=str(Stage.DONE if report.success else last.stage),
        step=last.step,
        steps=last.steps,
        progress=1.0 if report.success else last.progress,
        time_left=0.0,
        candidate_id=report.candidate_id,
        message=report.message,
    )
