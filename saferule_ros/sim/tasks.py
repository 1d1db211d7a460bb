"""What a task is: its sizes, bounds, horizon, rate and cost limit, read from the simulator itself."""

from __future__ import annotations

import difflib
import functools
from dataclasses import dataclass
from typing import Any

from saferule_ros.dataset.scores import ReturnBounds
from saferule_ros.errors import SaferuleError
from saferule_ros.policy.spec import PolicySpec
from saferule_ros.sim.compat import import_safety_gymnasium, make_environment

# Safety-Gymnasium's environments carry no cost limit of their own. 25 per episode is what its own benchmark
# and the papers on these tasks use, so results can be compared.
DEFAULT_COST_LIMIT = 25.0

# The tasks that this project measures itself on; any other Safety-Gymnasium id works as well, see task().
TASKS = (
    "SafetyPointCircle1-v0",
    "SafetyPointGoal1-v0",
    "SafetyCarCircle1-v0",
    "SafetyAntVelocity-v1",
    "SafetyHalfCheetahVelocity-v1",
    "SafetySwimmerVelocity-v1",
    "SafetyHopperVelocity-v1",
)

# Least and largest return in the clean data of `saferule collect TASK -n 240 --seed 1`: what DSRL normalises by.
# From docs/results/behaviour_data.md, which a test holds them to.
RETURN_BOUNDS = {
    "SafetyPointCircle1-v0": ReturnBounds(3.5, 54.1),
    "SafetyCarCircle1-v0": ReturnBounds(4.6, 19.6),
    "SafetyHalfCheetahVelocity-v1": ReturnBounds(-285.9, 3781.4),
    "SafetyAntVelocity-v1": ReturnBounds(44.1, 3099.2),
    "SafetySwimmerVelocity-v1": ReturnBounds(33.7, 339.1),
}


class UnknownTaskError(SaferuleError):
    """No task has that name, or it is of a kind that cannot be used here."""


@dataclass(frozen=True)
class Task:
    """One task of the simulator.

    Attributes:
        id: full Safety-Gymnasium id with version, e.g. "SafetyPointCircle1-v0".
        cost_limit: episode cost that a safe policy stays within.
        horizon: steps after which an episode is truncated.
        control_rate: steps per second of simulated time [Hz].
        observation_size: O, floats per observation.
        action_size: A, floats per action.
        action_low, action_high: A bounds each, in the task's own units.
        return_bounds: by which returns are normalised; None for tasks that no data is collected from.
    """

    id: str
    cost_limit: float
    horizon: int
    control_rate: float
    observation_size: int
    action_size: int
    action_low: tuple[float, ...]
    action_high: tuple[float, ...]
    return_bounds: ReturnBounds | None = None

    def policy_spec(self) -> PolicySpec:
        """The contract of a policy for this task."""
        return PolicySpec(
            observation_size=self.observation_size,
            action_size=self.action_size,
            action_low=self.action_low,
            action_high=self.action_high,
            control_rate=self.control_rate,
            task=self.id,
            cost_limit=self.cost_limit,
        )


def task(name: str) -> Task:
    """The task called `name`, with or without version ("SafetyPointCircle1", "SafetyPointCircle1-v0").

    Raises:
        UnknownTaskError: there is no such task (close names are given), or its observations or actions are
            not plain vectors of floats.
        SimulatorMissingError: Safety-Gymnasium is not installed.
    """
    return _read_task(full_id(name))


def full_id(name: str) -> str:
    """`name` with the newest version that exists behind it, or as it is where it carries one."""
    known = _single_agent_ids()
    if name in known:
        return name
    versions = [known_id for known_id in known if known_id.rpartition("-v")[0] == name]
    if versions:
        return max(versions, key=lambda known_id: int(known_id.rpartition("-v")[2]))
    close = difflib.get_close_matches(name, known, n=3) or list(TASKS)
    raise UnknownTaskError(f"unknown task {name!r}", f"Did you mean {' or '.join(close)}?")


@functools.cache
def _single_agent_ids() -> tuple[str, ...]:
    """Ids that Safety-Gymnasium registers; keyboard ("Debug") and multi-agent ones cannot be driven here."""
    import_safety_gymnasium()
    from safety_gymnasium.utils.registration import safe_registry

    return tuple(sorted(i for i in safe_registry if "Debug" not in i and "Multi" not in i))


@functools.cache
def _read_task(task_id: str) -> Task:
    env = _built(task_id)
    try:
        observations, actions = env.observation_space, env.action_space
        for what, space in (("observations", observations), ("actions", actions)):
            if space.shape is None or len(space.shape) != 1:
                raise UnknownTaskError(
                    f"task {task_id!r} has {what} {space}, not a vector of floats",
                    "Vision and structured tasks are not supported",
                )
        return Task(
            task_id,
            DEFAULT_COST_LIMIT,
            int(env.spec.max_episode_steps),
            _control_rate(env.unwrapped),
            int(observations.shape[0]),
            int(actions.shape[0]),
            tuple(float(v) for v in actions.low),
            tuple(float(v) for v in actions.high),
            RETURN_BOUNDS.get(task_id),
        )
    finally:
        env.close()


def _built(task_id: str) -> Any:
    """The environment after a reset, which is when MuJoCo builds the world."""
    try:
        env = make_environment(task_id)
        env.reset(seed=0)
    except (ImportError, ValueError) as error:  # a missing package, or MuJoCo: a missing texture (Race tasks)
        raise UnknownTaskError(
            f"task {task_id!r} cannot be built by the installed Safety-Gymnasium: {error}",
            f"Use another task, e.g. {TASKS[0]}",
        ) from error
    return env


def _control_rate(env: object) -> float:
    """Steps per simulated second [Hz]: locomotion tasks have `dt`, navigation tasks a frame skip."""
    dt = getattr(env, "dt", None)
    if dt is None:
        inner = env.task  # type: ignore[attr-defined]
        dt = inner.model.opt.timestep * inner.sim_conf.frameskip_binom_n
    return round(1.0 / float(dt), 6)
