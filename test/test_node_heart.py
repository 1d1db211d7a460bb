"""Which observations a server answers that was without control, and whose word gives it back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import rclpy
from rclpy.clock import ROSClock
from rclpy.node import Node
from rclpy.time import Time
from ros_helpers import Ros, ros  # noqa: F401
from saferule_ros.msg import Control
from serving_samples import make_store

from saferule_ros.nodes.heart import READ_WITHIN, Heart
from saferule_ros.nodes.lease import lease
from saferule_ros.nodes.policy_parameters import Parameters
from saferule_ros.nodes.served import Served
from saferule_ros.nodes.serving import ControlPath
from saferule_ros.policy.runtime import PolicyRuntime

pytestmark = pytest.mark.ros

PERIOD = 0.05  # of the heartbeat [s]


class Guarded:
    """A heart that needs a word of `fallback`, on a node whose clock the test sets [s]."""

    def __init__(self, folder: Path, node: Node) -> None:
        store, (policy,) = make_store(folder, 1)
        runtime = PolicyRuntime(*store.get(policy))
        path = ControlPath()
        path.switch(Served(runtime, Parameters().limits.of(runtime)))
        clock = node.get_clock()
        assert isinstance(clock, ROSClock)
        self.clock = clock
        clock._set_ros_time_is_active(True)
        self.at(0.0)
        self.heart = Heart(node, path, PERIOD, guarded=True, changed=lambda *_: None)

    def at(self, seconds: float) -> None:
        self.clock.set_ros_time_override(Time(nanoseconds=round(seconds * 1e9), clock_type=self.clock.clock_type))

    def word(self, holder: str, stamp: float) -> None:
        message = Control(holder=holder)
        message.header.stamp = Time(nanoseconds=round(stamp * 1e9)).to_msg()
        self.heart._on_control(message)

    def answers(self, stamp: float) -> bool:
        return self.heart.may_answer(round(stamp * 1e9))


@pytest.fixture
def guarded(ros: Ros, tmp_path: Path) -> Iterator[Guarded]:  # noqa: F811
    rclpy.init(domain_id=ros.domain)
    node = rclpy.create_node("heart")
    executor = rclpy.get_global_executor()
    executor.add_node(node)  # which is told of a loss
    yield Guarded(tmp_path, node)
    executor.remove_node(node)
    node.destroy_node()
    rclpy.try_shutdown()


def stand_still(seconds: float) -> None:
    """This process does nothing for so long."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


def test_what_waited_while_fallback_commanded_is_not_answered_but_what_comes_later_is_whatever_its_stamp(
    guarded: Guarded,
) -> None:
    heart = guarded.heart
    guarded.word("policy_server", 0.0)
    heart.begin()
    guarded.at(1.0)
    heart.beat()
    guarded.word("fallback", 1.0)
    guarded.at(2.0)
    heart.beat()
    guarded.word("policy_server", 2.0)
    assert not guarded.answers(1.7), "it waited meanwhile: the robot has moved on"
    for _ in range(4):
        stand_still(READ_WITHIN / 3)
        heart.beat()
    guarded.at(2.1)
    assert guarded.answers(1.8), "a robot whose clock is 0.3 s behind is not left alone for so long"


def test_a_simulation_that_begins_anew_is_answered_from_its_first_observation_on(guarded: Guarded) -> None:
    guarded.at(1000.0)  # nothing is served yet
    guarded.word("policy_server", 1000.0)
    guarded.at(0.5)
    guarded.heart.begin()
    assert guarded.answers(0.5)


def test_a_word_from_before_a_silence_gives_no_control_after_it(guarded: Guarded) -> None:
    heart = guarded.heart
    guarded.word("policy_server", 0.0)
    heart.begin()
    stand_still(lease(PERIOD) * 1.2)
    guarded.at(1.0)
    heart.beat()
    assert not heart.in_control, "it was silent"
    stand_still(lease(PERIOD) * 1.2)  # and once more, before it has read what fallback says to that beat
    guarded.at(2.0)
    heart.beat()
    guarded.word("policy_server", 1.1)
    assert not heart.in_control, "fallback may have taken control since"
    guarded.word("policy_server", 2.1)
    assert heart.in_control
    stand_still(lease(PERIOD) * 1.2)
    guarded.at(3.0)
    heart.beat()
    guarded.at(0.1)  # a simulation begins anew
    guarded.word("policy_server", 0.1)
    assert heart.in_control, "stamps of another time tell nothing"
