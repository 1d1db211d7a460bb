"""One patch, from request to candidate.

    active bundle -> its checkpoint, its dataset -> D_f and D_k -> Safe-RULE -> checkpoint -> ONNX bundle -> gate
    -> the store's candidate

What serves is never touched. The candidate is the policy after the last of a fixed number of steps: a rule that
asks no simulator [ours].
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.forget_set import ForgetSet
from saferule_ros.errors import SaferuleError
from saferule_ros.learning.bcq_lag import BcqLag
from saferule_ros.learning.checkpoint import load_checkpoint, save_checkpoint
from saferule_ros.learning.serving_policy import ServingPolicy
from saferule_ros.learning.trainer import limit_threads
from saferule_ros.patching.progress import PatchCancelled, PatchProgress, Stage
from saferule_ros.patching.report import Outcome, PatchReport
from saferule_ros.patching.request import PatchRequest
from saferule_ros.patching.values import save_values
from saferule_ros.policy.bundle import BundleMeta, Manifest, build_bundle
from saferule_ros.policy.export import choose_golden
from saferule_ros.policy.gate import run_gate
from saferule_ros.policy.store import PolicyStore
from saferule_ros.settings import load_settings
from saferule_ros.unlearning.certificate import Certificate, certify, pair_values
from saferule_ros.unlearning.safe_rule import SafeRule, UnlearnProgress, unlearn
from saferule_ros.unlearning.settings import SafeRuleSettings
from saferule_ros.workspace import Workspace

CHECKPOINT_RULE = "the policy after the last of a fixed number of steps"

# Golden pairs of a bundle: a replay of this many takes the gate some hundredths of a second.
GOLDEN_PAIRS = 256

# Where in a job each stage ends, as share of its wall time in a typical job of 500 steps: for the progress bar.
STAGE_ENDS = {Stage.LOADING: 0.05, Stage.UNLEARNING: 0.90, Stage.EXPORTING: 0.95, Stage.GATE: 1.0}


class NothingToPatch(SaferuleError):
    """The store's active policy cannot be patched."""


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
    started, clock = datetime.now(UTC), time.monotonic()
    seconds: dict[str, float] = {}
    limit_threads(request.threads)
    workspace = Workspace(request.workspace)

    with _timed(seconds, Stage.LOADING):
        settings = load_settings(SafeRuleSettings, request.settings)
        if request.steps:
            settings = settings.model_copy(update={"steps": request.steps})
        store = PolicyStore(workspace.store)
        parent = _active(store)
        learner, learned_from = load_checkpoint(workspace.checkpoint(parent.checkpoint_id))
        dataset = EpisodeDataset.load(workspace.dataset)
        if dataset.digest != learned_from:
            raise NothingToPatch(
                f"policy {parent.bundle_id} was learned from dataset {learned_from}, {workspace.dataset} is {dataset.digest}",
                "Put the dataset that it was learned from into the workspace",
            )
        forget_set = ForgetSet.load(workspace.forget_sets, request.forget_set_id)
        forget, keep = forget_set.split(dataset)
        run = SafeRule(learner, forget, keep, settings, request.seed)
        before = pair_values(learner, run.forget, run.keep, request.seed)

    with _timed(seconds, Stage.UNLEARNING):
        steps_done = unlearn(run, lambda at: on_progress(_progress(at)), cancelled)
        if steps_done < settings.steps:
            raise PatchCancelled(
                f"cancelled after {steps_done} of {settings.steps} steps", "What serves was not touched"
            )
        after = pair_values(learner, run.forget, run.keep, request.seed)
        certificate = certify(after, settings.percentile, run.cost_required)

    with _timed(seconds, Stage.EXPORTING):
        on_progress(PatchProgress(stage=Stage.EXPORTING, step=steps_done, steps=settings.steps, progress=STAGE_ENDS[Stage.UNLEARNING]))  # fmt: skip
        save_values(workspace.job(request.job_id), before, after)
        checkpoint_id = save_checkpoint(learner, workspace.checkpoints, dataset.digest)
        candidate = _bundle(store, learner, keep, parent, checkpoint_id, forget_set, certificate, request)

    with _timed(seconds, Stage.GATE):
        on_progress(PatchProgress(stage=Stage.GATE, step=steps_done, steps=settings.steps, progress=STAGE_ENDS[Stage.EXPORTING]))  # fmt: skip
        gate = run_gate(workspace.store, candidate.bundle_id, parent.spec, 1.0 / parent.spec.control_rate)
        if not gate.passed:
            raise NothingToPatch(
                f"the patched policy {candidate.bundle_id} did not pass the gate: {gate.explain()}",
                "What serves was not touched; the job's report has every check",
            )
        if cancelled():
            raise PatchCancelled("cancelled at the gate", "What serves was not touched")
        store.set_candidate(candidate.bundle_id, reason=forget_set.reason, requester=request.requester)

    on_progress(PatchProgress(stage=Stage.DONE, step=steps_done, steps=settings.steps, progress=1.0, time_left=0.0))
    return PatchReport(
        job_id=request.job_id, forget_set_id=forget_set.id, outcome=Outcome.SUCCEEDED,
        message=f"candidate {candidate.bundle_id} after {steps_done} steps; certificate "
        + ("holds" if certificate.holds else "does not hold"),
        candidate_id=candidate.bundle_id, parent_id=parent.bundle_id,
        duration=time.monotonic() - clock, seconds=seconds,
        checkpoint_id=checkpoint_id, checkpoint_step=steps_done, checkpoint_rule=CHECKPOINT_RULE,
        certified=certificate.holds, certificate=_described(certificate),
        q_reward_forget=certificate.q_reward_forget, q_reward_reference=certificate.q_reward_reference,
        q_cost_forget=certificate.q_cost_forget, q_cost_required=certificate.q_cost_required,
        gate=gate.model_dump(mode="json"), digests={"dataset": dataset.digest, "forget_set": forget_set.id},
        started=started.isoformat(timespec="milliseconds"),
        finished=datetime.now(UTC).isoformat(timespec="milliseconds"),
    )  # fmt: skip


def _active(store: PolicyStore) -> Manifest:
    active_id = store.place("active")
    if active_id is None:
        raise NothingToPatch(
            f"the store {store.root} has no active policy", "Train one with `saferule train`, then patch it"
        )
    return store.get(active_id).manifest


def _bundle(
    store: PolicyStore, learner: BcqLag, keep: EpisodeDataset, parent: Manifest, checkpoint_id: str,
    forget_set: ForgetSet, certificate: Certificate, request: PatchRequest,
) -> Manifest:  # fmt: skip
    policy = ServingPolicy(learner)
    golden = choose_golden(policy, np.asarray(keep.observations), GOLDEN_PAIRS, request.seed)
    meta = BundleMeta(
        algorithm=f"{learner.NAME}+safe_rule", dataset_digest=forget_set.dataset_digest, checkpoint_id=checkpoint_id,
        parent=parent.bundle_id, forget_set_id=forget_set.id, certificate=_described(certificate),
    )  # fmt: skip
    return build_bundle(
        store, policy, parent.spec, golden.observations, golden.actions, meta,
        reason=forget_set.reason, requester=request.requester,
    )  # fmt: skip


def _described(certificate: Certificate) -> dict[str, Any]:
    return asdict(certificate) | {
        "reward_suppressed": certificate.reward_suppressed, "cost_separated": certificate.cost_separated,
    }  # fmt: skip


def _progress(at: UnlearnProgress) -> PatchProgress:
    begin, end = STAGE_ENDS[Stage.LOADING], STAGE_ENDS[Stage.UNLEARNING]
    return PatchProgress(
        stage=Stage.UNLEARNING, step=at.step, steps=at.steps,
        progress=begin + (end - begin) * at.step / at.steps, time_left=at.time_left, **at.losses,
    )  # fmt: skip


@contextmanager
def _timed(seconds: dict[str, float], stage: Stage) -> Iterator[None]:
    began = time.monotonic()
    yield
    seconds[stage.value] = time.monotonic() - began
