import pytest
import torch
from torch import nn

from saferule_ros.learning.networks import (
    ConditionalVae,
    EnsembleCritic,
    EnsembleLinear,
    GaussianActor,
    PerturbationActor,
    soft_update,
)


def test_ensemble_layer_equals_separate_linear_layers():
    layer = EnsembleLinear(3, 5, 2)
    x = torch.randn(3, 7, 5)
    for member in range(3):
        separate = nn.Linear(5, 2)
        separate.weight.data = layer.weight[member].T.clone()
        separate.bias.data = layer.bias[member, 0].clone()
        torch.testing.assert_close(layer(x)[member], separate(x[member]))


def test_critics_of_an_ensemble_do_not_influence_each_other():
    critic = EnsembleCritic(4, 3, 2, hidden=8)
    observations, actions = torch.randn(6, 3), torch.randn(6, 2)
    critic(observations, actions)[1].sum().backward()
    for layer in (critic.hidden_1, critic.hidden_2, critic.value):
        touched = layer.weight.grad.abs().flatten(1).sum(1) > 0
        assert touched.tolist() == [False, True, False, False]


def test_last_critics_alone_are_those_of_the_whole_ensemble():
    critic = EnsembleCritic(4, 3, 2, hidden=8)
    observations, actions = torch.randn(6, 3), torch.randn(6, 2)
    parameters = list(critic.parameters())
    together = critic(observations, actions)[2:]
    alone = critic(observations, actions, first=2)
    torch.testing.assert_close(alone, together)
    slopes = torch.autograd.grad(alone.square().sum(), parameters)
    torch.testing.assert_close(slopes, torch.autograd.grad(together.square().sum(), parameters))


def test_perturbation_stays_within_reach_and_bounds():
    actor = PerturbationActor(3, 2, hidden=8, reach=0.1)
    for parameter in actor.parameters():
        parameter.data.mul_(20.0)  # saturates the tanh: the largest shift that it can make
    actions = torch.empty(100, 2).uniform_(-1.0, 1.0)
    moved = actor(torch.randn(100, 3), actions)
    assert (moved - actions).abs().max() <= 0.1 + 1e-6
    assert moved.abs().max() <= 1.0


def test_vae_divergence_is_zero_only_at_the_standard_normal():
    vae = ConditionalVae(3, 2, hidden=8)
    for head in (vae.mean, vae.log_std):
        head.weight.data.zero_()
        head.bias.data.zero_()
    observations, actions, noise = torch.randn(5, 3), torch.rand(5, 2), torch.randn(5, 4)
    reconstruction = (vae.decode(observations, noise) - actions).square().mean()
    torch.testing.assert_close(vae.loss(observations, actions, noise, 0.5), reconstruction)
    vae.mean.bias.data.fill_(1.0)  # KL(N(1, 1) || N(0, 1)) = 1/2 per dimension, weighted by 1/2
    shifted = (vae.decode(observations, noise + 1.0) - actions).square().mean()
    torch.testing.assert_close(vae.loss(observations, actions, noise, 0.5), shifted + 0.25)


def test_soft_update_is_a_convex_combination():
    target, online = nn.Linear(2, 2), nn.Linear(2, 2)
    expected = 0.9 * target.weight.detach() + 0.1 * online.weight.detach()
    soft_update(target, online, 0.1)
    torch.testing.assert_close(target.weight.detach(), expected)


def test_gaussian_actor_s_density_integrates_to_one_over_its_actions():
    actor = GaussianActor(3, 1, 8)
    edges = torch.linspace(-1.0, 1.0, 4001)
    middles = ((edges[1:] + edges[:-1]) / 2).unsqueeze(1)  # (4000, 1)
    density = actor.log_probability(torch.ones(1, 3).expand(4000, -1), middles).exp()
    assert float((density * edges.diff()).sum()) == pytest.approx(1.0, abs=1e-3)


def test_gaussian_actor_s_samples_have_the_density_it_tells():
    """Share of samples below zero, counted and integrated."""
    actor = GaussianActor(3, 1, 8)
    noise = torch.randn(200_000, 1, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        counted = (actor.sample(torch.ones(1, 3).expand(len(noise), -1), noise) < 0.0).float().mean()
        edges = torch.linspace(-1.0, 0.0, 4001)
        middles = ((edges[1:] + edges[:-1]) / 2).unsqueeze(1)
        density = actor.log_probability(torch.ones(1, 3).expand(4000, -1), middles).exp()
    assert float(counted) == pytest.approx(float((density * edges.diff()).sum()), abs=5e-3)
