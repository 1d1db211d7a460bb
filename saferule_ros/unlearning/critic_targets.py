"""What the critics regress to on keep data during a patch: y_r and y_c, by rows of the replay.

[ours] Learning needs targets that follow the critics, since values travel back along the episodes with them. A patch
does not: the values of keep data were learned already, and what is to be forgotten is pressed out of the critics
directly. Its targets can stay as they are, and then each is computed once. They hold many steps of the data's own
rewards and costs, because what they bootstrap from is the agent that learned from the forget data. CPQ counts these
rewards as far as its cost critics allow the actions that led to them, as it does in learning.
"""

import copy
from collections.abc import Mapping
from contextlib import nullcontext

import torch
from torch import Tensor

from saferule_ros.learning.captured import are_captured
from saferule_ros.learning.flops import FlopCounter
from saferule_ros.learning.learner import CriticLearner
from saferule_ros.learning.replay import AT_ONCE, Replay


class MovingTargets:
    """The learner's own, as they are at each step.

    Attributes:
        flops: of what was computed once.
    """

    def __init__(self, learner: CriticLearner, replay: Replay) -> None:
        self._learner, self._replay = learner, replay
        self.flops = 0.0

    def tensors(self) -> dict[str, Tensor]:
        """What changes while it is used, by name."""
        return {}

    def restore(self, learner: CriticLearner, tensors: Mapping[str, Tensor]) -> None:
        """Goes on where another one was with these `tensors()`, whose learner is now this one."""
        self._learner = learner

    def at(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """y_r and y_c, (B,) each, of the transitions in these rows (B,)."""
        return self._learner.critic_targets(self._replay.at(rows))


class FixedTargets(MovingTargets):
    """Those of the learner as it is now; each is computed when its transition is first drawn."""

    def __init__(self, learner: CriticLearner, replay: Replay) -> None:
        super().__init__(copy.deepcopy(learner), replay)
        self._targets = torch.zeros(2, replay.size, device=learner.device)
        self._known = torch.zeros(replay.size, dtype=torch.bool, device=learner.device)
        self._flops_each, self._complete = 0.0, False
        self._complete_for_capture()

    def tensors(self) -> dict[str, Tensor]:
        return {
            "targets": self._targets, "known": self._known, "generator": self._learner.generator.get_state(),
            "flops": torch.tensor([self.flops, self._flops_each], dtype=torch.float64),
        }  # fmt: skip

    def restore(self, learner: CriticLearner, tensors: Mapping[str, Tensor]) -> None:
        """As above; the learner that they are computed by stays the one of the beginning."""
        self._targets, self._known = tensors["targets"], tensors["known"]
        self._complete = bool(self._known.all())
        self._complete_for_capture()
        self._learner.generator.set_state(tensors["generator"].cpu())
        self.flops, self._flops_each = tensors["flops"].tolist()

    def _complete_for_capture(self) -> None:
        if are_captured(self._learner.device):
            self.complete()

    def complete(self) -> None:
        """Computes now what steps would compute on the way: captured ones cannot."""
        for rows in torch.nonzero(~self._known).squeeze(1).split(AT_ONCE):
            self._compute(rows)
        self._complete = True

    def at(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """y_r and y_c, (B,) each, of the transitions in these rows (B,)."""
        if not self._complete:
            self._compute(rows[~self._known[rows]].unique())
        reward, cost = self._targets[:, rows]
        return reward, cost

    def _compute(self, new: Tensor) -> None:
        if not len(new):
            return
        with nullcontext() if self._flops_each else FlopCounter() as counter:
            self._targets[:, new] = torch.stack(super().at(new))
        if counter is not None:
            self._flops_each = counter.total / len(new)
        self.flops += self._flops_each * len(new)
        self._known[new] = True
