"""Time as it passes for a robot: steady, or a simulation's, and never backwards."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from rclpy.clock import ROSClock
from rclpy.time import Time

from saferule_ros.nodes.passing_time import PassingTime

pytestmark = pytest.mark.ros

SECOND = 10**9


@pytest.fixture
def clock() -> ROSClock:
    return ROSClock()


def simulate(clock: ROSClock, seconds: float) -> None:
    clock._set_ros_time_is_active(True)
    clock.set_ros_time_override(Time(nanoseconds=round(seconds * SECOND), clock_type=clock.clock_type))


def test_where_nothing_is_simulated_it_is_the_steady_clock(clock: ROSClock, monkeypatch: pytest.MonkeyPatch) -> None:
    steady, system = 5 * SECOND, 1_700_000_000 * SECOND
    monkeypatch.setattr("time.monotonic_ns", lambda: steady)
    monkeypatch.setattr("time.time_ns", lambda: system)
    passed = PassingTime(SimpleNamespace(get_clock=lambda: clock))
    before = passed()
    steady, system = steady + SECOND // 2, system - 3600 * SECOND  # set back
    assert passed() - before == SECOND // 2


def test_in_a_simulation_it_is_simulated_and_begins_anew_with_it(clock: ROSClock) -> None:
    passed = PassingTime(SimpleNamespace(get_clock=lambda: clock))
    simulate(clock, 100.0)
    before = passed()
    assert passed() == before, "it stands still"
    simulate(clock, 100.5)
    assert passed() - before == SECOND // 2
    simulate(clock, 0.0)
    assert passed() - before == SECOND // 2, "what is unknown is no time"
    simulate(clock, 2.0)
    assert passed() - before == SECOND // 2 + 2 * SECOND


def test_a_stamp_that_is_ahead_of_the_clocks_message_counts_once(clock: ROSClock) -> None:
    passed = PassingTime(SimpleNamespace(get_clock=lambda: clock))
    simulate(clock, 10.0)
    before = passed()
    assert passed(proved=round(10.02 * SECOND)) - before == 20_000_000
    assert passed() - before == 20_000_000
    simulate(clock, 10.02)
    assert passed() - before == 20_000_000
    simulate(clock, 10.04)
    assert passed() - before == 40_000_000
