"""Tasks and environment: sizes from the simulator, same trajectory for the same seed, errors that help."""

import hashlib
import multiprocessing

import numpy as np
import pytest

pytest.importorskip("gymnasium", reason="the simulator is not installed")

from saferule_ros.errors import SaferuleError
from saferule_ros.sim.environment import ActionError, EpisodeStateError, SafetyEnvironment
from saferule_ros.sim.tasks import DEFAULT_COST_LIMIT, TASKS, UnknownTaskError, task

CIRCLE = "SafetyPointCircle1-v0"


@pytest.fixture(scope="module")
def circle() -> SafetyEnvironment:
    return SafetyEnvironment(CIRCLE)


def test_the_circle_task_is_what_the_project_is_built_on() -> None:
    found = task(CIRCLE)
    assert (found.observation_size, found.action_size, found.horizon, found.cost_limit) == (28, 2, 500, 25.0)
    assert (found.action_low, found.action_high, found.control_rate) == ((-1.0, -1.0), (1.0, 1.0), 50.0)
    spec = found.policy_spec()
    assert (spec.task, spec.observation_size, spec.action_high) == (CIRCLE, 28, (1.0, 1.0))


@pytest.mark.parametrize("name", [*TASKS, "SafetyCarGoal2-v0"])
def test_any_task_runs_with_the_sizes_that_its_description_gives(name: str) -> None:
    env = SafetyEnvironment(name)
    assert env.reset(1).shape == (env.task.observation_size,)
    step = env.step(np.zeros(env.task.action_size, np.float32))
    assert step.observation.shape == (env.task.observation_size,) and step.observation.dtype == np.float32
    assert env.task.horizon > 0 and env.task.control_rate > 0 and env.task.cost_limit == DEFAULT_COST_LIMIT
    assert (env.position() is None) == ("Velocity" in name)


def test_a_name_without_version_means_the_newest_one() -> None:
    assert task("SafetyPointCircle1").id == CIRCLE
    assert task("SafetyHalfCheetahVelocity").id == "SafetyHalfCheetahVelocity-v1"
    assert task("SafetyHalfCheetahVelocity-v0").id == "SafetyHalfCheetahVelocity-v0"


@pytest.mark.parametrize("name", ["SafetyPontCircle1", "SafetyPointCircle1-v7", "", "CartPole-v1"])
def test_an_unknown_task_is_refused_with_the_names_that_are_close(name: str) -> None:
    with pytest.raises(UnknownTaskError, match="Did you mean") as caught:
        task(name)
    assert repr(name) in str(caught.value)
    if "Circle1" in name:
        assert CIRCLE in str(caught.value)


@pytest.mark.parametrize("name", ["SafetyPointGoal1Vision-v0", "SafetyPointRace0-v0"])
def test_a_task_that_cannot_be_used_here_says_so(name: str) -> None:
    with pytest.raises(UnknownTaskError, match=name):
        task(name)


def digest_of_run(seed: int, task_id: str = CIRCLE, env: SafetyEnvironment | None = None) -> str:
    """SHA-256 of everything that 200 random but fixed actions lead to from reset(seed)."""
    env = env or SafetyEnvironment(task_id)
    generator = np.random.default_rng(7)
    found = hashlib.sha256(env.reset(seed).tobytes())
    for _ in range(200):
        action = generator.uniform(env.task.action_low, env.task.action_high).astype(np.float32)
        step = env.step(action)
        found.update(step.observation.tobytes())
        found.update(np.array([step.reward, step.cost, step.done]).tobytes())
        if step.done:
            break
    return found.hexdigest()


@pytest.mark.parametrize("task_id", [CIRCLE, "SafetyPointGoal1-v0", "SafetyHopperVelocity-v1"])
def test_the_same_seed_gives_the_same_trajectory_bit_for_bit_whatever_ran_before(task_id: str) -> None:
    env = SafetyEnvironment(task_id)
    first = digest_of_run(3, env=env)
    other = digest_of_run(4, env=env)
    assert digest_of_run(3, env=env) == first  # same object, after another episode
    assert digest_of_run(3, task_id) == first  # new object
    assert other != first


def test_the_same_seed_gives_the_same_trajectory_in_another_process() -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(digest_of_run, (3,)) == digest_of_run(3)


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (np.zeros(3, np.float32), r"shape \(3,\).*shape \(2,\)"),
        (np.zeros((1, 2), np.float32), r"shape \(1, 2\)"),
        (np.array([np.nan, 0.0]), "nan.*not finite"),
        (np.array([0.0, -np.inf]), "inf.*not finite"),
        (np.array([1.5, 0.0]), "1.5.*out of bounds"),
    ],
)
def test_a_bad_action_is_refused_and_nothing_moves(circle: SafetyEnvironment, action: np.ndarray, message: str) -> None:
    circle.reset(0)
    before = circle.data.qpos.copy()
    with pytest.raises(ActionError, match=message):
        circle.step(action)
    np.testing.assert_array_equal(circle.data.qpos, before)
    circle.step(np.zeros(2, np.float32))  # and the episode goes on


def test_float32_rounding_beyond_a_bound_is_not_a_fault(circle: SafetyEnvironment) -> None:
    circle.reset(0)
    circle.step(np.nextafter(np.ones(2, np.float32), np.float32(2)))


def test_an_episode_ends_at_the_horizon_and_steps_outside_of_one_are_refused() -> None:
    env = SafetyEnvironment(CIRCLE)
    with pytest.raises(EpisodeStateError, match=r"reset\(seed\)"):
        env.step(np.zeros(2, np.float32))
    env.reset(0)
    ends = [env.step(np.zeros(2, np.float32)) for _ in range(500)]
    assert [step.done for step in ends] == [False] * 499 + [True]
    assert ends[-1].truncated and not ends[-1].terminated
    with pytest.raises(EpisodeStateError):
        env.step(np.zeros(2, np.float32))


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_out_of_range_is_refused(circle: SafetyEnvironment, seed: int) -> None:
    with pytest.raises(SaferuleError, match=str(seed)):
        circle.reset(seed)
