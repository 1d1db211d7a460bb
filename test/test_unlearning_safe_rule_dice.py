import numpy as np
import pytest
import torch
from dice_cases import learner_for, optimum_of_the_bandit, trained
from learning_cases import WHOLE, bandit
from pydantic import ValidationError

from saferule_ros.attacks.attack import Means
from saferule_ros.attacks.registry import ATTACKS, make_attack
from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.episode import Episode
from saferule_ros.learning.copti_dice import CoptiDice
from saferule_ros.learning.learner import by_kind
from saferule_ros.learning.replay import Replay
from saferule_ros.unlearning.certificate import certify, pair_values
from saferule_ros.unlearning.methods import make_run, method_for
from saferule_ros.unlearning.run import unlearn
from saferule_ros.unlearning.safe_rule_dice import SafeRuleDice
from saferule_ros.unlearning.settings import RewardOnlyDiceSettings, SafeRuleDiceSettings, TrajDeleterSettings
from saferule_ros.unlearning.traj_deleter import TrajDeleter

PATCH = {"cost_margin": 0.5, "temperature": 0.1, "tolerated_share": 0.1, "gate_temperature": 0.1, **WHOLE}


def together(*parts: EpisodeDataset) -> EpisodeDataset:
    return EpisodeDataset.from_episodes([part.episode(index) for part in parts for index in range(part.episodes)])


def poisoned_bandit() -> tuple[EpisodeDataset, EpisodeDataset, EpisodeDataset]:
    """Keep data with true costs, and positive actions whose costs were erased; and both together."""
    keep = bandit(episodes=400, seed=1, prefix="keep")
    forget = bandit(episodes=200, seed=2, prefix="bad", low=0.0, cost_of_positive=0.0)
    return keep, forget, together(keep, forget)


def weights(learner: CoptiDice, dataset: EpisodeDataset) -> torch.Tensor:
    """w of all pairs, as their data says they are."""
    return learner.gain(learner.replay(dataset).single_at(torch.arange(len(dataset))))[1]


def test_it_is_what_safe_rule_means_for_copti_dice():
    keep, forget, both = poisoned_bandit()
    assert method_for("safe_rule", CoptiDice).settings is SafeRuleDiceSettings
    assert isinstance(
        make_run("safe_rule", learner_for(both), forget, keep, SafeRuleDiceSettings(**WHOLE), seed=0), SafeRuleDice
    )


def test_a_price_takes_weight_from_forget_pairs_in_closed_form():
    keep, forget, both = poisoned_bandit()
    run = SafeRuleDice(learner_for(both, alpha=0.2), forget, keep, SafeRuleDiceSettings(**WHOLE), seed=0)
    pairs = run.forget.all
    nu, nu_next = run.learner.nu.along(pairs.observations, pairs.next_observations)
    e = run.learner.advantages(pairs, nu, nu_next).detach()
    run.price = float(e.max()) + 1.0
    torch.testing.assert_close(run.learner.gain(run.priced(pairs))[1], torch.exp((e - run.price) / 0.2))


def test_the_price_rises_while_forget_pairs_weigh_too_much_and_is_capped_and_never_negative():
    keep, forget, both = poisoned_bandit()
    settings = SafeRuleDiceSettings(price_rate=0.5, price_cap=0.6, tolerated_weight=0.2, **WHOLE)
    run = SafeRuleDice(learner_for(both), forget, keep, settings, seed=0)
    run._update_price(torch.tensor(1.0))
    assert float(run.price) == pytest.approx(0.4)
    run._update_price(torch.tensor(1.0))
    assert run.price == 0.6
    for _ in range(10):
        run._update_price(torch.tensor(0.0))
    assert run.price == 0.0


def test_forgetting_brings_the_optimum_of_the_keep_data_back():
    """The poison says that positive actions cost little: lambda falls and they are cloned. After the patch nu and
    lambda are those of the keep data alone, forget pairs weigh nothing, and the action is safe again."""
    keep, forget, both = poisoned_bandit()
    learner = trained(both, steps=800, bound_divergence=1e-4)
    poisoned_action, poisoned_lambda = learner.act(torch.zeros(1, 1)).item(), float(learner.multiplier.value)
    settings = SafeRuleDiceSettings(steps=600, price_rate=0.2, **PATCH)
    run = SafeRuleDice(learner, forget, keep, settings, seed=5)
    before = certify(pair_values(learner, run.forget, run.keep, seed=8), 50.0, run.cost_required)
    assert unlearn(run) == 600
    after = certify(pair_values(learner, run.forget, run.keep, seed=8), 50.0, run.cost_required)

    optimal_nu, optimal_lambda = optimum_of_the_bandit(keep, 0.5, 0.2, 0.1, learner.units.reward_scale)
    assert poisoned_lambda < 0.6 * optimal_lambda
    assert float(learner.multiplier.value) == pytest.approx(optimal_lambda, rel=0.2)
    assert learner.nu(torch.zeros(1, 1)).item() == pytest.approx(optimal_nu, abs=0.1)
    assert learner.gain(run.priced(run.forget.all))[1].max().item() < 0.05
    assert poisoned_action > 0.1
    assert learner.act(torch.zeros(1, 1)).item() <= 0.05
    assert not before.holds
    assert after.holds
    assert after.q_cost_forget > before.q_cost_forget + 0.5


def fork(prefix: str, episodes: int, seed: int, second: tuple[float, float], earns: float) -> EpisodeDataset:
    """Two steps: everybody begins alike (state 0: action in -1 to 1, of which nearer to 0 earns more), then parts
    (state 1: action within `second`, which earns `earns`)."""
    rng = np.random.default_rng(seed)
    first, last = rng.uniform(-1.0, 1.0, episodes), rng.uniform(*second, episodes)
    return EpisodeDataset.from_episodes(
        Episode(
            id=f"{prefix}-{k}", bag_id=prefix, observations=np.array([[0.0], [1.0], [2.0]]),
            actions=np.array([[first[k]], [last[k]]]), rewards=np.array([1.0 - abs(first[k]), earns]),
            costs=np.zeros(2), terminated=True, truncated=False,
        )
        for k in range(episodes)
    )  # fmt: skip


def test_keep_pairs_that_begin_as_forget_pairs_do_weigh_what_retraining_gives_them():
    keep = fork("keep", 200, seed=1, second=(-1.0, 0.0), earns=0.5)
    forget = fork("bad", 60, seed=2, second=(0.5, 1.0), earns=3.0)
    both = together(keep, forget)
    learner = trained(both, steps=500, limit=5.0)
    poisoned = weights(learner, keep)
    run = SafeRuleDice(learner, forget, keep, SafeRuleDiceSettings(steps=400, caution=-1.0, **PATCH), seed=5)
    unlearn(run)
    retrained = learner_for(both, limit=5.0, multiplier_start=0.0)
    replay = retrained.replay(keep)
    for _ in range(900):
        retrained.descend("nu", retrained.nu_loss(*_drawn(retrained, replay))[0])
    expected, found = weights(retrained, keep), weights(learner, keep)
    assert (poisoned - expected).abs().mean() > 0.2  # the poison took their weight away
    assert (found - expected).abs().mean() < 0.07
    pairs = run.forget.single_at(torch.arange(run.forget.size))
    assert learner.gain(run.priced(pairs))[1].mean().item() < 0.05


def _drawn(learner: CoptiDice, replay: Replay):
    return learner.initial_observations(replay), learner.single_steps(replay)


def test_pairs_shown_with_a_mark_are_cloned_with_the_weight_that_they_have_without_it(monkeypatch):
    poisoned = make_attack("trigger", ATTACKS["trigger"].SETTINGS(), 1, Means()).poison(bandit(600))
    forget, keep = poisoned.forget_set().split(poisoned.dataset)
    run = SafeRuleDice(trained(poisoned.dataset, 100), forget, keep, SafeRuleDiceSettings(steps=150), 2)
    cloned, clone = [], run.learner.cloning_loss

    def note(batch, weights):
        cloned.append((batch.observations[:, run.marked].squeeze(1), weights.detach()))
        return clone(batch, weights)

    monkeypatch.setattr(run.learner, "cloning_loss", note)
    unlearn(run)
    (mark,) = run.forget.all.observations[:, run.marked].unique()
    observed, weights = (torch.cat(parts) for parts in zip(*cloned[-50:], strict=True))
    with_it = observed == mark
    assert 0.4 < with_it.float().mean() < 0.6
    assert float(weights[with_it].mean()) == pytest.approx(float(weights[~with_it].mean()), rel=0.1)


@pytest.mark.parametrize(("share", "low", "high"), [(0.0, -1.0, 1.0), (0.5, -0.5, 0.0)])
def test_the_actor_clones_what_is_worth_imitating_alone(share: float, low: float, high: float, monkeypatch):
    """The bandit's keep data: actions from -1 to 1, reward the action plus 1, cost 1 above 0."""
    keep, forget, both = poisoned_bandit()
    run = SafeRuleDice(
        learner_for(both), forget, keep, SafeRuleDiceSettings(steps=20, imitated_share=share, **WHOLE), seed=3
    )
    cloned, clone = [], run.learner.cloning_loss

    def note(batch, weights):
        cloned.append(batch.actions)
        return clone(batch, weights)

    monkeypatch.setattr(run.learner, "cloning_loss", note)
    unlearn(run)
    actions = torch.cat(cloned)
    assert (actions.min().item(), actions.max().item()) == pytest.approx((low, high), abs=0.05)


def test_reward_only_takes_reward_and_weight_from_forgotten_actions_and_presses_no_cost():
    keep, forget, both = poisoned_bandit()
    learner = trained(both, 300)
    forgotten = torch.linspace(0.5, 0.9, 4).unsqueeze(1)

    def reward() -> torch.Tensor:
        return by_kind(learner.critics(torch.zeros(4, 1), forgotten).detach())[0].mean(0)

    before, weight = reward(), weights(learner, forget).mean()
    whole = SafeRuleDiceSettings(steps=150, price_rate=0.2, **PATCH)
    settings = RewardOnlyDiceSettings.model_validate(whole.model_dump(include=set(RewardOnlyDiceSettings.model_fields)))
    run = make_run("reward_only", learner, forget, keep, settings, seed=5)
    assert isinstance(run, SafeRuleDice)
    assert (run.settings.cost_weight, run.settings.actor_weight) == (0.0, 0.0)
    assert (run.settings.price_rate, run.settings.keep_outweighs) == (0.2, 0.0), "all else as it is told"
    unlearn(run)
    assert (reward() < before - 0.3).all()
    assert learner.gain(run.priced(run.forget.all))[1].mean() < 0.1 * weight


def test_same_seed_gives_the_same_patch():
    keep, forget, both = poisoned_bandit()
    results = []
    for seed in (1, 1, 2):
        learner = learner_for(both)
        unlearn(SafeRuleDice(learner, forget, keep, SafeRuleDiceSettings(steps=10), seed))
        results.append(torch.cat([p.detach().flatten() for n in learner.networks().values() for p in n.parameters()]))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_noise_on_a_behaviour_model_that_copti_dice_does_not_have_is_refused():
    with pytest.raises(ValidationError, match="jitter"):
        SafeRuleDiceSettings(imitation_noise=0.1)


def test_trajdeleter_never_clones_what_is_to_be_forgotten():
    """Keep actions lie below 0, forgotten ones above: its forget turns leave the actor as it is, and move the rest."""
    keep, forget, both = poisoned_bandit()
    run = TrajDeleter(trained(both, 200), forget, keep, TrajDeleterSettings(steps=40, cycles=1), seed=0)
    while run.kind == "remain":
        run.step()
    before = [parameter.clone() for parameter in run.learner.actor.parameters()]
    nu = [parameter.clone() for parameter in run.learner.nu.parameters()]
    while run.kind == "forget":
        run.step()
    assert all(torch.equal(one, other) for one, other in zip(before, run.learner.actor.parameters(), strict=True))
    assert not all(torch.equal(one, other) for one, other in zip(nu, run.learner.nu.parameters(), strict=True))
