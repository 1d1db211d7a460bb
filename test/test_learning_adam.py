"""The optimiser: torch's own, bit for bit, without torch's compiler."""

import numpy as np
import pytest
import torch
from torch import nn

from saferule_ros.learning.adam import Adam

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here"))]


def network(device: str) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(*(nn.Linear(4, 4) for _ in range(6))).to(device)


def loss(of: nn.Module, step: int) -> torch.Tensor:
    """Another one each step; the last layer has no part in every second one, so its weights have no gradient there."""
    layers = list(of)[: 6 - step % 2]  # type: ignore[call-overload]
    value = torch.linspace(-1.0, 1.0, 4, device=next(of.parameters()).device) * (step + 1)
    for layer in layers:
        value = torch.tanh(layer(value))
    return value.square().sum()


def weights(of: nn.Module) -> np.ndarray:
    return torch.cat([p.detach().flatten() for p in of.parameters()]).cpu().numpy()


def rate(step: int) -> float:
    return 0.01 / (step + 1)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_steps_are_torchs_own_bit_for_bit(decay: float, device: str) -> None:
    ours, theirs = network(device), network(device)
    optimiser = Adam(ours.parameters(), rate(0), decay)
    kind = torch.optim.AdamW if decay else torch.optim.Adam
    reference = kind(theirs.parameters(), lr=torch.tensor(rate(0), device=device), weight_decay=decay, fused=True)
    for step in range(12):
        optimiser.learning_rate.fill_(rate(step))
        reference.param_groups[0]["lr"] = torch.tensor(rate(step), dtype=optimiser.learning_rate.dtype, device=device)
        for one, network_ in ((optimiser, ours), (reference, theirs)):
            one.zero_grad()
            loss(network_, step).backward()
            one.step()
        assert np.array_equal(weights(ours), weights(theirs)), f"step {step}"
    found = {key: value.tolist() for key, value in optimiser.state().items()}
    expected = {
        f"{index}.{name}": value.tolist()
        for index, moment in reference.state_dict()["state"].items() for name, value in moment.items()
    }  # fmt: skip
    assert found == expected


def test_restored_it_goes_on_as_if_it_had_not_been_stopped() -> None:
    straight, stopped = network("cpu"), network("cpu")
    one, other = Adam(straight.parameters(), 0.01), Adam(stopped.parameters(), 0.01)
    for step in range(4):
        for optimiser, moved in ((one, straight), (other, stopped)):
            optimiser.zero_grad()
            loss(moved, step).backward()
            optimiser.step()
    resumed = Adam(stopped.parameters(), 0.01)
    resumed.restore_state(other.state())
    assert resumed.state().keys() == other.state().keys()
    for step in range(4, 8):
        for optimiser, moved in ((one, straight), (resumed, stopped)):
            optimiser.zero_grad()
            loss(moved, step).backward()
            optimiser.step()
    assert np.array_equal(weights(straight), weights(stopped))
    assert other.state()["0.step"] == 4, "what it was restored from is its own"


def test_a_step_without_any_gradient_moves_nothing() -> None:
    still = network("cpu")
    before = weights(still)
    optimiser = Adam(still.parameters(), 0.01)
    optimiser.step()
    assert np.array_equal(weights(still), before) and not optimiser.state()
