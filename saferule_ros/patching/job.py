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
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from saferule_ros.learning.trainer import limit_threads
from saferule_ros.patching.bundling import bundle_learner, pass_gate
from saferule_ros.patching.judge_mode import JudgeMode
from saferule_ros.patching.judging import judge_patch
from saferule_ros.patching.origin import check_origin
from saferule_ros.patching.progress import UNTOUCHED, PatchCancelled, PatchProgress, Stage
from saferule_ros.patching.proposal import Proposal, still_waiting
from saferule_ros.patching.readiness import check_on_no_trial
from saferule_ros.patching.report import Outcome, PatchReport
from saferule_ros.patching.request import PatchRequest
from saferule_ros.patching.settings import judging_settings
from saferule_ros.patching.trail import CHECKPOINTS, Trail
from saferule_ros.patching.unlearning import Unlearning, described
from saferule_ros.patching.values import save_values
from saferule_ros.policy.bundle import BundleMeta, Manifest
from saferule_ros.policy.gate import GateReport
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
        return _Job(request, store, parent.manifest, on_progress, cancelled).run()


class _Judgement(NamedTuple):
    """What the offline check decided, as the report has it."""

    rule: str = CHECKPOINT_RULE  # by which the candidate was chosen
    reason: str = ""  # of the check; empty where none was asked for
    numbers: Mapping[str, Any] = MappingProxyType({})
    propose: bool = True


class _Candidate(NamedTuple):
    """What the run came to."""

    manifest: Manifest
    checkpoint_id: str
    certificate: Certificate | None  # None for a learner without critics
    steps: int


class _Job:
    """One patch, stage by stage; see run_patch."""

    def __init__(
        self, request: PatchRequest, store: PolicyStore, parent: Manifest,
        on_progress: Callable[[PatchProgress], None], cancelled: Callable[[], bool],
    ) -> None:  # fmt: skip
        self._request, self._store, self._parent = request, store, parent
        self._tell, self._cancelled = on_progress, cancelled
        self._workspace = Workspace(request.workspace)
        self._started, self._clock = datetime.now(UTC), time.monotonic()
        self._seconds: dict[str, float] = {}
        self._ends = STAGE_ENDS if request.judge is JudgeMode.NONE else JUDGED_STAGE_ENDS

    def run(self) -> PatchReport:
        """All of it."""
        limit_threads(self._request.threads)
        with self._timed(Stage.LOADING):
            self._load()
        with self._timed(Stage.UNLEARNING):
            self._unlearn()
        judgement = _Judgement()
        if self._request.judge is not JudgeMode.NONE:
            with self._timed(Stage.JUDGING):
                judgement = self._judge()
            if not judgement.propose:
                return self._withheld(judgement)
        with self._timed(Stage.EXPORTING):
            candidate = self._export()
        with self._timed(Stage.GATE):
            gate = self._propose(candidate.manifest)
        self._tell(self._at(Stage.DONE, 1.0))
        return self._succeeded(candidate, judgement, gate)

    def _load(self) -> None:
        request = self._request
        self._judging = judging_settings(request.judge, request.judging)
        self._unlearning = Unlearning(
            self._workspace, self._parent.checkpoint_id, request.forget_set_id, METHOD,
            lambda kind: load_settings(kind, request.settings), request.steps, request.seed, request.device,
        )  # fmt: skip
        self._certified, self._steps = self._unlearning.certified, self._unlearning.settings.steps
        self._trail = Trail(
            self._workspace.job(request.job_id) / CHECKPOINTS, self._unlearning.dataset.digest,
            self._unlearning.settings.checkpoint_every,
        )  # fmt: skip

    def _unlearn(self) -> None:
        learner = self._certified.run.learner

        def keep(step: int) -> None:
            if step < self._steps:  # the last one becomes the candidate
                self._trail.after_step(learner, step)

        done = unlearn(
            self._certified.run, lambda at: self._tell(_progress(at, self._ends)), self._cancelled, keep
        )  # fmt: skip
        if done < self._steps:
            raise PatchCancelled(f"cancelled after {done} of {self._steps} steps", UNTOUCHED)

    def _judge(self) -> _Judgement:
        """The offline check; the run goes back to the step that it chose."""
        request = self._request
        begin, end = self._ends[Stage.UNLEARNING], self._ends[Stage.JUDGING]

        def show(share: float, time_left: float) -> None:
            at = self._at(Stage.JUDGING, begin + (end - begin) * share)
            self._tell(at.model_copy(update={"time_left": time_left}))

        show(0.0, -1.0)
        verdict = judge_patch(
            self._unlearning, self._trail, request.judge, self._judging, request.seed, show, self._cancelled
        )
        if verdict.step not in (None, self._steps):
            device = self._certified.run.learner.device
            self._certified.go_back_to(self._trail.load(verdict.step, device), verdict.step)
        rule = f"{CHECKPOINT_RULE}; {verdict.reason}" if verdict.step is None else verdict.reason
        numbers = verdict.as_json(request.judge) | {"settings": self._judging.model_dump(mode="json")}
        return _Judgement(rule, verdict.reason, numbers, verdict.propose)

    def _export(self) -> _Candidate:
        """Checkpoint and bundle of the learner as it is now, and its certificate."""
        self._tell(self._at(Stage.EXPORTING, self._ends[Stage.JUDGING]))
        request, certified = self._request, self._certified
        learner, forget_set = certified.run.learner, self._unlearning.forget_set
        after = certified.values()
        certificate = certified.certificate(after) if after else None
        if certified.before and after:
            save_values(self._workspace.job(request.job_id), certified.before, after)
        checkpoint_id = self._unlearning.save(certificate)
        meta = BundleMeta(
            algorithm=f"{learner.NAME}+{METHOD}", dataset_digest=self._unlearning.dataset.digest,
            checkpoint_id=checkpoint_id, parent=self._parent.bundle_id, forget_set_id=forget_set.id,
            certificate=described(certificate),
        )  # fmt: skip
        manifest = bundle_learner(
            self._store, learner, np.asarray(self._unlearning.keep.observations), self._parent.spec, meta,
            request.seed, reason=forget_set.reason, requester=request.requester,
        )  # fmt: skip
        return _Candidate(manifest, checkpoint_id, certificate, certified.run.steps_done)

    def _propose(self, candidate: Manifest) -> GateReport:
        """Through the gate, and into the store as its candidate."""
        self._tell(self._at(Stage.GATE, self._ends[Stage.EXPORTING]))
        with self._store.reserving(candidate.bundle_id):
            gate = pass_gate(self._store, candidate)
            if self._cancelled():
                raise PatchCancelled("cancelled at the gate", UNTOUCHED)
            Proposal(candidate_id=candidate.bundle_id).note(self._workspace.job(self._request.job_id))
            self._store.set_candidate(
                candidate.bundle_id, reason=self._unlearning.forget_set.reason, requester=self._request.requester
            )
        return gate

    def _withheld(self, judgement: _Judgement) -> PatchReport:
        return PatchReport(
            outcome=Outcome.WITHHELD,
            message=f"nothing is proposed: {judgement.reason}. {UNTOUCHED}{still_waiting(self._workspace)}",
            judgement=dict(judgement.numbers), **self._known(),
        )  # fmt: skip

    def _succeeded(self, candidate: _Candidate, judgement: _Judgement, gate: GateReport) -> PatchReport:
        became = f"candidate {candidate.manifest.bundle_id} after {candidate.steps} steps"
        return PatchReport(
            outcome=Outcome.SUCCEEDED,
            message="; ".join(filter(None, [became, _verdict(candidate.certificate), judgement.reason])),
            candidate_id=candidate.manifest.bundle_id, checkpoint_id=candidate.checkpoint_id,
            checkpoint_step=candidate.steps, checkpoint_rule=judgement.rule, judgement=dict(judgement.numbers),
            gate=gate.model_dump(mode="json"), **_fields(candidate.certificate), **self._known(),
        )  # fmt: skip

    def _known(self) -> dict[str, Any]:
        """What is reported of a run that came to its end, whatever became of it."""
        unlearning, run = self._unlearning, self._certified.run
        return {
            "job_id": self._request.job_id, "forget_set_id": unlearning.forget_set.id,
            "forgotten_before": unlearning.forgotten_before, "parent_id": self._parent.bundle_id,
            "checkpoints": self._trail.kept,
            "digests": {
                "dataset": unlearning.dataset.digest, "forget_set": unlearning.forget_set.id,
                "checkpoint": self._parent.checkpoint_id,
            },
            "settings": unlearning.settings.model_dump(mode="json"), "forget_weight": run.forget_weight,
            "marked_values": run.marked_values, "left_out": run.left_out, "budget": asdict(run.meter.budget),
            "seconds": self._seconds, "duration": time.monotonic() - self._clock,
            "started": _moment(self._started), "finished": _moment(datetime.now(UTC)),
        }  # fmt: skip

    def _at(self, stage: Stage, progress: float) -> PatchProgress:
        return PatchProgress(stage=stage, step=self._steps, steps=self._steps, progress=progress)

    @contextmanager
    def _timed(self, stage: Stage) -> Iterator[None]:
        began = time.monotonic()
        yield
        self._seconds[stage.value] = time.monotonic() - began


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


def _moment(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds")
