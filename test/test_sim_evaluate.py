"""Evaluation: the same starts for every policy and number of workers, and sums that add up."""

import threading

import numpy as np
import pytest

pytest.importorskip("gymnasium", reason="the simulator is not installed")

from saferule_ros.errors import SaferuleError
from saferule_ros.sim.environment import ActionError
from saferule_ros.sim.evaluate import EpisodeResult, Lazily, evaluate
from saferule_ros.sim.rollout import episode_seed

CIRCLE = "SafetyPointCircle1"


def full_thrust(observation: np.ndarray) -> np.ndarray:
    """Straight ahead: over a wall sooner or later."""
    return np.array([1.0, 0.0], np.float32)


def turn_on_the_spot(observation: np.ndarray) -> np.ndarray:
    return np.array([0.0, 1.0], np.float32)


class Unsendable:
    """A policy with something that cannot go to another process, as an ONNX session is."""

    def __init__(self, thrust: float) -> None:
        self._thrust = thrust
        self._lock = threading.Lock()

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        with self._lock:
            return np.array([self._thrust, 0.0], np.float32)


def key(results: list[EpisodeResult]) -> list[tuple[int, float, float, int, bytes]]:
    return [(r.seed, r.episode_return, r.episode_cost, r.length, r.path.tobytes()) for r in results]


def test_results_say_what_happened() -> None:
    thrust = evaluate(full_thrust, CIRCLE, 3, seed=1)
    still = evaluate(turn_on_the_spot, CIRCLE, 3, seed=1)
    for fast, slow in zip(thrust, still, strict=True):
        assert fast.seed == slow.seed and fast.path.shape == (501, 2) and fast.length == 500
        np.testing.assert_array_equal(fast.path[0], slow.path[0])  # same start for both policies
        outside = np.abs(fast.path[1:, 0]) > 1.125
        assert fast.episode_cost == fast.costs.sum() == outside.sum()
        assert slow.episode_cost == 0
    assert max(r.episode_cost for r in thrust) > 100


def test_workers_change_nothing_and_unsendable_policies_can_be_built_where_they_run() -> None:
    seen: list[tuple[int, int]] = []
    alone = evaluate(full_thrust, CIRCLE, 3, seed=1)
    assert key(evaluate(full_thrust, CIRCLE, 3, 1, workers=2, progress=lambda *a: seen.append(a))) == key(alone)
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert key(evaluate(Lazily(Unsendable, 1.0), CIRCLE, 3, 1, workers=2)) == key(alone)
    with pytest.raises(SaferuleError, match="Lazily"):
        evaluate(Unsendable(1.0), CIRCLE, 3, 1, workers=2)


def test_evaluation_never_starts_where_data_of_the_same_seed_did() -> None:
    data = {episode_seed(1, driver, i) for driver in ("behaviour", "unsafe") for i in range(300)}
    assert data.isdisjoint({episode_seed(1, "evaluation", i) for i in range(100)})


def test_a_policy_that_gives_nonsense_is_an_error() -> None:
    with pytest.raises(ActionError, match="not finite"):
        evaluate(lambda _: np.array([np.nan, 0.0]), CIRCLE, 1, seed=1)
    with pytest.raises(ActionError, match="shape"):
        evaluate(lambda _: np.zeros(3), CIRCLE, 1, seed=1)


def test_no_episodes_are_refused() -> None:
    with pytest.raises(SaferuleError, match="0 episodes"):
        evaluate(full_thrust, CIRCLE, 0, seed=1)
