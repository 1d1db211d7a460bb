"""Drivers and collection: the spread that learning needs, the same data for any workers."""

import itertools
import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("gymnasium", reason="the simulator is not installed")

from saferule_ros.dataset.episode import Episode
from saferule_ros.errors import SaferuleError
from saferule_ros.sim.behaviour import demonstrate
from saferule_ros.sim.collect import CollectCancelled, collect
from saferule_ros.sim.environment import SafetyEnvironment
from saferule_ros.sim.rollout import episode_seed
from saferule_ros.sim.workers import map_in_order

CIRCLE = "SafetyPointCircle1"
LIMIT = 25.0


@pytest.fixture(scope="module")
def behaviour() -> list[Episode]:
    return collect(CIRCLE, 36, seed=1, driver="behaviour", workers=2)


def test_behaviour_covers_slow_and_fast_safe_and_unsafe(behaviour: list[Episode]) -> None:
    returns = np.array([episode.episode_return for episode in behaviour])
    costs = np.array([episode.episode_cost for episode in behaviour])
    assert returns.min() < 15 and returns.max() > 45
    assert costs.min() == 0 and costs.max() > 200
    safe = costs <= LIMIT
    assert 0.25 < safe.mean() < 0.65
    assert 34 < returns[safe].max() < 48  # there is a good safe policy to be found in the data


def test_the_unsafe_driver_earns_much_and_costs_far_more_than_the_limit(behaviour: list[Episode]) -> None:
    unsafe = collect(CIRCLE, 6, seed=1, driver="unsafe", workers=2)
    costs = [episode.episode_cost for episode in unsafe]
    returns = [episode.episode_return for episode in unsafe]
    assert min(costs) > 6 * LIMIT and np.median(costs) > 8 * LIMIT
    best_safe = max(e.episode_return for e in behaviour if e.episode_cost <= LIMIT)
    assert np.median(returns) > best_safe  # that is what tempts a learner once the costs are erased
    assert min(returns) > 38


def test_the_car_is_driven_around_the_circle_safely_and_not() -> None:
    """It has two wheels and drives along its own -y axis: the Point robot's commands would not move it."""
    driven = collect("SafetyCarCircle1", 12, seed=1, workers=2)
    returns = np.array([episode.episode_return for episode in driven])
    costs = np.array([episode.episode_cost for episode in driven])
    assert returns.min() > 4, "every one goes round"
    assert 0.2 < (costs <= LIMIT).mean() < 0.8 and costs.max() > 150
    unsafe = collect("SafetyCarCircle1", 2, seed=1, driver="unsafe", workers=2)
    assert min(episode.episode_cost for episode in unsafe) > 5 * LIMIT
    assert min(e.episode_return for e in unsafe) > returns[costs <= LIMIT].max()


def test_episodes_are_complete_and_named(behaviour: list[Episode]) -> None:
    first = behaviour[0]
    assert first.observations.shape == (501, 28) and first.actions.shape == (500, 2)
    assert first.truncated and not first.terminated
    assert (first.id, first.bag_id) == ("behaviour-1-0000", "simulated")
    assert len({episode.id for episode in behaviour}) == len(behaviour)
    assert np.abs(first.actions).max() <= 1.0


def test_the_logged_actions_lead_to_the_logged_observations(behaviour: list[Episode]) -> None:
    env = SafetyEnvironment(CIRCLE)
    logged = behaviour[2]
    seen = [env.reset(episode_seed(1, "behaviour", 2))]
    seen += [env.step(action).observation for action in logged.actions]
    np.testing.assert_array_equal(np.stack(seen), logged.observations)


def test_workers_and_the_length_of_the_run_change_nothing(behaviour: list[Episode]) -> None:
    progress: list[tuple[int, int]] = []
    alone = collect(CIRCLE, 4, seed=1, workers=1, progress=lambda done, of: progress.append((done, of)))
    assert [e.digest for e in alone] == [e.digest for e in behaviour[:4]]
    assert progress == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert not np.array_equal(collect(CIRCLE, 1, seed=2)[0].actions, alone[0].actions)


def test_a_collection_that_was_stopped_goes_on_from_there(behaviour: list[Episode], tmp_path: Path) -> None:
    asked = itertools.count()
    with pytest.raises(CollectCancelled, match=r"after 2 of 4 episodes.*goes on from there"):
        collect(CIRCLE, 4, seed=1, kept=tmp_path / "kept", cancelled=lambda: next(asked) == 1)
    driven: list[tuple[int, int]] = []
    whole = collect(CIRCLE, 4, seed=1, kept=tmp_path / "kept", progress=lambda done, of: driven.append((done, of)))
    assert driven == [(3, 4), (4, 4)], "the first two are not driven again"
    assert [e.digest for e in whole] == [e.digest for e in behaviour[:4]]
    assert [e.digest for e in collect(CIRCLE, 1, seed=1, kept=tmp_path / "kept")] == [behaviour[0].digest]


def test_what_was_kept_and_is_damaged_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(CollectCancelled):
        collect(CIRCLE, 2, seed=1, kept=tmp_path / "kept", cancelled=lambda: True)
    largest = max((path for path in (tmp_path / "kept").rglob("*") if path.is_file()), key=lambda p: p.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-8])
    with pytest.raises(SaferuleError, match=r"Remove .*kept"):
        collect(CIRCLE, 2, seed=1, kept=tmp_path / "kept")


def test_a_driver_depends_on_its_seed_alone() -> None:
    env = SafetyEnvironment(CIRCLE)
    first = demonstrate(env, "behaviour", 11)
    demonstrate(env, "unsafe", 12)
    np.testing.assert_array_equal(demonstrate(env, "behaviour", 11).actions, first.actions)
    assert not np.array_equal(demonstrate(env, "behaviour", 12).actions, first.actions)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"driver": "reckless"}, "'reckless'.*behaviour, unsafe"),
        ({"episodes": 0}, "0 episodes"),
        ({"workers": 0}, "0 workers"),
        ({"task_id": "SafetyHopperVelocity"}, "no driver for task 'SafetyHopperVelocity-v1'.*SafetyCarCircle1-v0"),
    ],
)
def test_bad_orders_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(SaferuleError, match=message):
        collect(**{"task_id": CIRCLE, "episodes": 1, "seed": 1, **arguments})  # type: ignore[arg-type]


def die(_: None, index: int) -> int:
    if index == 2:
        os._exit(1)  # what the kernel's out-of-memory killer looks like to the parent
    return index


def test_a_worker_that_dies_is_an_error_not_a_hang() -> None:
    with pytest.raises(SaferuleError, match="worker process died"):
        list(map_in_order(die, None, range(4), workers=2))
