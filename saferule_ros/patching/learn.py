"""A first policy, from the workspace's dataset to an active bundle: what a patch later starts from."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.errors import SaferuleError
from saferule_ros.evaluation.fitting import ModelCancelled
from saferule_ros.evaluation.requirements import CannotJudge, episodes_to_judge_by
from saferule_ros.learning.calibration import Calibration, calibrate
from saferule_ros.learning.checkpoint import CheckpointError, save_checkpoint
from saferule_ros.learning.learner import CriticLearner, Learner
from saferule_ros.learning.settings import CommonSettings, TaskLimits
from saferule_ros.learning.trainer import TrainingCancelled, TrainingDiverged, TrainProgress, train
from saferule_ros.learning.unfinished import Unfinished
from saferule_ros.patching.bundling import bundle_learner, pass_gate
from saferule_ros.patching.judge_mode import JudgeMode
from saferule_ros.patching.judging import Verdict, judge_policies
from saferule_ros.patching.lock import only_worker
from saferule_ros.patching.settings import EVERY, JudgingSettings
from saferule_ros.patching.trail import CHECKPOINTS, Trail
from saferule_ros.policy.bundle import BundleMeta, Manifest
from saferule_ros.policy.invariants import check_contract
from saferule_ros.policy.spec import PolicySpec
from saferule_ros.policy.store import PolicyStore
from saferule_ros.settings import name_of
from saferule_ros.workspace import Workspace


class NothingProposed(SaferuleError):
    """No policy of the run passed its offline check.

    Args:
        verdict: what the check found.
        checkpoint_id: of the last one's learner.
    """

    def __init__(self, verdict: Verdict, checkpoint_id: str) -> None:
        super().__init__(
            f"no policy is proposed: {verdict.reason}",
            f"The last one's checkpoint is {checkpoint_id}, of which `saferule export` makes a policy all the same, "
            "with the --task or --robot that it was learned for. All of it is kept: the same command judges anew",
        )
        self.verdict, self.checkpoint_id = verdict, checkpoint_id


# Of a run that was stopped: the learner as it last was.
LATEST = "latest"


class Judging(NamedTuple):
    """Of the offline check that chooses one of the run's policies, or none: the same as in a patch.

    Attributes:
        mode: whether there is one; without, the policy after the last step is taken.
        settings: of model, check and rule.
        every: steps from one policy that is judged to the next; the last one is judged as well.
        on_progress: called with the share that is done and an estimate of the time left [s].
    """

    mode: JudgeMode = JudgeMode.NONE
    settings: JudgingSettings = JudgingSettings.model_validate({})
    every: int = EVERY
    on_progress: Callable[[float, float], None] = lambda *_: None


NOT_JUDGED = Judging()


class LearnedPolicy(NamedTuple):
    """What came of learning."""

    manifest: Manifest
    active: bool  # whether it is the active policy now
    calibration: Calibration | None  # None for a learner without critics
    steps: int  # behind the policy: fewer than were asked for where the offline check chose an earlier one
    verdict: Verdict | None  # of the offline check; None where it was not asked for


def learn_policy(
    workspace: Workspace, spec: PolicySpec, limits: TaskLimits, settings: CommonSettings, steps: int, seed: int,
    on_progress: Callable[[TrainProgress], None] = lambda _: None, activate: bool | None = True, device: str = "cpu",
    cancelled: Callable[[], bool] = lambda: False, requester: str = "", judging: Judging = NOT_JUDGED,
    new_contract: bool = False,
) -> LearnedPolicy:  # fmt: skip
    """Learns a policy from the workspace's dataset and puts it into the workspace's store.

    What was stopped, or killed, goes on when the same is asked for again: the number of steps may be another one.

    Args:
        spec: the robot's contract; its action bounds are the policy's.
        limits: cost limit and horizon of the task.
        settings: of the algorithm that is to learn.
        steps: gradient steps.
        seed: of every random draw.
        activate: make it the active policy; otherwise it only stands in the store. None: only where none is active yet,
            as a policy that was on no trial must not take the place of one that serves.
        device: that learns, cpu or cuda.
        cancelled: asked before every step.
        requester: who asks, for the record.
        judging: whether an offline check chooses the policy.
        new_contract: it may take the place of an active policy that was made for another contract.

    Raises:
        ContractError: it is to be activated, and what is active was made for another robot; told before anything is
            learned.
        WorkspaceBusy: another process learns the same just now.
        TrainingCancelled: `cancelled()` became true; what was learned so far is kept in the workspace.
        NothingProposed: no policy passed the offline check.
        CannotJudge: a judgement is required, and the data does not do for one; told before anything is learned.
        SaferuleError: unreadable dataset, divergence, or a policy that the gate refused; nothing was activated.
    """
    store = PolicyStore(workspace.store)
    active = _contract(store)  # a store that cannot be read is told now, and not after hours of learning
    if activate and not new_contract:
        check_contract(spec, active)
    dataset = EpisodeDataset.load(workspace.dataset)
    asked = {
        "dataset": dataset.digest, "limits": limits.model_dump(), "settings": settings.model_dump(),
        "action_bounds": [spec.action_low, spec.action_high], "seed": seed, "device": device,
    }  # fmt: skip
    every, verdict = _to_be_judged(dataset, judging)
    run = workspace.training / name_of(asked | {"checkpoint_every": every})
    with only_worker(run):
        learner, trail = _learned(
            run, dataset, limits, settings, spec, steps, seed, on_progress, device, cancelled, every
        )
        if every:
            verdict = _judged(judging, dataset, learner, trail, seed, cancelled)
            if verdict.step not in (None, steps):
                learner = trail.load(verdict.step, device)
        checkpoint_id = save_checkpoint(learner, workspace.checkpoints, dataset.digest)
        if verdict and not verdict.propose:
            raise NothingProposed(verdict, checkpoint_id)
        store.create()
        meta = BundleMeta(algorithm=learner.NAME, dataset_digest=dataset.digest, checkpoint_id=checkpoint_id)
        reason = f"learned from {dataset.episodes} episodes, seed {seed}"
        if verdict is not None:
            reason += f"; {verdict.reason}"
        manifest = bundle_learner(store, learner, np.asarray(dataset.observations), spec, meta, seed, reason, requester)
        with store.reserving(manifest.bundle_id):
            if activate is None:
                activate = store.places().active is None
            pass_gate(store, manifest, None if new_contract or not activate else _contract(store))
            if activate:
                store.activate(manifest.bundle_id, reason=reason, requester=requester)
        shutil.rmtree(run, ignore_errors=True)  # only now: what was refused, or had no room, can be tried again
    replay = learner.replay(dataset)
    calibration = calibrate(learner, replay) if isinstance(learner, CriticLearner) else None
    return LearnedPolicy(manifest, activate, calibration, learner.steps_done, verdict)


def _learned(
    run: Path, dataset: EpisodeDataset, limits: TaskLimits, settings: CommonSettings, spec: PolicySpec, steps: int,
    seed: int, on_progress: Callable[[TrainProgress], None], device: str, cancelled: Callable[[], bool], every: int,
) -> tuple[Learner, Trail]:  # fmt: skip
    """The learner after all steps, and the checkpoints along the way. What was stopped in this folder goes on."""
    unfinished = Unfinished(run / LATEST)
    try:
        if unfinished.steps > steps:
            shutil.rmtree(run)  # of more steps than are asked for: the way there is not this one's
        trail = Trail.resumed(run / CHECKPOINTS, dataset.digest, every, unfinished.steps)
    except CheckpointError as error:
        raise CheckpointError(error.what, f"Remove {run}: the same command then learns anew") from error
    try:
        learner = train(
            dataset, limits, settings, (spec.low, spec.high), steps, seed, on_progress, device, unfinished, cancelled,
            trail.after_step,
        )  # fmt: skip
    except TrainingDiverged:
        shutil.rmtree(run, ignore_errors=True)  # it would diverge again
        raise
    if every:
        unfinished.save(learner)  # judging takes a while, and can be cancelled as well
    return learner, trail


def _contract(store: PolicyStore) -> PolicySpec | None:
    """What the active policy was made for; None where none is active, or there is no store yet."""
    return store.contract_of(store.place("active")) if store.places_path.exists() else None


def _to_be_judged(dataset: EpisodeDataset, judging: Judging) -> tuple[int, Verdict | None]:
    """How often a policy is kept, 0 for never; and what is to be said of the last one where none can be judged."""
    if judging.mode is JudgeMode.NONE:
        return 0, None
    try:
        episodes_to_judge_by(dataset)
    except CannotJudge as error:
        if judging.mode is JudgeMode.REQUIRE:
            raise
        return 0, Verdict(True, None, f"not judged: {error.what}", {})
    return judging.every, None


def _judged(
    judging: Judging, dataset: EpisodeDataset, learner: Learner, trail: Trail, seed: int, cancelled: Callable[[], bool]
) -> Verdict:
    try:
        return judge_policies(
            lambda: dataset, learner, learner.steps_done, trail, judging.mode, judging.settings, seed,
            judging.on_progress, cancelled,
        )  # fmt: skip
    except ModelCancelled as error:
        raise TrainingCancelled(error.what, "What was learned is kept: the same command judges anew") from error
