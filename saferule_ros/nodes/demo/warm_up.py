"""Sees to it that simulator, policy and recorder hear each other before anything counts.

Processes that have just started find each other one pair at a time, in an order that nobody outside can see. A
message that is published before its reader was found is lost to that reader, whatever the quality of service. So
episodes are run for nothing until one of them arrives on disk as a whole: that one went all the ways there are.
"""

from __future__ import annotations

import time

from saferule_ros.nodes.demo.operator import Refused, WaitedInVain
from saferule_ros.nodes.demo.robot import Robot, is_whole
from saferule_ros.nodes.demo.settings import Deadlines


def warm_up(robot: Robot, driver: str, seed: int, deadlines: Deadlines) -> None:
    """Runs episodes into a bag of their own until one is recorded whole.

    Args:
        driver: as in RunEpisodes; who drives afterwards.
        seed: of the first; each has the next one.

    Raises:
        WaitedInVain: that does not happen; says what became of the last one.
    """
    end = time.monotonic() + deadlines.nodes
    label, tried = f"warm_up_{driver}", set[str]()
    robot.start_recording(f"warm_up_{robot.namespace or 'robot'}", "the demo, to see that all nodes are connected")
    while True:
        tried.update(robot.start_episodes(episodes=1, seed=seed, mode="lock_step", driver=driver, label=label))
        problem = _problem(robot, tried, deadlines)
        if not problem:
            break
        if time.monotonic() > end:
            what = f"after {deadlines.nodes:g} s still not: an episode of driver {driver} is recorded whole"
            raise WaitedInVain(what, f"The last problem: {problem}")
        seed += 1
    robot.stop_recording()


def _problem(robot: Robot, tried: set[str], deadlines: Deadlines) -> str:
    """Why none of these has been recorded whole; empty if one has. Waits for the newest to end, and a little more."""

    def whole() -> bool:
        return any(is_whole(robot.sealed[i]) for i in tried & robot.sealed.keys())

    try:
        for episode_id in tried - robot.ended.keys():
            robot.ended_episode(episode_id, deadlines.episode)
        robot.operator.wait(whole, "an episode is recorded whole", deadlines.warm_up, robot.process("dataset_recorder"))
    except (Refused, WaitedInVain) as error:
        return str(error)
    return ""
