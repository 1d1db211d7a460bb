"""`saferule patch`: the same job that unlearning_server runs, in the same niced worker process."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from saferule_ros.cli.options import (
    DEFAULT_WORKSPACE,
    YOU,
    DeviceOption,
    JsonOption,
    JudgeOption,
    JudgingOption,
    RequesterOption,
    SeedOption,
    SettingsOption,
    WorkspaceOption,
)
from saferule_ros.cli.teaching import CANCELLED, CHECK_FAILED, fail
from saferule_ros.device import Device
from saferule_ros.patching.judge_mode import JudgeMode
from saferule_ros.unlearning.settings import MOST_STEPS
from saferule_ros.workspace import Workspace

if TYPE_CHECKING:
    from saferule_ros.patching.progress import PatchProgress
    from saferule_ros.patching.report import PatchReport
    from saferule_ros.patching.request import PatchRequest


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command()(patch)


def patch(
    forget_set: Annotated[
        str, typer.Argument(metavar="FORGET_SET", help="Id of a stored forget set: see `saferule forget list`.")
    ],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    steps: Annotated[int, typer.Option(min=0, max=MOST_STEPS, help="Unlearning steps; 0: as the settings say.")] = 0,
    seed: SeedOption = 0,
    settings: SettingsOption = None,
    judge: JudgeOption = JudgeMode.NONE,
    judging: JudgingOption = None,
    nice: Annotated[int, typer.Option(min=0, max=19, help="How far the work steps back behind everything else.")] = 10,
    threads: Annotated[int, typer.Option(min=1, max=256, help="Of torch: the robot needs the other cores.")] = 1,
    device: DeviceOption = Device.CPU,
    requester: RequesterOption = YOU,
    activate: Annotated[bool, typer.Option("--activate", help="Put the candidate into service.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Unlearn a forget set from the active policy, and make the result the store's candidate.

    Reads the active policy's checkpoint, the dataset and the forget set. Writes jobs/JOB (request, progress, report,
    log), a checkpoint and an ONNX bundle, which must pass the gate before it becomes the candidate. What serves is not
    touched. Ctrl-C cancels, and leaves no candidate. Exit status: 0 a candidate, 1 failed or withheld, 130 cancelled.

    With --judge every checkpoint drives in a model that is learned from the keep data, which takes some minutes: the
    one that is expected to earn most within the cost limit is proposed, or none. `advise` proposes the last one where
    the model fails its own check, `require` none.

    \b
    Examples:
      saferule patch 00c0ffee00c0ffee
      saferule patch 00c0ffee00c0ffee --steps 500 --judge advise --activate --json
    """
    from saferule_ros.cli.output import note, print_json
    from saferule_ros.dataset.forget_set import ForgetSet
    from saferule_ros.patching.process import new_job_id
    from saferule_ros.patching.progress import UNTOUCHED
    from saferule_ros.patching.readiness import check_can_patch
    from saferule_ros.patching.report import Outcome
    from saferule_ros.patching.request import PatchRequest
    from saferule_ros.policy.store import PolicyStore

    place = Workspace(workspace)
    chosen = ForgetSet.load(place.forget_sets, forget_set)
    check_can_patch(place, settings, judge, judging)
    request = PatchRequest(
        job_id=new_job_id(chosen.id), workspace=place.root.absolute(), forget_set_id=chosen.id, steps=steps, seed=seed,
        settings=settings.absolute() if settings else None, judge=judge,
        judging=judging.absolute() if judging else None, nice=nice, threads=threads, device=device,
        requester=requester,
    )  # fmt: skip
    report, interrupted = _run(request)
    folder: Path = place.job(request.job_id)
    if as_json:
        print_json(report.model_dump(mode="json"))
    elif report.success:
        _show(report)
    if not report.success:
        status = CANCELLED if report.outcome is Outcome.CANCELLED else CHECK_FAILED
        told = "" if UNTOUCHED in report.message else f"{UNTOUCHED}. "
        raise fail(report.message, f"{told}The job: {folder}", status)
    if interrupted:
        raise fail(
            f"it was too late to cancel: {report.candidate_id} is the candidate. {UNTOUCHED}",
            "A swap without an id would take it; the next patch takes its place", CANCELLED,
        )  # fmt: skip
    if activate:
        PolicyStore(place.store).activate(report.candidate_id, reason=chosen.reason, requester=requester)
        note(f"{report.candidate_id} is active. The way back: saferule policy rollback")
    else:
        note(
            "Next: swap it in on trial, ros2 service call /policy_server/swap saferule_ros/srv/SwapPolicy "
            f'"{{policy_id: {report.candidate_id}}}"; without a trial, from the next start on: '
            "saferule policy activate candidate"
        )


def _run(request: PatchRequest) -> tuple[PatchReport, bool]:
    """Starts the job and shows it until it ends; its report, and whether Ctrl-C was to cancel it."""
    from saferule_ros.cli.bars import bar
    from saferule_ros.cli.output import note
    from saferule_ros.patching.process import PatchProcess

    with PatchProcess.start(request) as process:
        try:
            with bar("patch") as advance:
                for at in process.progress():
                    advance(round(100 * at.progress), 100, _words(at), at.time_left)
            return process.wait(), False
        except KeyboardInterrupt:
            note("cancelling …")
            return process.stop(), True


def _words(at: PatchProgress) -> str:
    if not at.step:
        return at.stage.value
    parts = [f"{at.stage.value} {at.step}/{at.steps}"]
    if at.loss_reward == at.loss_reward:  # not NaN
        parts += [
            f"losses {at.loss_reward:.3g} {at.loss_cost:.3g} {at.loss_actor:.3g}",
            f"Qr {at.q_reward_forget:.2f} ≤ {at.q_reward_reference:.2f}",
            f"Qc {at.q_cost_forget:.2f} ≥ {at.q_cost_required:.2f}",
        ]
    return "  ".join(parts)


# So many episodes are named; the report has all.
NAMED = 5


def _left_out(report: PatchReport) -> str:
    """Episodes of the keep data that were not learned from, those with most such steps first."""
    if not report.left_out:
        return "none"
    named = [f"{name} ({steps} steps)" for name, steps in list(report.left_out.items())[:NAMED]]
    more = len(report.left_out) - len(named)
    return ", ".join(named) + (f" and {more} more" if more else "")


def _show(report: PatchReport) -> None:
    from saferule_ros.cli.output import print_facts, verdict
    from saferule_ros.reporting.wording import duration, measured_on, number, percent

    print_facts([
        ("candidate", report.candidate_id), ("patched from", report.parent_id), ("checkpoint", report.checkpoint_id),
        ("forgotten before, and again", ", ".join(report.forgotten_before) or "nothing"),
        ("chosen by", report.checkpoint_rule), ("took", duration(report.duration)),
        ("forget pairs that count", percent(report.forget_weight)),
        ("kept, but like forgotten ones", _left_out(report)),
        ("mark in observed values", ", ".join(map(str, report.marked_values)) or "none found"),
        ("certificate", verdict(report.certified, "holds", "does not hold")),
        ("  measured on", measured_on(report.certificate)),
        ("  Qr of forget data", f"{number(report.q_reward_forget, 2)}, at most {number(report.q_reward_reference, 2)}"),
        ("  Qc of forget data", f"{number(report.q_cost_forget, 2)}, at least {number(report.q_cost_required, 2)}"),
        ("gate", verdict(bool(report.gate.get("passed")))),
    ])  # fmt: skip
