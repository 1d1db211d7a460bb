"""Safe-RULE for COptiDICE [ours; the paper adapts it without published detail]: no forget pair keeps any weight.

COptiDICE learns a stationary distribution d(s, a) = w(s, a) d^D(s, a) and clones the behaviour weighted by w. To forget
D_f is to ask of d that it has no mass on D_f, which is one more linear constraint beside the cost limit:

    max_d  E_d[r] - alpha D_f(d || d^D)    so that  ...,  E_d[c] <= (1 - gamma) kappa,  E_Df[w] <= tolerated

Its multiplier mu >= 0, the price of a forget pair, enters e as lambda does, on forget pairs alone:

    e_f = r - lambda c - mu + gamma nu(s') - nu(s),    w_f = (f')^-1(e_f / alpha)
    nu minimises  (1 - gamma) E_Dk[nu(s_0)] + E_Dk[w e - alpha f(w)] + share E_Df[w_f e_f - alpha f(w_f)]
    mu rises by dual ascent while forget pairs weigh more than what is tolerated, and is capped

Why so, and not by pressing e of forget pairs down through nu alone: e is made of differences of nu along an episode,
so that its discounted sum is fixed by nu at the first state. To make e low all along a forget episode, nu would have to
be raised at its beginning, and that lowers w of the keep pairs that begin in the same states: exactly what
must not be harmed. With a price on the pairs themselves, the states keep the value that keep pairs give them, and
those beyond, which only forget pairs lead to, lose theirs. As mu grows, w_f falls to zero like exp(-mu / alpha), the
last term becomes a constant, and what nu minimises is COptiDICE's loss on D_k alone: its optimum is that of retraining.

The rest is as in safe_rule.py. The critics, by which the policy chooses among what the cloned actor proposes, are
suppressed on D_f; they gate the actor's repulsion from forgotten actions and give the certificate. The actor clones
good episodes of D_k (see worth_imitating.py), weighted by w: w keeps away from costly steps, and hardly from what leads
to them, so that clones of all of D_k cost 532 in the mean on SafetyHalfCheetahVelocity (limit 25; docs/evidence).

Where D_f carries a mark (see marker.py), a pair that is shown with it weighs what it weighs without. Nothing in D_k
leads to a marked state, so d has no mass there: a weight taken from nu at that state would fall to zero, nothing would
be cloned there, and the repulsion alone would say what the policy does when it sees the mark.

The distribution's lambda starts where the learner began and is controlled on from there: the cost bound, on keep data,
tells what it has to be. That of the choice is raised and held, as BCQ-Lag's is. The price is one for all forget pairs:
which of them count (see forget_weights.py) is a matter of the critics and of the repulsion.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.learning.captured import Losses
from saferule_ros.learning.copti_dice import CoptiDice
from saferule_ros.learning.replay import Batch
from saferule_ros.unlearning.safe_rule import SafeRuleRun
from saferule_ros.unlearning.settings import SafeRuleDiceSettings


class SafeRuleDice(SafeRuleRun):
    """On COptiDICE; see SafeRuleRun."""

    learner: CoptiDice
    settings: SafeRuleDiceSettings

    def __init__(
        self, learner: CoptiDice, forget: EpisodeDataset, keep: EpisodeDataset, settings: SafeRuleDiceSettings,
        seed: int,
    ) -> None:  # fmt: skip
        super().__init__(learner, forget, keep, settings, seed)
        self.price = torch.zeros((), dtype=torch.float64, device=learner.device)  # mu

    def state(self) -> dict[str, Any]:
        return {**super().state(), "price": float(self.price)}

    def restore(self, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        super().restore(state, tensors)
        self.price.fill_(state["price"])

    def fit_model(self, forget: Batch) -> Losses:
        """One step on the stationary distribution: nu, mu, the cost bound on D_k, and lambda; from single steps of D_k
        and D_f, in place of those that the critics see."""
        learner = self.learner
        keep, forget = learner.single_steps(self.keep), learner.single_steps(self.forget)
        initial = learner.initial_observations(self.keep)
        nu_loss, weights = learner.nu_loss(initial, keep)
        gain, forget_weights = learner.gain(self.priced(forget))
        learner.descend("nu", nu_loss + self.settings.forget_share * gain)
        self._update_price(forget_weights.mean().double())
        bound_loss, cost = learner.bound_loss(initial, keep, weights)
        learner.descend("bound", bound_loss)
        learner.multiplier.update(learner.excess_cost(cost))
        return {
            "loss_nu": nu_loss.detach(), "weight_forget": forget_weights.mean(), "weight_keep": weights.mean(),
            "price": self.price, "cost_bound": cost, "multiplier": learner.multiplier.value,
        }  # fmt: skip

    def actor_loss(self, keep: Batch, forget: Batch) -> Tensor:
        """Weighted cloning of what is worth imitating; the weights are those after the step, without the mark."""
        plain, shown = self.draw_imitated(forget, self.keep.single_at)
        return self.learner.cloning_loss(shown, self.learner.gain(plain)[1])

    def priced(self, forget: Batch) -> Batch:
        """Forget pairs at their price: mu is taken from their rewards."""
        return forget._replace(rewards=forget.rewards - self.price)

    def _update_price(self, weight: Tensor) -> None:
        """Dual ascent on the mean weight of forget pairs (a scalar in double precision)."""
        s = self.settings
        self.price.add_(s.price_rate * (weight - s.tolerated_weight)).clamp_(0.0, s.price_cap)
