"""The offline check of a patch, or of learning: which policy is proposed, or none, by a model learned from data.

The model first has to pass a check itself (see evaluation/). Where it does not, it knows nothing, neither good nor bad;
what then happens is the mode's affair.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.pieces import whole_name
from saferule_ros.evaluation.fitting import ModelCancelled
from saferule_ros.evaluation.judge import Judge, Judged
from saferule_ros.evaluation.requirements import CannotJudge
from saferule_ros.evaluation.selection import Selection, cost_bound, select
from saferule_ros.evaluation.settings import SelectionSettings
from saferule_ros.learning.learner import Learner
from saferule_ros.learning.serving_policy import ServingPolicy
from saferule_ros.learning.trainer import TrainingDiverged, TrainProgress
from saferule_ros.patching.judge_mode import JudgeMode
from saferule_ros.patching.progress import UNTOUCHED, PatchCancelled
from saferule_ros.patching.settings import JudgingSettings
from saferule_ros.patching.trail import Trail
from saferule_ros.patching.unlearning import Unlearning

# Called with the share of the judging that is done, 0 to 1, and an estimate of the time left [s].
Progress = Callable[[float, float], None]
# Of the judging, learning the model takes about so much where ten policies are judged.
MODEL_SHARE = 0.7


@dataclass(frozen=True)
class Verdict:
    """What came of it.

    Attributes:
        propose: whether there is to be a candidate.
        step: of the one that was chosen; None: the last, as nothing could be judged, or nothing is proposed.
        reason: in words.
        numbers: all that it rests on, as JSON; empty where there was too little data to learn a model.
    """

    propose: bool
    step: int | None
    reason: str
    numbers: Mapping[str, Any]

    def as_json(self, mode: JudgeMode) -> dict[str, Any]:
        """All of it, as reports have it."""
        return {"mode": str(mode), "propose": self.propose, "step": self.step, "reason": self.reason, **self.numbers}


def judge_patch(
    unlearning: Unlearning, trail: Trail, mode: JudgeMode, settings: JudgingSettings, seed: int,
    on_progress: Progress = lambda *_: None, cancelled: Callable[[], bool] = lambda: False,
) -> Verdict:  # fmt: skip
    """Lets every policy of a finished patch drive in a model learned from its keep data, and decides.

    Args:
        trail: the checkpoints that it left on its way.
        seed: of the model, and of where policies start in it.

    Raises:
        PatchCancelled: `cancelled()` became true.
    """
    run = unlearning.certified.run
    try:
        return judge_policies(
            lambda: trusted(unlearning), run.learner, run.steps_done, trail, mode, settings, seed, on_progress,
            cancelled, unlearning.parent,
        )  # fmt: skip
    except ModelCancelled as error:
        raise PatchCancelled(error.what, UNTOUCHED) from error


def judge_policies(
    data: Callable[[], EpisodeDataset], last: Learner, steps_done: int, trail: Trail, mode: JudgeMode,
    settings: JudgingSettings, seed: int, on_progress: Progress = lambda *_: None,
    cancelled: Callable[[], bool] = lambda: False, parent: Callable[[], Learner] | None = None,
) -> Verdict:  # fmt: skip
    """Lets every policy of a finished run drive in a model learned from data, and decides.

    Args:
        data: what the model learns from; may raise CannotJudge.
        last: the run's result, after `steps_done` steps.
        trail: the checkpoints that the run left on its way.
        seed: of the model, and of where policies start in it.
        parent: the learner that was patched: judged too, for comparison.

    Raises:
        ModelCancelled: `cancelled()` became true.
    """
    began = time.monotonic()

    def report(share: float) -> None:
        on_progress(share, (time.monotonic() - began) * (1.0 - share) / share)

    def show(at: TrainProgress) -> None:
        report(MODEL_SHARE * at.step / at.steps)

    try:
        judge = Judge(data(), last.units.to("cpu"), last.limits, settings.judge, seed, show, cancelled)
    except (CannotJudge, TrainingDiverged) as error:
        return Verdict(mode is JudgeMode.ADVISE, None, f"not judged: {error.what}", {})
    steps = [kept.step for kept in trail.before(steps_done)]
    judged = {}
    for count, step in enumerate(steps):
        if cancelled():
            raise ModelCancelled(f"cancelled after {count} policies were judged")
        report(MODEL_SHARE + (1.0 - MODEL_SHARE) * count / (len(steps) + 2))
        judged[step] = judge.judge(_serving(trail.load(step, last.device)))
    judged[steps_done] = judge.judge(_serving(last))
    of_parent = judge.judge(_serving(parent())) if parent else None
    selection = select(judged, judge.check, last.limits.cost_limit, settings.rule)
    return _decided(selection, of_parent, mode, settings.rule)


def trusted(unlearning: Unlearning) -> EpisodeDataset:
    """What a patch is judged from: D_k without episodes in which the run found something like what it had to forget.

    Raises:
        CannotJudge: that leaves none.
    """
    keep, left_out = unlearning.keep, unlearning.certified.run.left_out
    chosen = [index for index, record in enumerate(keep.records) if whole_name(record.id) not in left_out]
    if not chosen:
        raise CannotJudge(
            f"in each of {len(left_out)} episodes are steps like those to forget", "Look at them; see `left_out`"
        )
    return keep.subset(chosen)


def _decided(selection: Selection, parent: Judged | None, mode: JudgeMode, rule: SelectionSettings) -> Verdict:
    numbers: dict[str, Any] = {
        "check": _known(asdict(selection.check)), "allowed": selection.allowed,
        "judged": {str(step): _known(asdict(one) | {"bound": selection.bounds[step]})
                   for step, one in selection.judged.items()},
    }  # fmt: skip
    reason = selection.reason
    if parent is not None:
        of_parent = cost_bound(parent, selection.check, rule)
        numbers["parent"] = _known(asdict(parent) | {"bound": of_parent})
        reason += f"; of the policy that was patched the bound is {of_parent:.1f}"
    if not selection.trusted:
        if mode is JudgeMode.REQUIRE:
            return Verdict(False, None, selection.reason, numbers)
        return Verdict(True, None, f"not judged: {selection.reason}", numbers)
    return Verdict(selection.step is not None, selection.step, reason, numbers)


def _known(numbers: Mapping[str, Any]) -> dict[str, Any]:
    """What is not known as null: JSON has no NaN."""
    return {name: None if value != value else value for name, value in numbers.items()}


def _serving(learner: Learner) -> ServingPolicy:
    return ServingPolicy(learner).on_cpu().eval().requires_grad_(False)
