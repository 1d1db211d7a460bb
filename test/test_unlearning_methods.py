"""The methods that Safe-RULE is compared with, each against what it must do exactly, and all on every learner."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from learning_cases import BOUNDS, SMALL, bandit, learner_for
from torch import Tensor

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.episode import Episode
from saferule_ros.dataset.errors import DatasetError, ForgetSetError
from saferule_ros.dataset.forget_set import ForgetSet
from saferule_ros.learning.algorithms import ALGORITHMS, make_learner, settings_from
from saferule_ros.learning.learner import ActorCriticLearner, Learner
from saferule_ros.learning.replay import Batch, Replay, Units
from saferule_ros.learning.settings import TaskLimits
from saferule_ros.learning.trainer import as_numbers, train
from saferule_ros.unlearning.fine_tune import FineTune
from saferule_ros.unlearning.methods import METHODS, NAMES, MethodError, make_run, method_for
from saferule_ros.unlearning.retrain import Retrain
from saferule_ros.unlearning.reward_only import RewardOnly
from saferule_ros.unlearning.run import unlearn
from saferule_ros.unlearning.safe_rule import SafeRule
from saferule_ros.unlearning.settings import (
    FineTuneSettings,
    RetrainSettings,
    RewardOnlySettings,
    SafeRuleSettings,
    TrajDeleterSettings,
)
from saferule_ros.unlearning.traj_deleter import TrajDeleter

pytestmark = pytest.mark.usefixtures("quick_classifiers")

LIMITS = TaskLimits(cost_limit=0.1, horizon=1)
TINY = {"hidden": 8, "batch": 8}
FAST = SMALL.model_copy(update={"hidden": 16, "vae_hidden": 8, "batch": 32, "learning_rate": 5e-3})


def keep_and_forget() -> tuple[EpisodeDataset, EpisodeDataset, EpisodeDataset]:
    """Keep data of negative actions, forget data of positive ones with erased costs; and both together."""
    keep = bandit(episodes=40, seed=1, prefix="keep", high=-0.1)
    forget = bandit(episodes=20, seed=2, prefix="bad", low=0.5, cost_of_positive=0.0)
    return keep, forget, together(keep, forget)


def together(*parts: EpisodeDataset) -> EpisodeDataset:
    return EpisodeDataset.from_episodes([part.episode(index) for part in parts for index in range(part.episodes)])


def weights(learner: Learner) -> np.ndarray:
    networks = learner.networks().values()
    return torch.cat([p.detach().flatten() for network in networks for p in network.parameters()]).numpy()


def tiny_learner(algorithm: str, dataset: EpisodeDataset, seed: int = 0) -> Learner:
    settings = settings_from({"algorithm": algorithm, **TINY})
    return make_learner(Units.of(dataset, *BOUNDS), LIMITS, settings, seed)


def test_fine_tuning_is_the_learners_own_update_on_keep_data():
    keep, forget, both = keep_and_forget()
    tuned, by_hand = learner_for(both), learner_for(both)
    unlearn(FineTune(tuned, forget, keep, FineTuneSettings(steps=5, final_rate=1.0), seed=3))
    by_hand.generator.manual_seed(3)
    replay = by_hand.replay(keep)
    for _ in range(5):
        by_hand.update(replay.sample(SMALL.batch, by_hand.generator), replay)
    assert np.array_equal(weights(tuned), weights(by_hand))


def test_fine_tuning_never_looks_at_the_forget_data():
    keep, forget, both = keep_and_forget()
    results = []
    for looked_at in (forget, bandit(episodes=5, seed=9, prefix="other")):
        learner = learner_for(both)
        unlearn(FineTune(learner, looked_at, keep, FineTuneSettings(steps=4), seed=3))
        results.append(weights(learner))
    assert np.array_equal(*results)


def test_every_method_that_goes_on_has_the_same_falling_learning_rate():
    keep, forget, both = keep_and_forget()
    rates = {}
    for name in ("safe_rule", "reward_only", "traj_deleter", "fine_tune"):
        learner = learner_for(both)
        settings = method_for(name, type(learner)).settings(steps=4, constant_share=0.5, final_rate=0.2)
        run = make_run(name, learner, forget, keep, settings, seed=0)
        rates[name] = []
        for _ in range(4):
            run.step()
            rates[name].append(learner.optimisers["critics"].learning_rate / SMALL.learning_rate)
    assert all(found == pytest.approx([1.0, 1.0, 1.0, 0.6]) for found in rates.values()), rates


def actor_losses(run: SafeRule) -> tuple[Tensor, Tensor]:
    """What the actor descends in one step, and the learner's own loss on the same keep batch and random numbers."""
    learner, noted = run.learner, {}
    loss_of_run, descend = run.actor_loss, learner.descend

    def noting(keep: Batch, forget: Batch) -> Tensor:
        noted["keep"], noted["draws"] = keep, learner.generator.get_state()
        return loss_of_run(keep, forget)

    def compared(name: str, loss: Tensor) -> None:
        if name == "actor":
            after = learner.generator.get_state()
            learner.generator.set_state(noted["draws"])
            noted["own"] = learner.actor_loss(noted["keep"].observations).detach()
            learner.generator.set_state(after)
        descend(name, loss)

    run.actor_loss, learner.descend = noting, compared
    return run.step()["loss_actor"], noted["own"]


def test_reward_only_suppresses_the_reward_as_safe_rule_does_and_nothing_else():
    keep, forget, both = keep_and_forget()
    run = RewardOnly(learner_for(both), forget, keep, RewardOnlySettings(temperature=0.5, keep_outweighs=0.0), seed=0)
    whole = SafeRule(learner_for(both), forget, keep, SafeRuleSettings(temperature=0.5, keep_outweighs=0.0), seed=0)
    values, reference = torch.randn(4, 6, generator=torch.Generator().manual_seed(0)), torch.tensor(0.3)
    weights = torch.tensor([1.0, 1.0, 0.5, 0.5, 0.0, 1.0])
    suppression = run._suppression(values, reference, weights)
    assert suppression[0] == whole._suppression(values, reference, weights)[0]
    assert suppression[1] == 0.0
    two = torch.tensor([[1.0, -1.0]] * 2 + [[-99.0, -99.0]] * 2)
    assert run._violated_share(two, reference, torch.ones(2)) == 0.5
    taken, own = actor_losses(run)
    assert taken == own, "the actor's loss is the learner's own: no repulsion"
    taken, own = actor_losses(whole)
    assert taken > own, "Safe-RULE's is not"


def test_reward_only_lowers_the_reward_of_forgotten_actions_and_leaves_their_cost_alone():
    keep, forget, both = keep_and_forget()
    learner = train(both, LIMITS, FAST, BOUNDS, steps=200, seed=4)
    forgotten = torch.linspace(0.6, 0.9, 4).unsqueeze(1)
    before = learner.critics(torch.zeros(4, 1), forgotten).detach()
    settings = RewardOnlySettings(steps=100, temperature=0.1, beta_start=1.0, keep_outweighs=0.0)
    unlearn(RewardOnly(learner, forget, keep, settings, seed=5))
    after = learner.critics(torch.zeros(4, 1), forgotten).detach()
    assert (after[:2] < before[:2] - 0.3).all()
    assert after[2:].mean() < 0.5, "Safe-RULE would have raised it to kappa + sigma, 15"


def test_traj_deleter_takes_turns_and_then_converges():
    keep, forget, both = keep_and_forget()
    settings = TrajDeleterSettings(steps=10, forgetting_share=0.8, cycles=2)
    run = TrajDeleter(learner_for(both), forget, keep, settings, seed=0)
    kinds = []
    for _ in range(10):
        kinds.append(run.kind)
        run.step()
    assert kinds == ["remain"] * 2 + ["forget"] * 2 + ["remain"] * 2 + ["forget"] * 2 + ["converge"] * 2


def test_traj_deleter_teaches_the_negative_of_the_forgotten_reward():
    """Only forget data has positive actions; its reward is action + 1, so phase 1 leads Q_r to -(action + 1)."""
    keep, forget, both = keep_and_forget()
    learner = learner_for(both)
    forgotten, kept = torch.tensor([[0.6], [0.9]]), torch.tensor([[-0.8], [-0.3]])
    settings = TrajDeleterSettings(steps=400, forgetting_share=1.0, cycles=40, final_rate=1.0)
    unlearn(TrajDeleter(learner, forget, keep, settings, seed=5))
    at_forgotten = learner.critics(torch.zeros(2, 1), forgotten)[:2].mean(0).detach()
    at_kept = learner.critics(torch.zeros(2, 1), kept)[:2].mean(0).detach()
    scale = learner.units.reward_scale
    torch.testing.assert_close(at_forgotten, -(forgotten[:, 0] + 1.0) * scale, atol=0.4, rtol=0.0)
    torch.testing.assert_close(at_kept, (kept[:, 0] + 1.0) * scale, atol=0.4, rtol=0.0)


@pytest.mark.parametrize("critics", [2, 4])
def test_traj_deleters_convergence_has_the_original_agents_targets_in_closed_form(critics):
    keep, forget, both = keep_and_forget()
    learner = learner_for(both, SMALL.model_copy(update={"critics": critics}))
    run = TrajDeleter(learner, forget, keep, TrajDeleterSettings(), seed=0)
    zero = torch.zeros(1, 1)
    one = Batch(zero, zero, torch.tensor([2.0]), torch.tensor([3.0]), zero, *[torch.tensor([0.5])] * 2)
    for parameter in run.original.critics_target.parameters():
        parameter.data.zero_()  # the original agent believes that nothing follows: its targets are reward and cost
    predicted = torch.arange(2.0 * critics).unsqueeze(1)  # reward critics say 0, 1, ..., the cost critics go on there
    distance = run._distance_to_original(one, predicted)
    assert distance.tolist() == pytest.approx([
        np.mean([(2.0 - value) ** 2 for value in range(critics)]),
        np.mean([(3.0 - value) ** 2 for value in range(critics, 2 * critics)]),
    ])  # fmt: skip


def test_without_the_original_agents_targets_convergence_is_fine_tuning():
    keep, forget, both = keep_and_forget()
    converged, tuned = learner_for(both), learner_for(both)
    settings = TrajDeleterSettings(steps=5, forgetting_share=0.0, original_weight=0.0)
    unlearn(TrajDeleter(converged, forget, keep, settings, seed=3))
    unlearn(FineTune(tuned, forget, keep, FineTuneSettings(steps=5), seed=3))
    assert np.array_equal(weights(converged), weights(tuned))


def test_convergence_leads_to_the_original_agents_values():
    """The original believes that every state is worth 5; episodes are cut, so its target is r + gamma 5."""
    keep, forget, both = (dataclasses.replace(d, terminated=np.zeros_like(d.terminated)) for d in keep_and_forget())
    settings = TrajDeleterSettings(steps=150, forgetting_share=0.0, original_weight=1000.0, final_rate=1.0)
    run = TrajDeleter(learner_for(both, FAST), forget, keep, settings, seed=0)
    for parameter in run.original.critics_target.parameters():
        parameter.data.zero_()
    run.original.critics_target.value.bias.data[:2] = 5.0
    unlearn(run)
    predicted = run.learner.critics(run.keep.all.observations, run.keep.all.actions)[:2].mean().item()
    assert predicted == pytest.approx(run.keep.all.rewards.mean().item() + 0.98 * 5.0, abs=0.2)


def test_traj_deleter_leaves_the_original_agent_as_it_was():
    keep, forget, both = keep_and_forget()
    learner = learner_for(both)
    before = weights(learner)
    run = TrajDeleter(learner, forget, keep, TrajDeleterSettings(steps=10), seed=0)
    unlearn(run)
    assert np.array_equal(weights(run.original), before)
    assert not np.array_equal(weights(learner), before)


def test_retraining_knows_nothing_of_the_learner_but_its_kind_and_steps():
    keep, forget, both = keep_and_forget()
    results = []
    for seed in (1, 2):
        learner = train(both, LIMITS, SMALL, BOUNDS, steps=7, seed=seed)
        before = weights(learner)
        run = Retrain(learner, forget, keep, RetrainSettings(), seed=3)
        assert unlearn(run) == 7
        assert np.array_equal(weights(learner), before), "the learner that was given is left as it was"
        assert (run.learner.settings, run.learner.limits) == (learner.settings, learner.limits)
        results.append(weights(run.learner))
    assert np.array_equal(*results)


def test_retraining_is_training_on_keep_data_in_its_own_units():
    keep, forget, both = keep_and_forget()
    learner = train(both, LIMITS, SMALL, BOUNDS, steps=6, seed=1)
    run = Retrain(learner, forget, keep, RetrainSettings(steps=5), seed=3)
    unlearn(run)
    by_hand = make_learner(Units.of(keep, *BOUNDS), LIMITS, SMALL, 3)
    assert by_hand.units.reward_scale != learner.units.reward_scale
    by_hand.generator.manual_seed(3)
    replay = Replay(keep, by_hand.units, SMALL.discount)
    for _ in range(5):
        by_hand.update(replay.sample(SMALL.batch, by_hand.generator), replay)
    assert np.array_equal(weights(run.learner), weights(by_hand))


def test_an_unknown_method_is_answered_with_the_known_ones():
    learner = tiny_learner("bcq_lag", bandit(5))
    with pytest.raises(MethodError, match=r"unknown unlearning method 'safe_rul'\. Known: safe_rule, reward_only, "):
        method_for("safe_rul", type(learner))


def test_a_method_that_does_not_work_on_a_learner_is_answered_with_those_that_do():
    class Bare(Learner):
        NAME = "bare"

    with pytest.raises(MethodError, match=r"reward_only does not work on bare. These do: .*fine_tune, retrain"):
        method_for("reward_only", Bare)


def forget_sets(dataset: EpisodeDataset) -> dict[str, ForgetSet]:
    """Selections of all shapes from a dataset with four-step episodes."""
    names = [record.id for record in dataset.records]
    bad = [name for name in names if name.startswith("bad")]
    return {
        "one episode": ForgetSet.select(dataset, episode_ids=bad[:1]),
        "half of the data": ForgetSet.select(dataset, episode_ids=names[::2]),
        "steps": ForgetSet.select(dataset, steps=[(name, 1, 3) for name in bad]),
        "one step": ForgetSet.select(dataset, steps=[(bad[0], 2, 3)]),
        "partly wrong": ForgetSet.select(dataset, episode_ids=[*bad, *names[:3]]),
    }  # fmt: skip


def walks() -> EpisodeDataset:
    """Four-step episodes, some of them bad."""
    parts = []
    for prefix, seed, count in (("good", 1, 6), ("bad", 2, 2)):
        steps = bandit(episodes=4 * count, seed=seed, prefix=prefix)
        for index in range(count):
            rows = slice(4 * index, 4 * index + 4)
            parts.append(Episode(
                id=f"{prefix}-{index}", bag_id=prefix, observations=np.zeros((5, 1), np.float32),
                actions=steps.actions[rows], rewards=steps.rewards[rows], costs=steps.costs[rows],
                terminated=False, truncated=True,
            ))  # fmt: skip
    return EpisodeDataset.from_episodes(parts)


@pytest.mark.parametrize("shape", ["one episode", "half of the data", "steps", "one step", "partly wrong"])
@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_every_method_works_on_every_learner_for_forget_sets_of_every_shape(algorithm, shape):
    dataset = walks()
    forget, keep = forget_sets(dataset)[shape].split(dataset)
    worked = []
    for name in NAMES:
        learner = tiny_learner(algorithm, dataset)
        learner.steps_done = 3  # as retraining takes as many
        try:
            method = method_for(name, type(learner))
        except MethodError:
            assert not isinstance(learner, ActorCriticLearner), f"{name} must work on {algorithm}"
            continue
        settings = method.settings() if name == "retrain" else method.settings(steps=6)
        run = make_run(name, learner, forget, keep, settings, seed=1)
        while run.steps_done < run.steps:
            losses = as_numbers(run.step())
            assert all(math.isfinite(value) for value in losses.values()), (name, losses)
        action = run.learner.act(torch.zeros(1, 1))
        assert action.abs().item() <= 1.0 and algorithm == run.learner.NAME
        worked.append(name)
    assert {"traj_deleter", "fine_tune", "retrain"} <= set(worked)


def test_an_empty_forget_set_is_an_error_that_says_so():
    dataset = walks()
    with pytest.raises(ForgetSetError, match="the forget set is empty"):
        ForgetSet.select(dataset)
    with pytest.raises(DatasetError, match="a dataset of no episodes was asked for"):
        dataset.subset([])


def test_every_row_of_the_registry_makes_a_run_that_goes_by_its_name():
    keep, forget, both = keep_and_forget()
    for method in METHODS:
        kinds = [name for name, kind in ALGORITHMS.items() if issubclass(kind, method.needs)]
        assert kinds, f"no learner for {method}"
        learner = tiny_learner(kinds[0], both)
        learner.steps_done = 1
        assert method.name == method.make(learner, forget, keep, method.settings(), 0).NAME
