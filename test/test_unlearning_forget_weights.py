"""Which forget pairs are pressed out of the critics: those at states where keep pairs do not outnumber them."""

import numpy as np
import pytest
import torch
from dataset_samples import make_episode
from learning_cases import learner_for, poisoned_bandit

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.learning.replay import Replay, Units
from saferule_ros.unlearning.forget_weights import BATCH, STEPS, forget_weights, log_density_ratio
from saferule_ros.unlearning.safe_rule import SafeRule
from saferule_ros.unlearning.settings import SafeRuleSettings


def replay(states: np.ndarray, bag: str) -> Replay:
    """One episode through these states (N, O), which are standard scores already."""
    sizes = states.shape[1]
    episode = make_episode(
        bag_id=bag, length=len(states) - 1, observations=states.astype(np.float32),
    )  # fmt: skip
    dataset = EpisodeDataset.from_episodes([episode])
    low = torch.full((dataset.action_size,), -10.0)
    return Replay(dataset, Units(torch.zeros(sizes), torch.ones(sizes), low, -low, 1.0), discount=0.9)


def test_the_density_ratio_of_two_gaussians_is_the_known_one() -> None:
    rng = np.random.default_rng(0)
    forget = replay(rng.normal([1.0, 0.0], 1.0, (6000, 2)), "bad")
    keep = replay(rng.normal([0.0, 0.0], 1.0, (6000, 2)), "good")
    states = forget.all.observations
    found, flops = log_density_ratio(states, keep.all.observations, states, seed=1)
    x = forget.all.observations[:, 0]
    expected = x - 0.5  # ln N(x; 1, 1) / N(x; 0, 1); the second value tells nothing
    bulk = (x - 0.5).abs() < 2.0
    assert (found - expected)[bulk].abs().mean() < 0.15
    layers = 2 * 64 + 64 * 64 + 64
    forward_and_backward = 2 * layers * 3 - 2 * 2 * 64  # but for the gradient of what is observed
    assert flops == STEPS * 2 * BATCH * forward_and_backward


def test_pairs_among_keep_states_weigh_nothing_and_those_outside_weigh_all() -> None:
    rng = np.random.default_rng(0)
    shared, outside = rng.normal(0.0, 1.0, (1000, 2)), rng.normal([8.0, 0.0], 0.5, (1000, 2))
    keep = replay(rng.normal(0.0, 1.0, (8000, 2)), "good")
    weights = forget_weights(replay(np.concatenate([shared, outside]), "bad"), keep, outweigh=1.0, seed=1).weights
    assert weights[:1000].mean() < 0.05, "eight keep pairs stand against each"
    assert weights[1000:].mean() > 0.9
    assert weights.min() >= 0.0 and weights.max() <= 1.0


def test_how_many_keep_pairs_outweigh_a_forget_pair_is_a_setting() -> None:
    rng = np.random.default_rng(0)
    forget, keep = replay(rng.normal(0, 1, (2000, 2)), "bad"), replay(rng.normal(0, 1, (2000, 2)), "good")
    means = [float(forget_weights(forget, keep, m, seed=1).weights.mean()) for m in (0.0, 0.1, 0.5, 1.0)]
    assert means[0] == 1.0
    assert means[1] == pytest.approx(0.9, abs=0.03) and means[2] == pytest.approx(0.5, abs=0.1)
    assert means[3] < 0.15


def test_a_pair_without_weight_is_not_pressed_and_does_not_count_as_violated() -> None:
    keep, forget, together = poisoned_bandit()
    run = SafeRule(learner_for(together), forget, keep, SafeRuleSettings(cost_margin=1.0), seed=3)
    run.kappa = 2.0
    values = torch.tensor([[4.0, 9.0], [6.0, 9.0], [1.0, 0.0], [2.5, 0.0]], requires_grad=True)  # (4, B): two pairs
    reference = torch.tensor(5.0)
    run._suppression(values, reference, torch.tensor([1.0, 0.0])).sum().backward()
    assert (values.grad[:, 0] != 0).all() and (values.grad[:, 1] == 0).all()
    assert run._violated_share(values.detach(), reference, torch.tensor([0.0, 1.0])) == 1.0
    assert run._violated_share(values.detach(), reference, torch.tensor([1.0, 0.0])) == 0.5, "safe, but not good"
    assert run._violated_share(values.detach(), reference, torch.zeros(2)) == 0.0, "nothing is to be forgotten"


def test_the_same_seed_gives_the_same_weights() -> None:
    rng = np.random.default_rng(0)
    forget, keep = replay(rng.normal(1, 1, (300, 2)), "bad"), replay(rng.normal(0, 1, (300, 2)), "good")
    one, again, other = (forget_weights(forget, keep, 1.0, seed).weights for seed in (1, 1, 2))
    assert torch.equal(one, again) and not torch.equal(one, other)
