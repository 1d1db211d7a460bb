"""Simulated episodes without ROS: what is asked for, one episode step by step, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from saferule_ros.errors import SaferuleError
from saferule_ros.sim.behaviour import DRIVERS, demonstrator
from saferule_ros.sim.environment import LARGEST_SEED, ActionError, SafetyEnvironment

LOCK_STEP = "lock_step"
REAL_TIME = "real_time"
MODES = (LOCK_STEP, REAL_TIME)
POLICY = "policy"
# More is a typing mistake: at real speed it would take weeks.
MOST_EPISODES = 100_000


class RunError(SaferuleError):
    """Episodes were asked for that cannot be run, or a run had to be given up."""


@dataclass(frozen=True)
class PlannedEpisode:
    """One episode that was asked for: its name, its seed, who drives, and how."""

    id: str
    seed: int
    mode: str
    driver: str
    erase_cost: bool


@dataclass(frozen=True)
class Tick:
    """What one observation message carries: observation float32 (O,), and the outcome of the action before it."""

    step: int
    observation: NDArray[np.float32]
    reward: float = 0.0
    cost: float = 0.0
    terminated: bool = False
    truncated: bool = False

    @property
    def last(self) -> bool:
        """Whether the episode ends with this observation, so that no action follows it."""
        return self.terminated or self.truncated


@dataclass
class Outcome:
    """What an episode came to so far. `path` has one (x, y) [m] per observation where the task has a plane."""

    length: int = 0
    episode_return: float = 0.0
    episode_cost: float = 0.0
    terminated: bool = False
    truncated: bool = False
    fallbacks: int = 0
    policy_ids: list[str] = field(default_factory=list)
    path: list[tuple[float, float]] = field(default_factory=list)


def plan(
    label: str, episodes: int, seed: int, mode: str, driver: str, erase_cost: bool, used: set[str]
) -> list[PlannedEpisode]:
    """Checks a request and names its episodes `<label>-s<seed>-<number>`, never twice.

    Args:
        label: first part of the names; letters, digits, "_", "-", "." only, because names become file names.
        seed: seed of the first episode; episode k is reset with seed + k.
        used: names given out so far; the new ones are not added.

    Raises:
        RunError: which value is wrong and what is allowed.
    """
    if not 1 <= episodes <= MOST_EPISODES:
        raise RunError(f"episodes is {episodes}", f"Ask for 1 to {MOST_EPISODES}.")
    if not 0 <= seed <= LARGEST_SEED - episodes + 1:
        raise RunError(f"seed is {seed} for {episodes} episodes", f"The last one may be {LARGEST_SEED}.")
    if mode not in MODES:
        raise RunError(f"mode is {mode!r}", f"Choose one of {', '.join(MODES)}.")
    if driver not in (POLICY, *DRIVERS):
        raise RunError(f"driver is {driver!r}", f"Choose one of {', '.join((POLICY, *DRIVERS))}.")
    if not label or not all(c.isascii() and (c.isalnum() or c in "_-.") for c in label) or label[0] == ".":
        raise RunError(f"label is {label!r}", "Use letters, digits, '_', '-' and '.', not '.' first.")
    stem = f"{label}-s{seed}"
    again = 1
    while any(f"{stem}-{k:06d}" in used for k in range(episodes)):
        again += 1
        stem = f"{label}-s{seed}-r{again}"
    return [PlannedEpisode(f"{stem}-{k:06d}", seed + k, mode, driver, erase_cost) for k in range(episodes)]


class SimulatedEpisode:
    """One episode in the simulator, one call per step.

    Args:
        environment: is reset by `begin`.
        planned: which episode.
        safe_action: float32 (A,); acts where there is no usable action.
    """

    def __init__(
        self, environment: SafetyEnvironment, planned: PlannedEpisode, safe_action: NDArray[np.float32]
    ) -> None:
        self.planned = planned
        self.outcome = Outcome()
        self._environment = environment
        self._safe_action = safe_action
        by_script = planned.driver != POLICY
        self._script = demonstrator(environment.task.id, planned.driver, planned.seed) if by_script else None

    def begin(self) -> Tick:
        """Resets the simulator; the first observation."""
        observation = self._environment.reset(self.planned.seed)
        self._note_position()
        return Tick(0, observation)

    def demonstrate(self) -> NDArray[np.float32]:
        """What the scripted driver does next, float32 (A,)."""
        if self._script is None:
            raise RunError(f"Episode {self.planned.id} has no scripted driver", "A policy drives it.")
        return self._script.act(self._environment)

    def advance(self, action: NDArray[np.float32] | None, policy_id: str, fallback: bool) -> tuple[Tick, str]:
        """Applies one action; None stands for a missing one, and the safe action acts.

        Returns:
            The tick that follows, and why the safe action acted instead of the one given (empty if it did not).
        """
        problem = "" if action is not None else "no action arrived in time"
        if action is not None:
            try:
                transition = self._environment.step(action)
            except ActionError as error:  # nothing moved
                problem = str(error)
        if problem:
            transition = self._environment.step(self._safe_action)
        outcome = self.outcome
        outcome.length += 1
        # Messages carry float32: what is summed here is what others can sum from the observations.
        reward, cost = float(np.float32(transition.reward)), float(np.float32(transition.cost))
        outcome.episode_return += reward
        outcome.episode_cost += cost
        outcome.terminated, outcome.truncated = transition.terminated, transition.truncated
        outcome.fallbacks += bool(problem) or fallback
        if policy_id and not problem and policy_id not in outcome.policy_ids:
            outcome.policy_ids.append(policy_id)
        self._note_position()
        tick = Tick(outcome.length, transition.observation, reward, cost, *_ends(outcome))
        return tick, problem

    def _note_position(self) -> None:
        position = self._environment.position()
        if position is not None:
            self.outcome.path.append(position)


def _ends(outcome: Outcome) -> tuple[bool, bool]:
    return outcome.terminated, outcome.truncated
