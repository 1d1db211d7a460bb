import math

import pytest
import torch

from saferule_ros.learning.dual_weight import DualWeight
from saferule_ros.learning.settings import DualWeightSettings


def weight(**settings: float) -> DualWeight:
    return DualWeight(DualWeightSettings(**settings), torch.device("cpu"))


def test_penalty_is_alpha_times_the_violation_and_moves_only_what_was_violated():
    alpha = weight(alpha_start=3.0)
    violation = torch.tensor(0.5, requires_grad=True)
    penalty = alpha.penalty(violation)
    penalty.backward()
    assert penalty.item() == pytest.approx(1.5)
    assert violation.grad.item() == pytest.approx(3.0)
    assert not alpha.value.requires_grad


def test_a_step_is_gradient_ascent_of_the_penalty_in_the_logarithm():
    alpha = weight(alpha_start=3.0, alpha_rate=0.1)
    alpha.penalty(torch.tensor(0.5))
    assert alpha.value.item() == pytest.approx(3.0)  # a loss alone moves nothing
    alpha.step()
    assert alpha.value.item() == pytest.approx(math.exp(math.log(3.0) + 0.1 * 3.0 * 0.5))
    alpha.penalty(torch.tensor(-0.5))
    before = alpha.value.item()
    alpha.step()
    assert alpha.value.item() < before


def test_it_stays_within_its_bounds_and_leaves_them_at_once():
    alpha = weight(alpha_start=1.0, alpha_floor=0.5, alpha_cap=2.0, alpha_rate=0.1)
    for violation, bound in ((10.0, 2.0), (-10.0, 0.5)):
        for _ in range(1000):
            alpha.penalty(torch.tensor(violation))
            alpha.step()
        assert alpha.value.item() == pytest.approx(bound)


def test_it_goes_on_from_a_checkpoint_exactly():
    straight, resumed = weight(alpha_rate=0.3), weight(alpha_rate=0.3)
    straight.penalty(torch.tensor(0.7))
    straight.step()
    resumed.restore(straight.state())
    assert torch.equal(resumed.value, straight.value)


def test_a_start_outside_its_bounds_is_refused():
    with pytest.raises(ValueError, match=r"alpha_start 9.* alpha_cap 5"):
        DualWeightSettings(alpha_start=9.0, alpha_cap=5.0)
