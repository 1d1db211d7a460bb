import pytest
import torch

from saferule_ros.errors import SettingsError
from saferule_ros.learning.multiplier import Multiplier
from saferule_ros.learning.settings import MultiplierSettings


def multiplier(**settings: float) -> Multiplier:
    return Multiplier(MultiplierSettings(**settings), torch.device("cpu"))


def excess(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def test_without_gains_lambda_stays_where_it_starts():
    held = multiplier(multiplier_start=2.0)
    assert not held.adapts
    held.update(excess(100.0))
    assert held.value == 2.0


def test_terms_add_up_as_in_a_pid_controller():
    pid = multiplier(
        multiplier_start=1.0, multiplier_proportional=0.5, multiplier_integral=0.1, multiplier_derivative=2.0
    )
    pid.update(excess(1.0))
    assert float(pid.value) == pytest.approx(1.0 + 0.1 * 1.0 + 0.5 * 1.0 + 2.0 * (1.0 - 0.0))
    pid.update(excess(0.5))  # falling: the derivative term does not push lambda down
    assert float(pid.value) == pytest.approx(1.0 + 0.1 * 1.5 + 0.5 * 0.5)


def test_it_comes_down_at_once_after_a_long_time_at_the_cap():
    capped = multiplier(multiplier_start=0.0, multiplier_cap=3.0, multiplier_integral=0.5)
    for _ in range(1000):
        capped.update(excess(10.0))
    assert capped.value == 3.0
    capped.update(excess(-1.0))
    assert float(capped.value) == pytest.approx(2.5)


def test_it_goes_on_from_a_checkpoint_exactly():
    gains = {"multiplier_start": 1.0, "multiplier_integral": 0.1, "multiplier_derivative": 1.0}
    straight, resumed = multiplier(**gains), multiplier(**gains)
    straight.update(excess(2.0))
    resumed.restore(straight.state())
    straight.update(excess(3.0))
    resumed.update(excess(3.0))
    assert resumed.state() == straight.state()


def test_a_restart_begins_again_somewhat_above_and_within_the_bounds():
    lagrange = multiplier(multiplier_start=2.0, multiplier_cap=5.0, multiplier_integral=1.0)
    lagrange.update(excess(1.5))
    lagrange.restart(1.0)
    assert lagrange.value == 3.0 and lagrange.state()["integral"] == 3.0
    lagrange.restart(9.0)
    assert lagrange.value == 5.0
    lagrange.restart(-9.0)
    assert lagrange.value == 0.0


def test_holding_a_value_above_the_cap_is_an_error_that_names_the_cap():
    with pytest.raises(SettingsError, match=r"multiplier 7 is outside 0 to .* multiplier_cap 5"):
        multiplier(multiplier_cap=5.0).hold(7.0)
