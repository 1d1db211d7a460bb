"""One patch, from request to candidate.

    active bundle -> its checkpoint and dataset -> D_f and D_k -> Safe-RULE -> offline check -> checkpoint
    -> ONNX bundle -> gate -> the store's candidate

What serves is never touched. The candidate is the policy after the last of a fixed number of steps, or the one that the
offline check chooses, where that is asked for (see judging.py); neither asks a simulator [ours]. The certificate is
measured on parts of D_f and D_k that were withheld from the run. Checkpoints along the way stay in the job's folder.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np

from saferule_ros.learning.trainer import limit_threads
from saferule_ros.patching.bundling import bundle_learner, pass_gate
from saferule_ros.patching.judge_mode import JudgeMode
from saferule_ros.patching.judging import Verdict, judge_patch
from saferule_ros.patching.origin import check_origin
from saferule_ros.patching.progress import PatchCancelled, PatchProgress, Stage
from saferule_ros.patching.proposal import Proposal, still_waiting
from saferule_ros.patching.readiness import check_on_no_trial
from saferule_ros.patching.report import Outcome, PatchReport
from saferule_ros.patching.request import PatchRequest
from saferule_ros.patching.settings import JudgingSettings, judging_settings
from saferule_ros.patching.trail import CHECKPOINTS, Trail
from saferule_ros.patching.unlearning import Unlearning, described
from saferule_ros.patching.values import save_values
from saferule_ros.policy.bundle import BundleMeta, Manifest
from saferule_ros.policy.store import PolicyStore
from saferule_ros.settings import load_settings
from saferule_ros.unlearning.certificate import Certificate
from saferule_ros.unlearning.run import UnlearnProgress, unlearn
from saferule_ros.workspace import Workspace

METHOD = "safe_rule"
CHECKPOINT_RULE = "the policy after the last of a fixed number of steps"

# Where in a job each stage ends, as share of its wall time in a typical job of 500 steps: for the progress bar.
STAGE_ENDS = {Stage.LOADING: 0.05, Stage.UNLEARNING: 0.90, Stage.JUDGING: 0.90, Stage.EXPORTING: 0.95, Stage.GATE: 1.0}
# The same where it is judged, which takes longer than all the rest.
JUDGED_STAGE_ENDS = STAGE_ENDS | {
    Stage.LOADING: 0.02,
    Stage.UNLEARNING: 0.20,
    Stage.JUDGING: 0.95,
    Stage.EXPORTING: 0.98,
}


def run_patch(
    request: PatchRequest,
    on_progress: Callable[[PatchProgress], None],
    cancelled: Callable[[], bool],
) -> PatchReport:
    """Does the job.

    Raises:
        PatchCancelled: `cancelled()` became true; there is no candidate.
        SaferuleError: whatever else was wrong; there is no candidate.
    """
    workspace = Workspace(request.workspace)
    store = PolicyStore(workspace.store)
    check_on_no_trial(store)
    with store.holding(store.require("active")) as parent:  # nobody prunes it meanwhile
        check_origin(workspace.checkpoint(parent.manifest.checkpoint_id), parent.manifest.forget_set_id)
        return _run(request, store, parent.manifest, on_progress, cancelled)


def _run(
    request: PatchRequest, store: PolicyStore, parent: Manifest, on_progress: Callable[[PatchProgress], None],
    cancelled: Callable[[], bool],
) -> PatchReport:  # fmt: skip
    started, clock = datetime.now(UTC), time.monotonic()
    seconds: dict[str, float] = {}
    ends = STAGE_ENDS if request.judge is JudgeMode.NONE else JUDGED_STAGE_ENDS
    limit_threads(request.threads)
    workspace = Workspace(request.workspace)

    with _timed(seconds, Stage.LOADING):
        judging = judging_settings(request.judge, request.judging)
        unlearning = Unlearning(
            workspace, parent.checkpoint_id, request.forget_set_id, METHOD,
            lambda kind: load_settings(kind, request.settings), request.steps, request.seed, request.device,
        )  # fmt: skip
        certified, settings, dataset = unlearning.certified, unlearning.settings, unlearning.dataset
        learner, forget_set = certified.run.learner, unlearning.forget_set
        trail = Trail(workspace.job(request.job_id) / CHECKPOINTS, dataset.digest, settings.checkpoint_every)

    with _timed(seconds, Stage.UNLEARNING):

        def keep(step: int) -> None:
            if step < settings.steps:  # the last one becomes the candidate
                trail.after_step(learner, step)

        steps_done = unlearn(certified.run, lambda at: on_progress(_progress(at, ends)), cancelled, keep)
        if steps_done < settings.steps:
            raise PatchCancelled(
                f"cancelled after {steps_done} of {settings.steps} steps", "What serves was not touched"
            )

    known: dict[str, Any] = {
        "job_id": request.job_id, "forget_set_id": forget_set.id, "forgotten_before": unlearning.forgotten_before,
        "parent_id": parent.bundle_id, "seconds": seconds,
        "checkpoints": trail.kept,
        "digests": {
            "dataset": dataset.digest, "forget_set": forget_set.id, "checkpoint": parent.checkpoint_id,
        },
        "settings": settings.model_dump(mode="json"),
        "forget_weight": certified.run.forget_weight, "marked_values": certified.run.marked_values,
        "left_out": certified.run.left_out, "started": started.isoformat(timespec="milliseconds"),
    }  # fmt: skip
    rule, judgement, judged = CHECKPOINT_RULE, dict[str, Any](), ""
    if request.judge is not JudgeMode.NONE:
        with _timed(seconds, Stage.JUDGING):
            verdict = _judged(request, unlearning, trail, judging, on_progress, cancelled)
            judgement = verdict.as_json(request.judge) | {"settings": judging.model_dump(mode="json")}
            judged = verdict.reason
            rule = f"{CHECKPOINT_RULE}; {judged}" if verdict.step is None else judged
            if verdict.step not in (None, steps_done):
                certified.go_back_to(trail.load(verdict.step, learner.device), verdict.step)
        if not verdict.propose:
            return PatchReport(
                outcome=Outcome.WITHHELD,
                message=f"nothing is proposed: {verdict.reason}. What serves was not touched{still_waiting(workspace)}",
                duration=time.monotonic() - clock, budget=asdict(certified.run.meter.budget),
                finished=datetime.now(UTC).isoformat(timespec="milliseconds"), judgement=judgement, **known,
            )  # fmt: skip

    with _timed(seconds, Stage.EXPORTING):
        on_progress(_at(Stage.EXPORTING, settings.steps, ends[Stage.JUDGING]))
        learner, steps_done = certified.run.learner, certified.run.steps_done
        after = certified.values()
        certificate = certified.certificate(after) if after else None
        if certified.before and after:
            save_values(workspace.job(request.job_id), certified.before, after)
        checkpoint_id = unlearning.save(certificate)
        meta = BundleMeta(
            algorithm=f"{learner.NAME}+{METHOD}", dataset_digest=dataset.digest, checkpoint_id=checkpoint_id,
            parent=parent.bundle_id, forget_set_id=forget_set.id, certificate=described(certificate),
        )  # fmt: skip
        candidate = bundle_learner(
            store, learner, np.asarray(unlearning.keep.observations), parent.spec, meta, request.seed,
            reason=forget_set.reason, requester=request.requester,
        )  # fmt: skip

    with _timed(seconds, Stage.GATE):
        on_progress(_at(Stage.GATE, settings.steps, ends[Stage.EXPORTING]))
        with store.reserving(candidate.bundle_id):
            gate = pass_gate(store, candidate)
            if cancelled():
                raise PatchCancelled("cancelled at the gate", "What serves was not touched")
            Proposal(candidate_id=candidate.bundle_id).note(workspace.job(request.job_id))
            store.set_candidate(candidate.bundle_id, reason=forget_set.reason, requester=request.requester)

    on_progress(_at(Stage.DONE, settings.steps, 1.0))
    return PatchReport(
        outcome=Outcome.SUCCEEDED,
        message="; ".join(filter(None, [
            f"candidate {candidate.bundle_id} after {steps_done} steps", _verdict(certificate), judged,
        ])),
        candidate_id=candidate.bundle_id, duration=time.monotonic() - clock,
        checkpoint_id=checkpoint_id, checkpoint_step=steps_done, checkpoint_rule=rule,
        judgement=judgement, budget=asdict(certified.run.meter.budget), **_fields(certificate),
        gate=gate.model_dump(mode="json"), **known,
        finished=datetime.now(UTC).isoformat(timespec="milliseconds"),
    )  # fmt: skip


def _judged(
    request: PatchRequest, unlearning: Unlearning, trail: Trail, judging: JudgingSettings,
    on_progress: Callable[[PatchProgress], None], cancelled: Callable[[], bool],
) -> Verdict:  # fmt: skip
    steps, ends = unlearning.settings.steps, JUDGED_STAGE_ENDS
    begin, end = ends[Stage.UNLEARNING], ends[Stage.JUDGING]

    def show(share: float, time_left: float) -> None:
        at = _at(Stage.JUDGING, steps, begin + (end - begin) * share)
        on_progress(at.model_copy(update={"time_left": time_left}))

    show(0.0, -1.0)
    return judge_patch(unlearning, trail, request.judge, judging, request.seed, show, cancelled)


def _fields(certificate: Certificate | None) -> dict[str, Any]:
    """What the report says of it; nothing where there is none."""
    fields = described(certificate)
    if certificate is None or fields is None:
        return {}
    values = ("q_reward_forget", "q_reward_reference", "q_cost_forget", "q_cost_required")
    return {"certified": certificate.holds, "certificate": fields, **{name: fields[name] for name in values}}


def _verdict(certificate: Certificate | None) -> str:
    if certificate is None:
        return "no certificate, as this algorithm has no critics"
    return "certificate holds" if certificate.holds else "certificate does not hold"


def _progress(at: UnlearnProgress, ends: Mapping[Stage, float]) -> PatchProgress:
    begin, end = ends[Stage.LOADING], ends[Stage.UNLEARNING]
    # An algorithm may have losses of its own, of which feedback knows nothing.
    losses = {name: value for name, value in at.losses.items() if name in PatchProgress.model_fields}
    return PatchProgress(
        stage=Stage.UNLEARNING, step=at.step, steps=at.steps,
        progress=begin + (end - begin) * at.step / at.steps,
        # Judging takes longer than that, and how long shows only when it has begun.
        time_left=-1.0 if ends is JUDGED_STAGE_ENDS else at.time_left, **losses,
    )  # fmt: skip


def _at(stage: Stage, steps: int, progress: float) -> PatchProgress:
    return PatchProgress(stage=stage, step=steps, steps=steps, progress=progress)


@contextmanager
def _timed(seconds: dict[str, float], stage: Stage) -> Iterator[None]:
    began = time.monotonic()
    yield
    seconds[stage.value] = time.monotonic() - began
