import pytest
import torch
from torch import nn

from saferule_ros.learning.networks import (
    PIECE,
    ConditionalVae,
    EnsembleCritic,
    EnsembleLinear,
    GaussianActor,
    PerturbationActor,
    StateFunction,
    is_large,
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


@pytest.mark.parametrize("first", [0, 2])
def test_many_pairs_have_the_values_and_gradients_of_a_few_at_a_time(first):
    """Many go through one critic after the other, in pieces; a few through all critics together."""
    critic = EnsembleCritic(4, 3, 2, hidden=8)
    observations, actions = torch.randn(2 * PIECE + 5, 3), torch.randn(2 * PIECE + 5, 2, requires_grad=True)
    few = zip(observations.split(PIECE - 1), actions.split(PIECE - 1), strict=True)
    assert is_large(observations)
    one_by_one = critic(observations, actions, first)
    together = torch.cat([critic(*pair, first) for pair in few], dim=1)
    assert one_by_one.shape == (4 - first, len(observations))
    torch.testing.assert_close(one_by_one, together)
    wanted = [actions, *critic.parameters()]
    slopes = torch.autograd.grad(one_by_one.square().mean(), wanted)
    torch.testing.assert_close(slopes, torch.autograd.grad(together.square().mean(), wanted))


def test_what_a_network_says_of_a_row_does_not_depend_on_how_many_rows_there_are():
    vae, gaussian = ConditionalVae(3, 2, hidden=8), GaussianActor(3, 2, hidden=8)
    perturbation, state = PerturbationActor(3, 2, hidden=8, reach=0.1), StateFunction(3, hidden=8)
    observations, actions, latents = (torch.randn(2 * PIECE + 5, size) for size in (3, 2, 4))
    cases = [
        lambda rows: vae.decode(observations[rows], latents[rows]),
        lambda rows: torch.cat(vae.encode(observations[rows], actions[rows]), dim=1),
        lambda rows: gaussian(observations[rows]),
        lambda rows: torch.cat(gaussian.parameters_at(observations[rows]), dim=1),
        lambda rows: perturbation(observations[rows], actions[rows]),
        lambda rows: state(observations[rows]),
    ]
    for found in cases:
        many = found(slice(None))
        for row in (0, PIECE - 1, PIECE, 2 * PIECE + 4):
            torch.testing.assert_close(many[row : row + 1], found(slice(row, row + 1)))


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
