"""A robot that serves a policy, as four processes; and what its policy costs and earns over ROS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from saferule_ros.nodes.demo.operator import Operator, Refused
from saferule_ros.nodes.demo.robot import Robot
from saferule_ros.nodes.demo.settings import DemoSettings
from saferule_ros.nodes.demo.warm_up import warm_up
from saferule_ros.nodes.runner import Runner
from saferule_ros.reporting.results import EpisodeOutcome, Evaluation
from saferule_ros.workspace import Workspace

# What the robot itself does while it serves is recorded into this bag.
SERVED_BAG = "served"


@contextmanager
def served_robot(
    operator: Operator, settings: DemoSettings, workspace: Workspace, unlearning_settings: Path, logs: Path,
    domain: int, seed: int,
) -> Iterator[Robot]:  # fmt: skip
    """The four processes of a robot that serves a policy, ready; ended afterwards, newest first.

    Args:
        seed: of episodes that are thrown away.
    """
    simulated = {"use_sim_time": True}
    with Runner(logs, domain) as runner:
        runner.start("sim_bridge", parameters={"task": settings.task, "control_rate": settings.control_rate})
        runner.start(
            "policy_server",
            # A patch is judged by whole episodes here, and stays until it is: its cost in 50 ticks brings nothing back.
            parameters={
                **simulated, "store": str(workspace.store), "deadline": settings.action_deadline,
                "probation_cost": -1.0,
            },
        )  # fmt: skip
        runner.start("dataset_recorder", parameters={**simulated, "workspace": str(workspace.root)})
        runner.start(
            "unlearning_server",
            parameters={**simulated, "workspace": str(workspace.root), "settings": str(unlearning_settings)},
        )
        robot = Robot(operator, runner, settings.deadlines)
        operator.watched.append(runner)
        try:
            runner.wait_ready(settings.deadlines.nodes)
            robot.await_serving()
            warm_up(robot, "policy", seed, settings.deadlines)
            robot.start_recording(SERVED_BAG, "robot")
            yield robot
        finally:
            operator.watched.remove(runner)


def evaluate_served(
    robot: Robot, name: str, policy_id: str, episodes: int, seed: int, settings: DemoSettings,
    progress: Callable[[EpisodeOutcome], None],
) -> Evaluation:  # fmt: skip
    """Lock-step episodes of the policy that is served now.

    Args:
        name: of the evaluation; first part of the episodes' ids.
        policy_id: that must act.
        episodes, seed: how many; episode k starts from seed + k.
        progress: called with each episode.

    Raises:
        Refused: an episode was given up, or another policy acted in it.
    """
    ids = robot.start_episodes(episodes=episodes, seed=seed, mode="lock_step", driver="policy", label=name)
    outcomes = []
    for number, episode_id in enumerate(ids):
        ended = robot.outcome(episode_id, settings.deadlines.episode)
        sealed = robot.recorded(episode_id)
        message = ended.message
        if list(message.policy_ids) != [policy_id]:
            raise Refused(
                f"episode {episode_id} was driven by {list(message.policy_ids)} instead of {policy_id} alone",
                "Does anything else publish actions, or swap policies?",
            )
        outcomes.append(EpisodeOutcome(
            episode_id=episode_id, seed=seed + number, episode_return=message.episode_return,
            episode_cost=message.episode_cost, length=message.length, path=ended.path,
            fallbacks=message.fallbacks, lost=sealed.lost,
        ))  # fmt: skip
        progress(outcomes[-1])
    return Evaluation(name=name, policy_id=policy_id, episodes=outcomes)
