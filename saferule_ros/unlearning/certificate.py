"""What a patch can prove about forgetting: reward suppression and cost separation, measured.

The paper's two lemmas bound these quantities; computing and reporting them is [ours]. The certificate tells that
the data was forgotten, not that the policy is safe. It asks the same of all of D_f, whatever counted in the patch (see
forget_weights.py): where keep data say that forgotten states are worth much, no learner without D_f would pass it.
"""

from dataclasses import dataclass

import numpy as np
import torch

from saferule_ros.learning.learner import CriticLearner, by_kind
from saferule_ros.learning.replay import Batch, Replay

# Pairs that are judged at most: means over this many have a standard error far below the critics' residuals, and
# the judgement takes a fraction of a second.
SAMPLE = 4096


@dataclass(frozen=True)
class PairValues:
    """Mean of the critics at the same sampled pairs of forget and keep data, each (S,)."""

    reward_forget: np.ndarray
    reward_keep: np.ndarray
    cost_forget: np.ndarray
    cost_keep: np.ndarray
    residual_reward: float  # mean |Q_r - y_r| over the keep pairs
    residual_cost: float  # mean |Q_c - y_c| over the keep pairs


@dataclass(frozen=True)
class Certificate:
    """Both conditions with the numbers behind them, in learner units (rewards and costs scaled, discounted)."""

    q_reward_forget: float  # mean Q_r over D_f
    q_reward_reference: float  # Qbar_r, the percentile of Q_r over D_k
    residual_reward: float  # epsilon_r
    q_cost_forget: float  # mean Q_c over D_f
    q_cost_required: float  # kappa + sigma
    residual_cost: float  # epsilon_c
    held_out_forget: int = 0  # transitions of D_f that were measured and not trained on; 0: trained on all of them
    held_out_keep: int = 0  # of D_k

    @property
    def reward_suppressed(self) -> bool:
        """mean Q_r over D_f <= Qbar_r + epsilon_r."""
        return self.q_reward_forget <= self.q_reward_reference + self.residual_reward

    @property
    def cost_separated(self) -> bool:
        """mean Q_c over D_f >= kappa + sigma - epsilon_c."""
        return self.q_cost_forget >= self.q_cost_required - self.residual_cost

    @property
    def holds(self) -> bool:
        """Both conditions."""
        return self.reward_suppressed and self.cost_separated


def pair_values(learner: CriticLearner, forget: Replay, keep: Replay, seed: int) -> PairValues:
    """Critics' values at up to SAMPLE pairs of each set; the same seed draws the same pairs, before and after.

    The draw has a generator of its own: looking changes nothing in the learner.
    """
    generator = torch.Generator(learner.device).manual_seed(seed)
    on_forget, on_keep = forget.sample(SAMPLE, generator), keep.sample(SAMPLE, generator)
    kept_state = learner.generator.get_state()
    with torch.no_grad():
        reward_forget, cost_forget = _means(learner, on_forget)
        reward_keep, cost_keep = _means(learner, on_keep)
        target_reward, target_cost = learner.critic_targets(on_keep)
    learner.generator.set_state(kept_state)
    return PairValues(
        reward_forget.cpu().numpy(), reward_keep.cpu().numpy(), cost_forget.cpu().numpy(), cost_keep.cpu().numpy(),
        float((reward_keep - target_reward).abs().mean()), float((cost_keep - target_cost).abs().mean()),
    )  # fmt: skip


def certify(
    values: PairValues, percentile: float, cost_required: float, held_out_forget: int = 0, held_out_keep: int = 0
) -> Certificate:
    """The certificate for these values.

    Args:
        percentile: of Q_r over D_k, 0 to 100, as in the patch's settings.
        cost_required: kappa + sigma that the patch used [discounted cost].
        held_out_forget, held_out_keep: transitions among which the pairs were drawn, if they were not trained on.
    """
    return Certificate(
        float(values.reward_forget.mean()), float(np.percentile(values.reward_keep, percentile)),
        values.residual_reward,
        float(values.cost_forget.mean()), cost_required, values.residual_cost, held_out_forget, held_out_keep,
    )  # fmt: skip


def _means(learner: CriticLearner, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    reward, cost = by_kind(learner.critics(batch.observations, batch.actions))  # (N, S) each
    return reward.mean(0), cost.mean(0)
