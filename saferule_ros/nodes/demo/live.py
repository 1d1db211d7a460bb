"""Keeps the robot running in real time, one episode after the other, beside whatever else is done."""

from __future__ import annotations

from rclpy.task import Future

from saferule_ros.nodes.demo.robot import Robot, accepted_ids


class LiveRun:
    """As long as `keep_going` is called, another episode begins whenever one has ended.

    Args:
        seed: simulator seed of the first; each has the next one.
    """

    def __init__(self, robot: Robot, seed: int, label: str = "live") -> None:
        self.ids: list[str] = []
        self._robot = robot
        self._seed = seed
        self._label = label
        self._asked: Future | None = None

    @property
    def idle(self) -> bool:
        """No episode runs or was asked for."""
        return self._asked is None and all(i in self._robot.ended for i in self.ids[-1:])

    def keep_going(self) -> None:
        """Never waits: for `Operator.beside`.

        Raises:
            Refused: sim_bridge does not take another episode.
        """
        if self._asked is not None:
            if not self._asked.done():
                return
            self.ids += accepted_ids(self._asked.result())
            self._asked = None
        if self.idle:
            self._asked = self._robot.begin_episodes(
                episodes=1, seed=self._seed, mode="real_time", driver="policy", label=self._label
            )
            self._seed += 1

    def finish(self, deadline: float) -> None:
        """Waits for the end of the episode that runs; call it when nothing calls `keep_going` any more."""
        operator, of = self._robot.operator, self._robot.process("sim_bridge")
        if self._asked is not None:
            operator.wait(self._asked.done, "sim_bridge takes an episode", deadline, of)
            self.ids += accepted_ids(self._asked.result())
            self._asked = None
        operator.wait(lambda: self.idle, f"episode {', '.join(self.ids[-1:])} ends", deadline, of)
