"""Runs simulated episodes over ROS topics: publishes observations, waits for actions, keeps the simulated clock.

Everything happens in callbacks of one executor thread, so there is nothing to lock, and services are answered
between two steps. Lock-step: the answer to an observation triggers the next step, a scripted driver acts as fast as it
can. Real time: a timer does, whoever acts.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.timer import Timer

from saferule_ros.msg import Action, Episode
from saferule_ros.nodes import qos
from saferule_ros.nodes.sim_episode import LOCK_STEP, POLICY, Outcome, PlannedEpisode, SimulatedEpisode
from saferule_ros.nodes.sim_graph import Company
from saferule_ros.nodes.sim_topics import SimTopics
from saferule_ros.sim.environment import SafetyEnvironment

# Steps of a scripted driver per callback: short enough (about 10 ms) that services are answered meanwhile.
SCRIPTED_STEPS_PER_CALLBACK = 25
# How often deadlines are looked at; they are seconds long.
LOOK_EVERY = 0.1


class Waiting(Enum):
    """What the conductor waits for; the value completes "waiting for ..."."""

    NOTHING = "nothing"
    COMPANY = "other nodes"
    ANSWER = "an action"
    SEAL = "the recorder"


class Deadlines(NamedTuple):
    """Longest waits [s]: in lock-step for an action, for the nodes that an episode needs, for the recorder."""

    answer: float
    company: float
    seal: float


class Conductor:
    """See module.

    Args:
        node: owns publishers, subscriptions and timers.
        environment: the simulator; used in the executor thread only.
        safe_action: float32 (A,).
        control_rate: ticks per second, simulated and, in real time, real [Hz].
        deadlines: how long to wait for what.
        on_end: called with each episode that ended, its outcome and its problem ("" if none).
    """

    def __init__(
        self,
        node: Node,
        environment: SafetyEnvironment,
        safe_action: NDArray[np.float32],
        control_rate: float,
        deadlines: Deadlines,
        on_end: Callable[[PlannedEpisode, Outcome, str], None],
    ) -> None:
        self._node = node
        self._environment = environment
        self._safe_action = safe_action
        self._tick_period = 1.0 / control_rate
        self._deadlines = deadlines
        self._on_end = on_end
        self._queue: deque[PlannedEpisode] = deque()
        self._episode: SimulatedEpisode | None = None
        self._answer: Action | None = None
        self._waiting = Waiting.NOTHING
        self._waiting_since = 0.0
        self._tick_timer: Timer | None = None
        self.stray_actions = 0  # actions that answered nothing that was asked

        self.topics = SimTopics(node, control_rate)
        answers = node.create_subscription(Action, "action", self._on_action, qos.DATA)
        seals = node.create_subscription(Episode, "dataset_recorder/episodes", self._on_seal, qos.EPISODES)
        self._company = Company(node, self.topics.observations, answers, seals)
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._look_timer = node.create_timer(LOOK_EVERY, self._look, clock=self._steady)

    @property
    def unfinished(self) -> int:
        """Episodes asked for and not ended yet, the running one included."""
        return len(self._queue) + (self._episode is not None)

    @property
    def state(self) -> str:
        if self._episode is None and not self._queue:
            return "idle"
        name = self._episode.planned.id if self._episode is not None else self._queue[0].id
        return f"{name}, waiting for {self._waiting.value}"

    def add(self, episodes: Sequence[PlannedEpisode]) -> None:
        """Runs these, after those that are under way. Returns at once."""
        idle = self.unfinished == 0
        self._queue.extend(episodes)
        if idle:
            self._soon(self._next)

    def give_up(self, problem: str) -> None:
        """Ends the running episode and all that were to follow; each is reported with the problem."""
        self._wait(Waiting.NOTHING)
        self._stop_ticking()
        running, self._episode = self._episode, None
        left = [(p, Outcome()) for p in self._queue]
        self._queue.clear()
        if running is not None:
            left.insert(0, (running.planned, running.outcome))
        for planned, outcome in left:
            self._on_end(planned, outcome, problem)

    def _next(self) -> None:
        """Begins the next episode, or waits for those who must be there."""
        if self._episode is not None or not self._queue:
            return
        planned = self._queue[0]
        if self._missing(planned) or self._company.strangers():
            if self._waiting is not Waiting.COMPANY:
                self._wait(Waiting.COMPANY)
            return
        self._queue.popleft()
        self._wait(Waiting.NOTHING)
        self._episode = SimulatedEpisode(self._environment, planned, self._safe_action)
        self.topics.publish(planned, self._episode.begin())
        if planned.mode != LOCK_STEP:
            self._tick_timer = self._node.create_timer(self._tick_period, self._on_tick, clock=self._steady)
        elif planned.driver == POLICY:
            self._wait(Waiting.ANSWER)
        else:
            self._soon(self._drive)

    def _missing(self, planned: PlannedEpisode) -> str:
        by_policy = planned.driver == POLICY
        return self._company.missing_for_policy() if by_policy else self._company.missing_for_script()

    def _on_action(self, message: Action) -> None:
        episode = self._episode
        if episode is None or episode.planned.driver != POLICY or message.observation_sequence == 0:
            return  # our own scripted action, or a parting safe action
        if message.observation_sequence != self.topics.sequence or self._answer is not None:
            self.stray_actions += 1
            return
        self._answer = message
        if episode.planned.mode == LOCK_STEP:
            self._wait(Waiting.ANSWER)
            self._advance()

    def _on_seal(self, message: Episode) -> None:
        waited_for = self._episode if self._waiting is Waiting.SEAL else None
        if waited_for is None or message.episode_id != waited_for.planned.id:
            return
        if message.digest:
            self._finish()
        else:
            self.give_up(f"the recorder kept nothing of {message.episode_id}: {message.message}")

    def _on_tick(self) -> None:
        if self._episode is None or self._waiting is Waiting.SEAL:
            return
        if self._episode.planned.driver == POLICY:
            self._advance()
        else:
            self._demonstrate()

    def _advance(self) -> None:
        """One step with the answer that arrived, or with the safe action where none did."""
        assert self._episode is not None
        answer, self._answer = self._answer, None
        if answer is None:
            action, policy_id, fallback = None, "", False
        else:
            action = np.asarray(answer.data, np.float32)
            policy_id, fallback = answer.policy_id, answer.fallback
        tick, problem = self._episode.advance(action, policy_id, fallback)
        if problem:
            self._node.get_logger().warning(
                f"safe action in {self._episode.planned.id}, step {tick.step - 1}: {problem}",
                throttle_duration_sec=1.0,
            )
        self.topics.publish(self._episode.planned, tick)
        if tick.last:
            self._finish()

    def _drive(self) -> None:
        """Some steps of a scripted driver."""
        for _ in range(SCRIPTED_STEPS_PER_CALLBACK):
            # It may have been given up meanwhile.
            if self._episode is None or not self._demonstrate():
                return
        self._soon(self._drive)

    def _demonstrate(self) -> bool:
        """One step of a scripted driver. Returns whether the episode goes on."""
        episode = self._episode
        assert episode is not None
        action = episode.demonstrate()
        self.topics.publish_action(action)
        tick, _ = episode.advance(action, "", False)
        self.topics.publish(episode.planned, tick)
        if tick.last:
            self._stop_ticking()
            if self._company.recorders():
                self._wait(Waiting.SEAL)
            else:
                self._finish()
        return not tick.last

    def _finish(self) -> None:
        episode, self._episode = self._episode, None
        assert episode is not None
        self._stop_ticking()
        self._wait(Waiting.NOTHING)
        self._on_end(episode.planned, episode.outcome, "")
        if self._queue:
            self._soon(self._next)

    def _look(self) -> None:
        """Sees to whatever is waited for: has it come, has its deadline passed?"""
        if self._waiting is Waiting.NOTHING:
            return
        waited = time.monotonic() - self._waiting_since
        if self._waiting is Waiting.COMPANY:
            missing = self._missing(self._queue[0])
            if missing and waited > self._deadlines.company:
                self.give_up(f"waited {self._deadlines.company:g} s: {missing}")
            else:
                self._next()
        elif self._waiting is Waiting.ANSWER and waited > self._deadlines.answer:
            who = self._company.should_have_answered()
            self.give_up(
                f"no action answered observation {self.topics.sequence} within {self._deadlines.answer:g} s; "
                f"should have answered: {who}"
            )
        elif self._waiting is Waiting.SEAL and waited > self._deadlines.seal:
            self.give_up(
                f"{', '.join(self._company.recorders()) or 'the recorder, now gone,'} did not confirm the episode "
                f"within {self._deadlines.seal:g} s; start a bag (dataset_recorder/start), or stop the recorder"
            )

    def _wait(self, what: Waiting) -> None:
        self._waiting = what
        self._waiting_since = time.monotonic()

    def _soon(self, what: Callable[[], None]) -> None:
        self._node.executor.create_task(what)  # type: ignore[union-attr]

    def _stop_ticking(self) -> None:
        if self._tick_timer is not None:
            self._node.destroy_timer(self._tick_timer)
            self._tick_timer = None
