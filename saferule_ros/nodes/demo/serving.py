"""A robot that serves a policy, as four processes; and what its policy costs and earns over ROS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from saferule_ros.nodes.demo.operator import Operator, Refused, WaitedInVain
from saferule_ros.nodes.demo.robot import Robot
from saferule_ros.nodes.demo.settings import DemoSettings
from saferule_ros.nodes.runner import Runner
from saferule_ros.reporting.results import EpisodeOutcome, Evaluation
from saferule_ros.workspace import Workspace

# What the robot itself does while it serves is recorded into this bag.
SERVED_BAG = "served"

# Discovery takes a second or two; an episode with its wait takes longer.
WARM_UP_EPISODES = 5


@contextmanager
def served_robot(
    operator: Operator, settings: DemoSettings, workspace: Workspace, unlearning_settings: Path, logs: Path,
    domain: int,
) -> Iterator[Robot]:  # fmt: skip
    """The four processes of a robot that serves a policy, ready; ended afterwards, newest first."""
    simulated = {"use_sim_time": True}
    with Runner(logs, domain) as runner:
        runner.start("sim_bridge", parameters={"task": settings.task, "control_rate": settings.control_rate})
        runner.start(
            "policy_server",
            parameters={**simulated, "store": str(workspace.store), "deadline": settings.action_deadline},
        )
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
            robot.start_recording(SERVED_BAG, "robot")
            warm_up(robot, settings)
            yield robot
        finally:
            operator.watched.remove(runner)


def warm_up(robot: Robot, settings: DemoSettings) -> None:
    """Runs episodes until one was recorded: then every node has found every other.

    Whether two other processes are connected cannot be seen from here. Where the recorder found policy_server's
    actions a moment too late, the first episode would be missing.

    Raises:
        WaitedInVain: none of several was recorded.
    """
    for attempt in range(WARM_UP_EPISODES):
        (episode_id,) = robot.start_episodes(
            episodes=1, seed=attempt, mode="lock_step", driver="policy", label=f"warm-up-{attempt}"
        )
        robot.outcome(episode_id, settings.deadlines.episode)
        try:
            robot.recorded(episode_id, settings.deadlines.warm_up)
        except WaitedInVain:
            if attempt + 1 == WARM_UP_EPISODES:
                raise
        else:
            return


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
