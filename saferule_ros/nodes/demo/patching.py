"""Stages 4 and 5: a patch, and its swap into the middle of an episode, while the robot runs in real time."""

from __future__ import annotations

import time
from collections.abc import Callable

from saferule_ros.action import Unlearn
from saferule_ros.msg import PolicyStatus
from saferule_ros.nodes.demo.evidence import Announced, Findings, examine
from saferule_ros.nodes.demo.live import LiveRun
from saferule_ros.nodes.demo.operator import Goal, Refused
from saferule_ros.nodes.demo.robot import Robot
from saferule_ros.nodes.demo.settings import DemoSettings
from saferule_ros.nodes.demo.witness import Witness
from saferule_ros.reporting.results import SwapEvidence
from saferule_ros.srv import Forget, SwapPolicy

# The swap is asked for before this share of an episode is over: the gate takes a second or two, and the new policy
# shall act in the same episode.
LATEST_SHARE = 0.5


class LivePatch:
    """A robot that runs on in real time while it is patched, with everything it says on record.

    Use as a context manager: within it, every wait keeps the robot running. `end` afterwards.
    """

    def __init__(self, robot: Robot, settings: DemoSettings, seed: int, horizon: int) -> None:
        self.live = LiveRun(robot, seed)
        self.witness = Witness(robot.operator)
        self._robot = robot
        self._settings = settings
        self._horizon = horizon
        self.while_patched = 0  # commands

    def unlearn(
        self, forget_set: Forget.Response, seed: int, on_feedback: Callable[[Unlearn.Feedback], None]
    ) -> Unlearn.Result:
        """Patches, and returns when the candidate waits in the store.

        Raises:
            Refused: the patch failed; its message says why.
            WaitedInVain: it gave no feedback for too long. It is cancelled.
        """
        steps = self._settings.unlearning.steps
        heard_before = self.witness.heard
        goal = self._robot.unlearn(forget_set.forget_set_id, steps, seed, on_feedback)
        try:
            self._follow(goal)
            self.while_patched = self.witness.heard - heard_before
        finally:
            if not goal.done:  # given up, by Ctrl-C too
                goal.cancel()
        result = goal.result
        assert result is not None
        if not result.success:
            raise Refused(f"unlearning_server/unlearn: {result.message}", "See the job's log in the workspace")
        return result

    def _follow(self, goal: Goal[Unlearn.Result]) -> None:
        of = self._robot.process("unlearning_server")
        while not goal.done:
            heard = goal.feedback_at
            self._robot.operator.wait(
                lambda heard=heard: goal.done or goal.feedback_at != heard,  # type: ignore[misc]
                "unlearning_server gives feedback", self._settings.deadlines.patch, of,
            )  # fmt: skip

    def swap(self) -> tuple[SwapPolicy.Response, PolicyStatus, float]:
        """Swaps the candidate in, in the middle of an episode.

        Returns:
            The reply, the status before it, and how long the call took [s].
        """
        earliest = self._settings.swap_after * self._horizon
        latest = LATEST_SHARE * self._horizon
        self._robot.operator.wait(
            lambda: earliest <= self.witness.step <= latest, "a real-time episode is under way",
            2 * self._settings.deadlines.episode, self._robot.process("sim_bridge"),
        )  # fmt: skip
        before = self._robot.await_serving()
        began = time.monotonic()
        return self._robot.swap(), before, time.monotonic() - began

    def end(self) -> None:
        """Lets the running episode end, and hears the last commands."""
        self.live.finish(self._settings.deadlines.episode)
        self.witness.settle()
        self.witness.close()

    def evidence(
        self, reply: SwapPolicy.Response, before: PolicyStatus, seconds_call: float
    ) -> tuple[SwapEvidence, Findings]:
        """What was on the topics, held against what the swap's reply said."""
        announced = Announced(
            reply.first_sequence, before.policy_generation, reply.policy_generation, before.active_id, reply.policy_id
        )
        found = examine(self.witness.observations, self.witness.actions, announced)
        evidence = SwapEvidence(
            episode_id=found.episode_id, observations=found.observations, actions=found.actions,
            unanswered=found.unanswered, doubled=found.doubled + found.strays, gaps=found.gaps + found.disordered,
            mixed=found.mixed, fallbacks=found.fallbacks, while_patched=self.while_patched,
            generation_before=announced.generation_before, generation_after=announced.generation_after,
            policy_before=announced.policy_before, policy_after=announced.policy_after,
            first_sequence=announced.first_sequence, step_of_swap=max(found.step, 0), steps=found.steps,
            seconds_call=seconds_call, seconds_gate=reply.gate_seconds,
            seconds_switch=self.witness.pause_before(announced.first_sequence),
        )  # fmt: skip
        return evidence, found
