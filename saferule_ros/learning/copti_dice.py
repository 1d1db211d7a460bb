"""COptiDICE: offline constrained learning by stationary distribution correction (Lee et al., ICLR 2022; OSRL).

Over the data's distribution d^D the policy's stationary distribution is d(s, a) = w(s, a) d^D(s, a). Wanted is the d
with the largest reward that stays near the data and within the cost limit:

    max_d  E_d[r] - alpha D_f(d || d^D)    so that  d is a stationary distribution of the task, and
                                                    E_d[c] <= (1 - gamma) kappa

with nu(s) the multipliers of the first condition and lambda that of the second. Then e(s, a) is how much better a
pair is than its state, w follows from it in closed form, and the policy is the behaviour, weighted by w:

    e = r - lambda c + gamma nu(s') - nu(s)
    w = max((f')^-1(e / alpha), 0)
    nu minimises  (1 - gamma) E[nu(s_0)] + E_dD[w e - alpha f(w)]
    pi maximises  E_dD[w log pi(a | s)]

The cost E_d[c] is not estimated by E_dD[w c], which is optimistic where data is scarce, but bounded from above over
all distributions within a divergence epsilon of the data's, with chi(s) and tau as multipliers; see `bound_loss`.

Where this differs from OSRL [ours]:

- the cost per step is compared with (1 - gamma) kappa; OSRL compares it with kappa, a discounted sum, which is too
  loose by 1 / (1 - gamma), and its lambda then sinks to zero whatever the policy costs;
- the density of the squashed Gaussian is the true one; OSRL takes the logged action for what it was before squashing;
- lambda is capped, does not wind up, and is part of the checkpoint;
- initial states are drawn as such; OSRL waits for those that happen to be in the batch;
- truncated episodes bootstrap, terminated ones do not, for reward and cost alike;
- the policy is not the mode of pi: of several actions that pi proposes, the mode among them, it takes what critics of
  reward and cost call best, and they are learned as BCQ-Lag's (guide, then select, as Diffusion-DICE does; Mao et al.,
  NeurIPS 2024). `serving_candidates: 1` is the published policy, whose critics judge the mode and do not lead it.

Why so (docs/results/clean_policies.md, docs/evidence/failures.md; limit 25): pi clones, and two things limit it. On
SafetyPointCircle1 an actor that imitates the 40 best safe episodes alone costs 93 to 229, and 11 to 24 at more than
twice the return where it does not see speed and acceleration, which give away what the driver did a step ago (causal
confusion, de Haan et al., NeurIPS 2019): which values do so, only the robot's builder knows. And w keeps off costly
steps and hardly off what leads to them: on SafetyHalfCheetahVelocity such an actor costs nothing, that of w 464 to 852
with three seeds. Critics know what an action leads to. Their lambda is a number of its own, as in BCQ-Lag:
the distribution's comes to what meets the limit under w, about one, and choosing by that costs 115.

One logged next state stands for the expectation over s' in e, as in the paper: exact only for deterministic tasks.
"""

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.learning.learner import CriticLearner, Values, by_kind
from saferule_ros.learning.multiplier import Multiplier
from saferule_ros.learning.networks import EnsembleCritic, GaussianActor, StateFunction
from saferule_ros.learning.proposals import ChoosingPolicy, pessimistic
from saferule_ros.learning.replay import Batch, Replay
from saferule_ros.learning.settings import ChoiceSettings, CoptiDiceSettings


def divergence(w: Tensor) -> Tensor:
    """f of the soft chi-square divergence: w ln w - w + 1 below 1, (w - 1)^2 / 2 from 1 on. Source: OptiDICE.

    Chi-square above, so that a large e is not taken to an exponential; Kullback-Leibler below, so that a gradient is
    left where w is almost zero.
    """
    return torch.where(w < 1.0, torch.xlogy(w, w) - w + 1.0, 0.5 * (w - 1.0).square())


def inverse_slope(y: Tensor) -> Tensor:
    """(f')^-1: exp(y) below 0, y + 1 from 0 on. Positive everywhere: the maximum with 0 in w is itself."""
    return torch.where(y < 0.0, y.clamp(max=0.0).exp(), y + 1.0)


class CostBound(nn.Module):
    """The multipliers of the upper bound of the cost: chi(s), and tau, the divergence's."""

    def __init__(self, observation_size: int, hidden: int) -> None:
        super().__init__()
        self.chi = StateFunction(observation_size, hidden)
        self.log_tau = nn.Parameter(torch.zeros(()))  # tau = 1

    @property
    def tau(self) -> Tensor:
        """tau > 0, scalar."""
        return self.log_tau.exp()


class DicePolicy(ChoosingPolicy):
    """Of K actions that the cloned policy proposes: the best; see ChoosingPolicy.

    Args:
        noise: (K, A), the draws: standard normal.
    """

    def __init__(
        self, actor: GaussianActor, critics: EnsembleCritic, noise: Tensor, multiplier: Tensor | float,
        settings: ChoiceSettings,
    ) -> None:  # fmt: skip
        super().__init__(critics, noise, multiplier, settings)
        self.actor = actor

    def propose(self, observations: Tensor, draws: Tensor) -> Tensor:
        return self.actor.sample(observations, draws)


class CoptiDice(CriticLearner):
    """All that COptiDICE learns, and one gradient step of it; see Learner."""

    NAME = "copti_dice"
    settings: CoptiDiceSettings

    def build(self, observation_size: int, action_size: int) -> None:
        s = self.settings
        self.nu = StateFunction(observation_size, s.hidden)
        self.bound = CostBound(observation_size, s.hidden)
        self.actor = GaussianActor(observation_size, action_size, s.hidden)
        self.critics = EnsembleCritic(2 * s.critics, observation_size, action_size, s.hidden)
        self.critics_target = copy.deepcopy(self.critics).requires_grad_(False)
        self.serving_noise = self.noise(s.serving_candidates, action_size)  # (K, A), fixed for good
        self.serving_noise[0] = 0.0  # the mode
        self.multiplier = Multiplier(s, self.device)
        # Of the choice: held, within the same cap.
        choice = s.model_copy(update={"multiplier_start": s.choice_multiplier})
        self.choice_multiplier = Multiplier(choice, self.device)

    def trained(self) -> dict[str, nn.Module]:
        return {"nu": self.nu, "bound": self.bound, "actor": self.actor, "critics": self.critics}

    def targets(self) -> dict[str, nn.Module]:
        return {"critics_target": self.critics_target}

    def update(self, batch: Batch, replay: Replay) -> Mapping[str, Tensor]:
        single = self.single_steps(replay)
        losses, weights = self.update_distribution(single, replay)
        actor_loss = self.cloning_loss(single, weights)
        self.descend("actor", actor_loss)
        return {**losses, "loss_actor": actor_loss.detach(), **self.update_critics(batch)}

    def replay(self, dataset: EpisodeDataset, return_steps: int | None = None) -> Replay:
        """As of every learner. The distribution is learned from single steps beside those."""
        n = return_steps or self.settings.return_steps
        return Replay(dataset, self.units, self.settings.discount, n, with_single=True)

    def single_steps(self, replay: Replay) -> Batch:
        """A batch of them, drawn uniformly with replacement."""
        return replay.single_at(replay.draw(self.settings.batch, self.generator))

    def update_distribution(self, batch: Batch, replay: Replay) -> tuple[dict[str, Tensor], Tensor]:
        """One step of nu, of the cost bound and of lambda. Returns what is worth watching, and w (B,).

        Args:
            batch: single steps.
        """
        initial = self.initial_observations(replay)
        nu_loss, weights = self.nu_loss(initial, batch)
        self.descend("nu", nu_loss)
        bound_loss, cost = self.bound_loss(initial, batch, weights)
        self.descend("bound", bound_loss)
        self.multiplier.update(self.excess_cost(cost))
        return {
            "loss_nu": nu_loss.detach(), "loss_bound": bound_loss.detach(),
            "weight": weights.mean(), "cost_bound": cost, "multiplier": self.multiplier.value,
        }, weights  # fmt: skip

    def update_critics(self, batch: Batch) -> dict[str, Tensor]:
        """One step of the critics, by which the policy chooses, and of their targets."""
        predicted = self.critics(batch.observations, batch.actions)
        critic_losses = self.critic_losses(batch, predicted, self.critic_targets(batch))
        self.descend("critics", critic_losses.sum())
        self.update_targets()
        return {"loss_reward": critic_losses[0].detach(), "loss_cost": critic_losses[1].detach()}

    @property
    def threshold(self) -> float:
        """What E_d[c] may be at most: (1 - gamma) kappa [cost per step].

        d sums to one over all time, kappa is a sum over time: hence the factor.
        """
        return (1.0 - self.settings.discount) * self.kappa

    def initial_observations(self, replay: Replay) -> Tensor:
        """States (S, O) that episodes began with, drawn uniformly with replacement."""
        return replay.sample_initial(self.settings.initial_states, self.generator)

    def advantages(self, batch: Batch, nu: Tensor, nu_next: Tensor) -> Tensor:
        """e = r - lambda c + gamma nu(s') - nu(s), (B,); equation 9 of the paper, one sample of s'."""
        return batch.rewards - self.multiplier.value * batch.costs + batch.discounts * nu_next - nu

    def weights(self, advantages: Tensor) -> Tensor:
        """w = max((f')^-1(e / alpha), 0), of the shape of e."""
        return inverse_slope(advantages / self.settings.alpha)

    def nu_loss(self, initial: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """(1 - gamma) E[nu(s_0)] + E_dD[w e - alpha f(w)], scalar, and w (B,) without gradient."""
        gain, w = self.gain(batch)
        return (1.0 - self.settings.discount) * self.nu(initial).mean() + gain, w

    def gain(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """E_dD[w e - alpha f(w)], scalar, and w (B,) without gradient.

        w maximises it, so that it has no slope in w (envelope theorem): only e is followed back to nu.
        """
        nu, nu_next = self.nu.along(batch.observations, batch.next_observations)
        e = self.advantages(batch, nu, nu_next)
        w = self.weights(e.detach())
        return (w * e - self.settings.alpha * divergence(w)).mean(), w

    def bound_loss(self, initial: Tensor, batch: Batch, weights: Tensor) -> tuple[Tensor, Tensor]:
        """The dual that chi and tau minimise, and the upper bound of E_d[c] (scalar, without gradient).

            tau ln E[exp(l / tau)] + tau epsilon,   l = (1 - gamma) chi(s_0) + w (c + gamma chi(s') - chi(s))

        The bound is the cost under the distribution, at most epsilon (Kullback-Leibler) from the data's, for which w
        costs most: E_dD[p w c] with p proportional to exp(l / tau). Initial states and transitions are independent,
        so the expectation is the product of one over each [ours; the paper pairs them].
        """
        chi_initial, chi, chi_next = self.bound.chi.along(initial, batch.observations, batch.next_observations)
        tau = self.bound.tau
        start = (1.0 - self.settings.discount) * chi_initial / tau  # (S,)
        flow = weights * (batch.costs + batch.discounts * chi_next - chi) / tau  # (B,)
        loss = tau * (log_mean_exp(start) + log_mean_exp(flow) + self.settings.bound_divergence)
        costliest = torch.softmax(flow.detach(), dim=0)  # p / B
        return loss, (costliest * weights * batch.costs).sum()

    def excess_cost(self, cost: Tensor) -> Tensor:
        """A cost per step (scalar) as a cost value, above kappa: what the other learners' lambda is moved by as well.

        In double precision.
        """
        return (cost.double() - self.threshold) / (1.0 - self.settings.discount)

    def cloning_loss(self, batch: Batch, weights: Tensor) -> Tensor:
        """-E_dD[w log pi(a | s)], scalar, with w of mean 1 so that the step size does not hang on its scale [ours].

        Observations are jittered, as in OSRL: a policy that is cloned from few trajectories learns to come back.
        Full commands are taken back to `clone_edge` [ours]: before squashing they lie at infinity, and few of them
        would outweigh all others in the mean.
        """
        jittered = batch.observations + self.settings.jitter * self.noise(*batch.observations.shape)
        actions = batch.actions.clamp(-self.settings.clone_edge, self.settings.clone_edge)
        # Where every weight of a batch is too small to be told from 0, nothing is cloned until nu has come after.
        mean = weights.mean().clamp(min=torch.finfo(weights.dtype).tiny)
        return -(weights / mean * self.actor.log_probability(jittered, actions)).mean()

    @torch.no_grad()
    def critic_targets(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Reward of the best next action, cost of the costliest that may be chosen: see ChoosingPolicy.target.

        Where the policy is the mode, both are of that, by the mean of the critics: nothing seeks out their errors then.
        The larger of twin costs, taken at every step, made 0.3 per step of 0.05 [measured on SafetyPointCircle1].
        """
        if self.settings.serving_candidates == 1:
            following = self.critics_target(batch.next_observations, self.actor(batch.next_observations))  # (2N, B)
            reward, cost = (values.mean(0) for values in by_kind(following))
        else:
            policy = self._policy(self.critics_target, self.choice_multiplier.value)
            draws = self.noise(len(batch.rewards) * self.settings.target_candidates, self.serving_noise.shape[1])
            reward, cost = policy.target(policy.candidates(batch.next_observations, draws))
        return batch.rewards + batch.discounts * reward, batch.costs + batch.discounts * cost

    def response(self, observations: Tensor, actions: Tensor) -> Tensor:
        return self.actor(observations)

    def values(self, predicted: Tensor) -> Values:
        return pessimistic(predicted, self.settings)

    def policy(self) -> nn.Module:
        if self.settings.serving_candidates == 1:
            return self.actor
        return self._policy(self.critics, float(self.choice_multiplier.value))

    def hold_multiplier(self, value: float) -> None:
        self.multiplier.hold(value)

    def restart_multiplier(self, above: float) -> None:
        """Sets the lambda of the choice; the distribution's begins anew, and is controlled on from there."""
        self.multiplier.restart(0.0)
        self.choice_multiplier.restart(above)

    def constants(self) -> dict[str, Tensor]:
        return {"serving_noise": self.serving_noise}

    def restore_constants(self, tensors: Mapping[str, Tensor]) -> None:
        if tensors:  # checkpoints of before the choice have none
            self.serving_noise = tensors["serving_noise"].to(self.device)

    def state(self) -> dict[str, Any]:
        return {"multiplier": self.multiplier.state(), "choice_multiplier": float(self.choice_multiplier.value)}

    def restore_state(self, state: Mapping[str, Any]) -> None:
        self.multiplier.restore(state["multiplier"])
        self.choice_multiplier.hold(state.get("choice_multiplier", self.settings.choice_multiplier))

    def _policy(self, critics: EnsembleCritic, multiplier: Tensor | float) -> DicePolicy:
        return DicePolicy(self.actor, critics, self.serving_noise, multiplier, self.settings)


def log_mean_exp(x: Tensor) -> Tensor:
    """ln of the mean of exp(x), of a vector."""
    return torch.logsumexp(x, dim=0) - math.log(len(x))
