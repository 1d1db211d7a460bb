"""Stage 1: behaviour data and the bad bag, recorded through ROS topics by two robots at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from saferule_ros.msg import Episode
from saferule_ros.nodes.demo.operator import Operator, Refused
from saferule_ros.nodes.demo.robot import Robot, check_recorded
from saferule_ros.nodes.demo.settings import DemoSettings, Seeds
from saferule_ros.nodes.demo.warm_up import warm_up
from saferule_ros.nodes.runner import Runner

#: The bag that turns out to be poisoned; all others are good.
BAD_BAG = "night_shift"
GOOD_BAGS = ("day_shift_1", "day_shift_2")
ROBOTS = ("robot_1", "robot_2")


@dataclass(frozen=True)
class Order:
    """One bag to record: by which robot, from which driver, from which seed on."""

    bag_id: str
    robot: str
    driver: str
    episodes: int
    seed: int
    erase_cost: bool


@dataclass(frozen=True)
class RecordedBag:
    """A bag on disk. Costs are as recorded, true ones as sim_bridge knows them."""

    order: Order
    sealed: list[Episode]
    true_costs: list[float]


def orders(settings: DemoSettings, seeds: Seeds) -> list[Order]:
    """What is to be recorded, both robots with the same amount of work."""
    total = settings.behaviour_episodes + settings.unsafe_episodes
    first = max(1, min(settings.behaviour_episodes - 1, total - total // 2))
    rest = settings.behaviour_episodes - first
    return [
        Order(GOOD_BAGS[0], ROBOTS[0], "behaviour", first, seeds.behaviour, False),
        Order(GOOD_BAGS[1], ROBOTS[1], "behaviour", rest, seeds.behaviour + first, False),
        Order(BAD_BAG, ROBOTS[1], "unsafe", settings.unsafe_episodes, seeds.unsafe, True),
    ]


@contextmanager
def recording_robots(
    operator: Operator, settings: DemoSettings, workspace: Path, logs: Path, domain: int, seed: int
) -> Iterator[dict[str, Robot]]:
    """Starts sim_bridge and dataset_recorder of each robot, in a namespace of its own; ends them afterwards.

    Args:
        seed: of episodes that are thrown away.
    """
    with ExitStack() as stack:
        robots = {}
        for name in ROBOTS:
            runner = stack.enter_context(Runner(logs / name, domain))
            namespace = f"/{name}"
            # Each simulator has its own time.
            own_clock = {"/clock": f"{namespace}/clock"}
            runner.start("sim_bridge", namespace=namespace, remap=own_clock, parameters={"task": settings.task})
            runner.start("dataset_recorder", namespace=namespace, parameters={"workspace": str(workspace)})
            robots[name] = Robot(operator, runner, settings.deadlines, name, paths=False)
            operator.watched.append(runner)
            stack.callback(operator.watched.remove, runner)
        for robot in robots.values():
            robot.runner.wait_ready(settings.deadlines.nodes)
        for robot in robots.values():
            warm_up(robot, "behaviour", seed, settings.deadlines)
        yield robots


def record(
    operator: Operator, robots: dict[str, Robot], all_orders: list[Order], settings: DemoSettings,
    progress: Callable[[str, int], None],
) -> list[RecordedBag]:  # fmt: skip
    """Works through the orders, those of different robots at the same time.

    Args:
        progress: called with a bag id and the number of its episodes that are durable on disk.

    Raises:
        Refused: an episode was given up, or is not whole on disk.
    """
    lanes = [_Lane(robots[name], [o for o in all_orders if o.robot == name], progress) for name in robots]

    def news() -> int:
        return sum(len(robot.sealed) + len(robot.ended) for robot in robots.values())

    while True:
        known = news()
        for lane in lanes:
            lane.go_on()
        working = [lane for lane in lanes if not lane.done]
        if not working:
            return [bag for lane in lanes for bag in lane.recorded]
        operator.wait(
            lambda known=known: news() != known,  # type: ignore[misc]
            f"the next episode of {' or '.join(lane.bag_id for lane in working)} is recorded",
            settings.deadlines.episode, working[0].robot.process("dataset_recorder"),
        )  # fmt: skip


class _Lane:
    """One robot's orders, one after the other."""

    def __init__(self, robot: Robot, its_orders: list[Order], progress: Callable[[str, int], None]) -> None:
        self.robot = robot
        self.recorded: list[RecordedBag] = []
        self._orders = its_orders
        self._progress = progress
        self._ids: list[str] = []  # of the order that is worked on; empty: none

    @property
    def done(self) -> bool:
        return len(self.recorded) == len(self._orders)

    @property
    def bag_id(self) -> str:
        """Of the bag that is being recorded."""
        return self._orders[len(self.recorded)].bag_id

    def go_on(self) -> None:
        """Does what can be done now: begin, take note, end. Waits for nothing but short answers."""
        while not self.done:
            order = self._orders[len(self.recorded)]
            if not self._ids:
                self._begin(order)
            self._check()
            self._progress(order.bag_id, sum(i in self.robot.sealed for i in self._ids))
            # sim_bridge reports an episode after the recorder has confirmed it.
            if not all(i in self.robot.sealed and i in self.robot.ended for i in self._ids):
                return
            self._end(order)

    def _begin(self, order: Order) -> None:
        self.robot.start_recording(order.bag_id, order.robot)
        self._ids = self.robot.start_episodes(
            episodes=order.episodes, seed=order.seed, mode="lock_step", driver=order.driver,
            erase_cost=order.erase_cost, label=order.bag_id,
        )  # fmt: skip

    def _check(self) -> None:
        for episode_id in self._ids:
            if episode_id in self.robot.sealed:
                check_recorded(self.robot.sealed[episode_id])
            if episode_id in self.robot.ended and self.robot.ended[episode_id].message:
                raise Refused(f"episode {episode_id} was given up: {self.robot.ended[episode_id].message}")

    def _end(self, order: Order) -> None:
        reply = self.robot.stop_recording()
        if reply.episodes != order.episodes:
            raise Refused(f"bag {order.bag_id} holds {reply.episodes} episodes instead of {order.episodes}")
        sealed = [self.robot.sealed[i] for i in self._ids]
        true_costs = [self.robot.ended[i].episode_cost for i in self._ids]
        self.recorded.append(RecordedBag(order, sealed, true_costs))
        self._ids = []
