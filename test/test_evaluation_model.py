"""The learned model: its windows, its unrolling, its gradients, and what it learns of a system known by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from evaluation_cases import HORIZON, SMALL, line, towards, true_cost, units_of

from saferule_ros.dataset.pieces import split_steps
from saferule_ros.evaluation.fitting import ModelCancelled, fit_model, untrained, window_losses
from saferule_ros.evaluation.model import DynamicsEnsemble
from saferule_ros.evaluation.rollout import roll_out
from saferule_ros.evaluation.windows import Windows

EDGE = 2.0


@pytest.fixture(scope="module")
def dataset():
    return line()


@pytest.fixture(scope="module")
def model(dataset) -> DynamicsEnsemble:
    return fit_model(dataset, units_of(dataset), SMALL, seed=0)


@pytest.fixture(scope="module")
def falling():
    """Data of a world with an edge: above x = 1 it costs, beyond 2 the episode is over."""
    made = line(edge=EDGE)
    assert 5 < sum(record.terminated for record in made.records) < 70
    return made


def constant_model(
    dataset, change: float, reward: float, logit: float, end_logit: float | None = None
) -> DynamicsEnsemble:
    """Moves by `change` standard scores in each step, whatever is done."""
    made = untrained(dataset, units_of(dataset), SMALL, seed=0)
    with torch.no_grad():
        if made.end is not None:
            made.end.weight.zero_()
            made.end.bias.fill_(end_logit)
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


@pytest.mark.parametrize("edge", [np.inf, EDGE])
def test_gradients_of_an_unrolled_window_are_those_of_finite_differences(edge: float) -> None:
    dataset = line(edge=edge)
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


def test_windows_show_the_end_of_an_episode_that_terminated_as_often_as_any_other_step(falling) -> None:
    fell = next(k for k, record in enumerate(falling.records) if record.terminated and record.length >= 7)
    one = falling.subset([fell])
    length = len(one)
    window = Windows(one, units_of(falling), members=1, seed=3).draw(batch=7000, steps=5)
    ended, present = window.ended[0], window.present[0]  # (B, W)
    assert ended[:, 0].mean().item() == pytest.approx(1 / length, rel=0.15), "of single steps"
    for k in range(1, 5):  # a k-th step is there for all first steps but the last k, and one of these is the end
        assert present[:, k].mean().item() == pytest.approx((length - k) / length, rel=0.05)
        assert (ended[:, k] * present[:, k]).mean().item() == pytest.approx(1 / length, rel=0.15)
    assert (window.ended * window.weights).sum() / window.weights.sum() == pytest.approx(1 / length, rel=0.1)


def test_short_pieces_do_not_show_ends_more_often_than_there_are(falling) -> None:
    kept = split_steps(falling, np.arange(len(falling)) % 9 < 1)[1]  # pieces of eight steps at most, some with an end
    assert kept.terminated.any() and max(record.length for record in kept.records) == 8
    windows = Windows(kept, units_of(falling), members=1, seed=3)
    windows._samples = torch.arange(kept.episodes)[None]  # all of it, where a bootstrap sample has rates of its own
    for steps in (1, 4, 8):
        window = windows.draw(batch=20000, steps=steps)
        shown = (window.ended * window.weights).sum() / window.weights.sum()
        assert shown.item() == pytest.approx(kept.terminated.mean(), rel=0.1), steps


def test_what_lies_beyond_the_end_of_an_episode_is_not_learned_from(falling) -> None:
    made = untrained(falling, units_of(falling), SMALL, seed=0)
    window = Windows(falling, made.units, SMALL.members, seed=2).draw(batch=64, steps=8)
    assert 0.0 < window.present.mean() < 1.0
    beyond = 1.0 - window.present
    spoiled = window._replace(
        rewards=window.rewards + 9.0 * beyond, costs=window.costs * window.present, ended=window.ended + beyond,
        following=window.following + 9.0 * beyond.unsqueeze(-1),
    )  # fmt: skip
    clean, same = window_losses(made, window), window_losses(made, spoiled)
    assert set(clean) == {"observations", "rewards", "costs", "ends"}
    for name, loss in clean.items():
        torch.testing.assert_close(loss, same[name])


def test_costs_and_returns_count_as_far_as_the_episode_is_expected_to_go_on(falling) -> None:
    made = constant_model(falling, change=0.0, reward=0.5, logit=1.0, end_logit=-2.0)
    found = roll_out(made, towards(1.0), torch.tensor([[0.0, 0.5]]), horizon=10)
    goes_on = 1.0 - 1.0 / (1.0 + np.exp(2.0))
    steps = (1.0 - goes_on**10) / (1.0 - goes_on)  # of a geometric series
    cost = float(torch.sigmoid(torch.tensor(1.0)))
    torch.testing.assert_close(found.costs, torch.full((SMALL.members, 1), steps * cost))
    torch.testing.assert_close(found.returns, torch.full((SMALL.members, 1), steps * 0.5 / made.units.reward_scale))
    torch.testing.assert_close(found.ended, torch.full((SMALL.members, 1), 1.0 - goes_on**10))


def test_the_learned_model_knows_which_policies_fall_and_what_they_cost_until_then(falling) -> None:
    model = fit_model(falling, units_of(falling), SMALL, seed=0)
    starts = falling.initial_observations[:16]
    targets = (-0.5, 0.5, 1.5, 3.0)  # safe, safe, costs to the horizon, costs until it falls
    found = [roll_out(model, towards(target), torch.from_numpy(starts.copy()), HORIZON) for target in targets]
    true = [true_cost(target, starts[:, 0], EDGE) for target in targets]
    assert true[2] > true[3] + 5.0 > 6.0, "falling saves cost"
    assert [float(imagined.costs.mean()) for imagined in found] == pytest.approx(true, abs=1.5)
    *stays, falls = [float(imagined.ended.mean()) for imagined in found]
    assert max(stays) < 0.2 and falls > 0.9


def test_a_model_of_data_without_ends_knows_of_none(dataset, model) -> None:
    assert model.end is None
    assert float(roll_out(model, towards(2.5), torch.tensor([[0.0, 0.5]]), HORIZON).ended.max()) == 0.0


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
