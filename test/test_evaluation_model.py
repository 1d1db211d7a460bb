"""The learned model: its windows, its unrolling, its gradients, and what it learns of a system known by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from evaluation_cases import HORIZON, SMALL, line, towards, true_cost, units_of

from saferule_ros.evaluation.fitting import ModelCancelled, fit_model, untrained, window_losses
from saferule_ros.evaluation.model import DynamicsEnsemble
from saferule_ros.evaluation.rollout import roll_out
from saferule_ros.evaluation.windows import Windows


@pytest.fixture(scope="module")
def dataset():
    return line()


@pytest.fixture(scope="module")
def model(dataset) -> DynamicsEnsemble:
    return fit_model(dataset, units_of(dataset), SMALL, seed=0)


def constant_model(dataset, change: float, reward: float, logit: float) -> DynamicsEnsemble:
    """Moves by `change` standard scores in each step, whatever is done."""
    made = untrained(dataset, units_of(dataset), SMALL, seed=0)
    with torch.no_grad():
        made.out.weight.zero_()
        made.out.bias.zero_()
        made.out.bias[..., 0] = change / made.change[0]
        made.out.bias[..., -2], made.out.bias[..., -1] = reward, logit
    return made


def test_windows_are_stretches_of_single_episodes(dataset) -> None:
    units = units_of(dataset)
    window = Windows(dataset, units, members=2, seed=1).draw(batch=50, steps=7)
    raw = window.first[..., 0] * units.observation_std[0] + units.observation_mean[0]
    actions = units.raw_actions(window.actions)[..., 0]  # (E, B, W)
    following = window.following[..., 0] * units.observation_std[0] + units.observation_mean[0]
    expected = raw.unsqueeze(-1) + 0.2 * actions.cumsum(-1)
    torch.testing.assert_close(following, expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(window.costs, (following > 1.0).float(), rtol=0, atol=0)


def test_each_member_draws_from_a_bootstrap_sample_of_its_own(dataset) -> None:
    windows = Windows(dataset, units_of(dataset), members=2, seed=1)
    drawn = windows.draw(batch=4000, steps=HORIZON).first[..., 0]  # whole episodes: which ones shows in their starts
    of_first, of_second = (set(np.round(member.numpy(), 5)) for member in drawn)
    share = 1.0 - 1.0 / np.e  # of episodes in a bootstrap sample
    assert len(of_first) == pytest.approx(share * dataset.episodes, rel=0.15)
    assert of_first != of_second


def test_a_window_goes_on_from_the_models_own_predictions(dataset) -> None:
    made = constant_model(dataset, change=0.1, reward=0.3, logit=0.0)
    window = Windows(dataset, made.units, members=SMALL.members, seed=2).draw(batch=16, steps=3)
    steps = torch.arange(1, 4)
    imagined = window.first[..., :1] + 0.1 * steps  # (E, B, W)
    imagined = imagined.clamp(made.bounds[0, 0], made.bounds[1, 0])
    error = (imagined - window.following[..., 0]) / made.change[0]
    # The second observation never changes, and has no part in it but halving the mean.
    expected = torch.nn.functional.huber_loss(error, torch.zeros_like(error), reduction="none") / 2 / steps**0.5
    losses = window_losses(made, window)
    torch.testing.assert_close(losses["observations"], expected.mean())
    torch.testing.assert_close(losses["costs"], torch.tensor(np.log(2.0), dtype=torch.float32))


def test_gradients_of_an_unrolled_window_are_those_of_finite_differences(dataset) -> None:
    made = untrained(dataset, units_of(dataset), SMALL.model_copy(update={"hidden": 4}), seed=0).double()
    window = Windows(dataset, made.units, members=SMALL.members, seed=2).draw(batch=4, steps=4)
    window = type(window)(*(part.double() for part in window))
    weight = made.hidden_1.weight

    def loss() -> torch.Tensor:
        return torch.stack(list(window_losses(made, window).values())).sum()

    loss().backward()
    assert weight.grad is not None
    step = 1e-6
    for index in ((0, 0, 0), (1, 2, 3), (2, 1, 1)):
        with torch.no_grad():
            weight[index] += step
            above = loss()
            weight[index] -= 2 * step
            below = loss()
            weight[index] += step
        assert weight.grad[index].item() == pytest.approx(((above - below) / (2 * step)).item(), rel=1e-4, abs=1e-9)


def test_an_episode_in_a_constant_model_costs_and_earns_what_can_be_computed(dataset) -> None:
    made = constant_model(dataset, change=0.01, reward=0.5, logit=1.0)
    starts = torch.tensor([[0.0, 0.5], [0.3, 0.5]])
    found = roll_out(made, towards(1.0), starts, horizon=10)
    cost = 10 * float(torch.sigmoid(torch.tensor(1.0)))
    torch.testing.assert_close(found.costs, torch.full((SMALL.members, 2), cost))
    torch.testing.assert_close(found.returns, torch.full((SMALL.members, 2), 10 * 0.5 / made.units.reward_scale))
    assert float(found.spread.max()) == 0.0


def test_what_policies_cost_in_the_learned_model_is_what_they_cost(dataset, model) -> None:
    starts = dataset.initial_observations[:16]
    targets = (-0.5, 0.5, 1.5, 2.5)  # not at the edge of what costs, where a small error in the place decides
    found = [roll_out(model, towards(target), torch.from_numpy(starts.copy()), HORIZON) for target in targets]
    predicted = [float(imagined.costs.mean()) for imagined in found]
    true = [true_cost(target, starts[:, 0]) for target in targets]
    assert predicted == pytest.approx(true, abs=1.5)


def test_members_disagree_more_outside_the_data(dataset, model) -> None:
    inside = roll_out(model, towards(0.5), torch.tensor([[0.0, 0.5]]), HORIZON).spread
    outside = roll_out(model, towards(0.5), torch.tensor([[-6.0, 3.0]]), HORIZON).spread
    assert float(outside) > 3 * float(inside)


def test_the_same_seed_gives_the_same_model_and_another_seed_another(dataset) -> None:
    short = SMALL.model_copy(update={"single_steps": 5, "unroll_steps": 3})
    first, again, other = (fit_model(dataset, units_of(dataset), short, seed) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.out.weight, other.out.weight)


def test_learning_the_model_can_be_cancelled(dataset) -> None:
    asked = iter([False, False, True])
    with pytest.raises(ModelCancelled, match="after 2 of"):
        fit_model(dataset, units_of(dataset), SMALL, seed=0, cancelled=lambda: next(asked))


def test_progress_is_reported_to_the_end(dataset) -> None:
    short = SMALL.model_copy(update={"single_steps": 50, "unroll_steps": 10})
    seen = []
    fit_model(dataset, units_of(dataset), short, 0, seen.append)
    assert [at.step for at in seen] == [50, 60]
    assert set(seen[-1].losses) == {"observations", "rewards", "costs"}
