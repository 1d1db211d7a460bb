"""Safe-RULE (arXiv 2606.09559): unlearns a forget set with a few hundred gradient steps.

Critics [paper: Bellman regression on keep data plus softplus suppression on forget data]:

    L_r = E_Dk[(Q_r - y_r)^2] + beta_f E_Df[t softplus((Q_r(s, a) - Qbar_r) / t)]
    L_c = E_Dk[(Q_c - y_c)^2] + beta_f E_Df[t softplus((kappa + sigma - Q_c(s, a)) / t)]

Actor [paper: "safety-gated actor unlearning"; the gate's form is ours]: the learner's own actor loss on D_k, plus
on D_f a bounded repulsion from the forgotten action wherever the cost critic calls it unsafe.

[ours]: kappa is raised to what the critics show on keep episodes that are within the limit (below their noise, the
constraint would call everything unsafe); a forget pair counts in the means over D_f as far as keep pairs at its state
do not outnumber it (see forget_weights.py); keep data that look like forget data are left out (see suspects.py); beta_f
follows dual ascent on the violated share of D_f; lambda is set at the start and held; y_r and y_c are computed once,
mostly from the returns of the keep episodes themselves (see critic_targets.py); the behaviour model is trained on good
episodes of D_k alone (see worth_imitating.py), so that neither forgotten actions nor those that cost too much are in
the policy's support; where D_f carries a mark, keep data are shown with it as well (see marker.py), as a backdoor stays
open otherwise; the learning rate falls to almost nothing in the second half. What BCQ-Lag and BEAR-Lag
have besides: safe_rule_lag.py.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.learning.calibration import raised_kappa
from saferule_ros.learning.captured import Losses
from saferule_ros.learning.learner import ActorCriticLearner, CriticLearner, by_kind
from saferule_ros.learning.replay import Batch, drawn
from saferule_ros.unlearning.critic_targets import FixedTargets, MovingTargets
from saferule_ros.unlearning.forget_weights import forget_weights
from saferule_ros.unlearning.marker import marked_dimensions, with_mark
from saferule_ros.unlearning.schedule import FallingRateRun
from saferule_ros.unlearning.settings import CostSuppressionSettings, SafeRuleSettings
from saferule_ros.unlearning.suspects import without_suspects
from saferule_ros.unlearning.worth_imitating import rows_worth_imitating

# Weight from which a forget pair is looked at for a mark: by less than that it is as likely a keep pair.
COUNTS = 0.5


class SafeRuleRun(FallingRateRun):
    """What Safe-RULE is on every learner with critics; see UnlearningRun.

    Args:
        learner: continues from its checkpoint; changed in place.
        forget, keep: D_f and D_k, raw units.
        settings: see CostSuppressionSettings.
        seed: of batches and noise.
    """

    NAME = "safe_rule"
    learner: CriticLearner
    settings: CostSuppressionSettings

    def __init__(
        self, learner: CriticLearner, forget: EpisodeDataset, keep: EpisodeDataset,
        settings: CostSuppressionSettings, seed: int,
    ) -> None:  # fmt: skip
        self.settings = settings
        super().__init__(
            learner, forget, keep, settings.steps, seed, settings.return_steps if settings.fixed_targets else None
        )
        learner.restart_multiplier(settings.caution)
        self.kappa = raised_kappa(learner, self.suspects.keep, self.keep, settings.safe_quantile)
        self.beta = self.weight_of_forgetting()
        with self.meter.time():
            self.targets = (FixedTargets if settings.fixed_targets else MovingTargets)(learner, self.keep)
            self.weights, self._weights_flops = forget_weights(self.forget, self.keep, settings.keep_outweighs, seed)

        imitated = rows_worth_imitating(self.suspects.keep, learner.limits, settings.imitated_share)
        self.imitated = imitated.to(learner.device)  # rows of D_k
        self._mark_draws = torch.Generator(learner.device).manual_seed(seed)
        counting = self.forget.all.observations[self.weights > COUNTS]
        self.marked = marked_dimensions(counting, self.keep.all.observations, self._mark_draws)  # (K,)

    def learned_from(self, forget: EpisodeDataset, keep: EpisodeDataset, seed: int) -> EpisodeDataset:
        self.suspects = without_suspects(forget, keep, self.settings.forget_outweighs, seed, self.learner.device)
        return self.suspects.keep

    @property
    def left_out(self) -> dict[str, int]:
        return self.suspects.episodes

    @property
    def forget_weight(self) -> float:
        return float(self.weights.mean())

    @property
    def marked_values(self) -> list[int]:
        return self.marked.tolist()

    def computed_once(self) -> float:
        return super().computed_once() + self.targets.flops + self._weights_flops + self.suspects.flops

    def state(self) -> dict[str, Any]:
        return {"beta": float(self.beta)}

    def tensors(self) -> dict[str, Tensor]:
        targets = {f"targets.{name}": tensor for name, tensor in self.targets.tensors().items()}
        return {"mark_draws": self._mark_draws.get_state(), **targets}

    def restore(self, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        self.beta.fill_(state["beta"])
        self._mark_draws.set_state(tensors["mark_draws"].cpu())
        of_targets = {n.removeprefix("targets."): tensor for n, tensor in tensors.items() if n.startswith("targets.")}
        self.targets.restore(self.learner, of_targets)

    @property
    def generators(self) -> list[torch.Generator]:
        return [*super().generators, self._mark_draws]

    def take_step(self) -> Losses:
        """One gradient step on the model of the data, critics and actor. Returns losses and the state of beta_f."""
        learner = self.learner
        batch = learner.settings.batch
        rows = self.keep.draw(batch, learner.generator)
        forget_rows = self.forget.draw(batch, learner.generator)
        forget, weights = self.forget.at(forget_rows), self.weights[forget_rows]
        keep = with_mark(self.keep.at(rows), forget, self.marked, self._mark_draws)

        model_losses = self.fit_model(forget)

        predicted = learner.critics(  # keep and forget pairs go through the critics together
            torch.cat([keep.observations, forget.observations]), torch.cat([keep.actions, forget.actions])
        )  # (2N, 2B)
        on_keep, on_forget = predicted[:, :batch], predicted[:, batch:]
        bellman = learner.critic_losses(keep, on_keep, self.targets.at(rows))  # (2,) reward, cost
        reference = torch.quantile(by_kind(on_keep.detach())[0], self.settings.percentile / 100.0)
        suppression = self._suppression(on_forget, reference, weights)
        outnumbered_loss, outnumbered = self.press_outnumbered(forget, on_forget, weights)
        learner.descend("critics", bellman.sum() + self.beta.float() * suppression.sum() + outnumbered_loss)

        on_forget = on_forget.detach()
        actor_loss = self.actor_loss(keep, forget)
        if self.settings.actor_weight:
            actor_loss = actor_loss + self.settings.actor_weight * self._repulsion(forget, on_forget, weights)
        learner.descend("actor", actor_loss)
        learner.update_targets()
        learner.update_weights()

        reward, cost = by_kind(on_forget)  # (N, B) each
        self.update_beta(self.beta, self._violated_share(on_forget, reference, weights), self.settings.beta_rate)
        return {
            "loss_reward": bellman[0].detach(), "loss_cost": bellman[1].detach(), "loss_actor": actor_loss.detach(),
            "beta_forget": self.beta,
            "q_reward_forget": reward.mean(), "q_reward_reference": reference,
            "q_cost_forget": cost.mean(), "q_cost_required": self.cost_required,
            **model_losses, **outnumbered,
        }  # fmt: skip

    @abstractmethod
    def fit_model(self, forget: Batch) -> Losses:
        """One step on what the learner knows of the data besides critics and actor. Returns what is worth watching.

        Args:
            forget: has the mark, where there is one.
        """

    @abstractmethod
    def actor_loss(self, keep: Batch, forget: Batch) -> Tensor:
        """The learner's own actor loss on keep data, scalar.

        Args:
            keep: half of it shown with the mark, where there is one.
            forget: has that mark.
        """

    def press_outnumbered(self, forget: Batch, on_forget: Tensor, weights: Tensor) -> tuple[Tensor | float, Losses]:
        """What of forget pairs is pressed as far as keep pairs outnumber them: weighted loss, and what to watch of it.

        Args:
            on_forget: (2N, B), the critics at these pairs.
            weights: w (B,) of them.
        """
        return 0.0, {}

    def draw_imitated(self, forget: Batch, at: Callable[[Tensor], Batch]) -> tuple[Batch, Batch]:
        """Pairs of D_k that are worth imitating: as they are in the log, and half of them shown with the mark.

        Args:
            at: the transitions in rows of D_k.
        """
        plain = at(drawn(self.imitated, self.learner.settings.batch, self.learner.generator))
        return plain, with_mark(plain, forget, self.marked, self._mark_draws)

    @property
    def cost_required(self) -> float:
        """kappa + sigma: what Q_c must exceed on D_f [discounted cost]."""
        return self.kappa + self.settings.cost_margin

    def _suppression(self, on_forget: Tensor, reference: Tensor, weights: Tensor) -> Tensor:
        """The two forget terms (2,) of L_r and L_c.

        Args:
            on_forget: (2N, B), the critics at forget pairs.
            reference: Qbar_r, scalar.
            weights: w (B,) of these pairs.
        """
        t, weight = self.settings.temperature, self.settings.cost_weight
        reward, cost = by_kind(on_forget)
        excess = reward - reference  # (N, B)
        shortfall = self.cost_required - cost  # (N, B)
        return torch.stack([
            t * (weights * F.softplus(excess / t)).mean(), weight * t * (weights * F.softplus(shortfall / t)).mean(),
        ])  # fmt: skip

    def _repulsion(self, forget: Batch, on_forget: Tensor, weights: Tensor) -> Tensor:
        """Bounded push of the actor away from forgotten actions, gated by the cost critic; in [0, 1].

        Args:
            on_forget: (2N, B), the critics at the forget pairs, without gradient.
            weights: w (B,) of these pairs.
        """
        learner = self.learner
        cost = learner.values(on_forget).cost
        gate = torch.sigmoid((cost - self.kappa) / self.settings.gate_temperature)  # (B,)
        moved = learner.response(forget.observations, forget.actions)  # (B, A)
        distance = (moved - forget.actions).square().sum(-1)
        return (weights * gate * torch.exp(-distance / self.settings.repulsion_width**2)).mean()

    def _violated_share(self, on_forget: Tensor, reference: Tensor, weights: Tensor) -> Tensor:
        """Share of forget pairs, each by its weight, that still look good or safe: mean over both conditions.

        A scalar in double precision.
        """
        weight = self.settings.cost_weight
        reward, cost = by_kind(on_forget)
        good = (reward.mean(0) > reference).float()  # (B,)
        safe = (cost.mean(0) < self.cost_required).float()
        # Where all weights together are less than one pair, there is nothing left to forget.
        violated = (weights * (good + weight * safe)).sum() / weights.sum().clamp(min=1.0)
        return (violated / (1.0 + weight)).double()

    def weight_of_forgetting(self) -> Tensor:
        """A beta as it begins: a scalar in double precision, as beside what is single it takes that precision."""
        return torch.tensor(self.settings.beta_start, dtype=torch.float64, device=self.learner.device)

    def update_beta(self, beta: Tensor, violated: Tensor, rate: float) -> None:
        """Dual ascent towards the share that is tolerated."""
        s = self.settings
        beta.add_(rate * (violated - s.tolerated_share)).clamp_(s.beta_floor, s.beta_cap)


class SafeRule(SafeRuleRun):
    """On learners whose actor follows their critics."""

    learner: ActorCriticLearner
    settings: SafeRuleSettings

    def fit_model(self, forget: Batch) -> Losses:
        """The behaviour model, on D_k alone, and there on what is worth imitating.

        With noise on what it observes it learns to come back from beside the logged states, as in OSRL's COptiDICE
        [ours]: without, it is sure of one action there, whatever that leads to.
        """
        _, shown = self.draw_imitated(forget, self.keep.at)
        if noise := self.settings.imitation_noise:
            blurred = shown.observations + noise * self.learner.noise(*shown.observations.shape)
            shown = shown._replace(observations=blurred)
        self.learner.descend("vae", self.learner.model_loss(shown))
        return {}

    def actor_loss(self, keep: Batch, forget: Batch) -> Tensor:
        return self.learner.actor_loss(keep.observations)
