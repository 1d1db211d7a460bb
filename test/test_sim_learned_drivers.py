"""Learned drivers: the same whoever learns them, kept in the cache, safe and unsafe told apart; an Ant that trots."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("gymnasium", reason="the simulator is not installed")

from saferule_ros.errors import SaferuleError
from saferule_ros.sim import behaviour, recipes
from saferule_ros.sim.behaviour import demonstrator, drivers_are_ready
from saferule_ros.sim.collect import collect
from saferule_ros.sim.controllers import AntGait, Linear
from saferule_ros.sim.driver_training import learn_drivers
from saferule_ros.sim.environment import SafetyEnvironment
from saferule_ros.sim.learned_driver import LearnedDriver
from saferule_ros.sim.random_search import SearchSettings
from saferule_ros.sim.recipes import Objective, Recipe, Stage, Style
from saferule_ros.sim.snapshots import Snapshots, cached_at

SWIMMER = "SafetySwimmerVelocity-v1"
# Seconds instead of minutes: what it learns is of no use, but it is learned in the same way.
BRIEF = Recipe("linear", (
    Stage(Objective(), 2, steps=30, search=SearchSettings(2, 1, 0.05, 0.05)),
    Stage(Objective(cap=0.2, cost_weight=0.3), 3, goes_on=True, first_kept=2, steps=30,
          search=SearchSettings(2, 1, 0.05, 0.05)),
))  # fmt: skip


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The Swimmer's recipe is the brief one, and the cache is empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setitem(recipes.RECIPES, SWIMMER, BRIEF)
    return cached_at(SWIMMER, BRIEF)


def test_any_number_of_workers_learns_the_same() -> None:
    progress: list[tuple[int, int]] = []
    alone = learn_drivers(SWIMMER, BRIEF, 1, lambda done, total, _: progress.append((done, total)))
    together = learn_drivers(SWIMMER, BRIEF, 2)
    np.testing.assert_array_equal(alone.parameters, together.parameters)
    np.testing.assert_array_equal(alone.std, together.std)
    assert progress == [(n, 5) for n in range(1, 6)]
    assert alone.parameters.shape == (4, 2, 8), "iterations 1 and 2 of the first stage, 2 and 3 of the second"
    assert len({policy.tobytes() for policy in alone.parameters}) == 4


def test_collecting_learns_once_and_then_takes_what_is_in_the_cache(brief: Path) -> None:
    assert not drivers_are_ready(SWIMMER)
    with pytest.raises(SaferuleError, match=r"have not been learned on this machine. Run `saferule collect"):
        demonstrator(SWIMMER, "behaviour", 0)
    first = collect("SafetySwimmerVelocity", 2, seed=1)
    written = brief.stat()
    again = collect("SafetySwimmerVelocity", 2, seed=1)
    assert brief.stat() == written
    assert [episode.digest for episode in first] == [episode.digest for episode in again]
    assert first[0].length == 1000 and first[0].digest != first[1].digest


def test_a_damaged_cache_is_named(brief: Path) -> None:
    brief.parent.mkdir(parents=True)
    brief.write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(SaferuleError, match=r"cannot be read: .*Delete that file"):
        collect("SafetySwimmerVelocity", 1, seed=1)


def test_another_recipe_is_another_place_in_the_cache(brief: Path) -> None:
    assert cached_at(SWIMMER, Recipe("linear", BRIEF.stages, seed=2)) != brief
    assert cached_at("SafetyAntVelocity-v1", BRIEF) != brief


def three_policies() -> Snapshots:
    """Safe, a little unsafe, and far over the limit with the highest return; told apart by their constant actions."""
    marks = np.array([0.1, 0.2, 0.3])
    mean, std = np.zeros((3, 8)), np.ones((3, 8))
    return Snapshots(
        "linear", marks[:, None, None] * np.ones((3, 2, 8)), mean, std, np.array([5.0, 20.0, 30.0]),
        np.array([0.0, 60.0, 500.0]),
    )  # fmt: skip


def test_behaviour_is_safe_and_unsafe_alike_and_the_unsafe_driver_far_over_the_limit() -> None:
    def chosen(driver: str) -> list[int]:
        drivers = [LearnedDriver(three_policies(), driver, Style(), np.random.default_rng(seed)) for seed in range(200)]
        return [round(10 * driver._controller._matrix[0, 0]) for driver in drivers]

    counts = np.bincount(chosen("behaviour"), minlength=4)[1:]
    assert 70 < counts[0] < 130 and counts[1] > 30 and counts[2] > 30
    assert set(chosen("unsafe")) == {3}


def test_a_speed_limit_makes_speeding_worth_less_and_tells_by_how_much() -> None:
    limited = Objective(cap=3.0, cost_weight=2.0)
    assert limited.worth(2.5, 0.0) == 2.5
    assert limited.worth(4.0, 1.0) == pytest.approx(3.0 - 2.0 * 1.0 - 2.0)
    assert Objective().worth(4.0, 1.0) == 4.0


def test_linear_controllers_stay_within_bounds() -> None:
    controller = Linear(np.array([[1.0, 0.0], [0.0, -5.0]]))
    np.testing.assert_array_equal(controller.act(np.array([0.5, 1.0]), 0), [0.5, -1.0])


def test_the_ants_first_gait_walks_forward_without_falling() -> None:
    environment = SafetyEnvironment("SafetyAntVelocity")
    gait = AntGait(AntGait.start(27, 8))
    observation = environment.reset(3)
    start = environment.data.qpos[:2].copy()
    for step in range(200):
        transition = environment.step(gait.act(observation.astype(np.float64), step))
        observation = transition.observation
        assert not transition.terminated
    ahead, aside = environment.data.qpos[:2] - start
    assert ahead > 5.0 and abs(aside) < ahead


def test_a_trial_that_is_told_to_stop_stops_learning_to_drive(brief: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from experiment_samples import tiny_trial

    from saferule_ros.experiments.cancelling import TrialCancelled
    from saferule_ros.experiments.data import clean_data
    from saferule_ros.experiments.places import TrialPlaces

    trial = tiny_trial(cells=[{"tasks": ["SafetySwimmerVelocity"]}])
    said: list[str] = []
    with pytest.raises(TrialCancelled, match="while learning to drive, 3 of 5"):
        clean_data(trial, TrialPlaces(tmp_path / "out", trial), said.append, lambda: len(said) == 2)
    assert [words.split(",")[0] for words in said] == ["learning to drive 1/5", "learning to drive 2/5"]
    assert not brief.exists()


def test_where_an_episode_begins_does_not_tell_how_its_driver_drives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both follow from the episode's seed: drawn from the same numbers, the first observation gives the style away."""
    monkeypatch.setattr(behaviour, "learned_driver", lambda task_id, driver, generator: generator)
    environment = SafetyEnvironment(SWIMMER)
    seeds = range(50)
    begins = np.array([environment.reset(seed) for seed in seeds])  # (50, O)
    styles = np.array([demonstrator(SWIMMER, "behaviour", seed).random(4) for seed in seeds])  # (50, 4)
    both = np.corrcoef(np.concatenate([begins, styles], axis=1).T)
    assert np.abs(both[: begins.shape[1], begins.shape[1] :]).max() < 0.7, "independent ones: 0.5 at most"
