"""Whatever goes wrong with a request, what comes out is a refusal."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import rclpy
from rclpy.context import Context
from rclpy.node import Node

from saferule_ros.errors import SaferuleError
from saferule_ros.nodes.answering import SystemRefusedError, only_refusals
from saferule_ros.nodes.background import FaultInProgramError

pytestmark = pytest.mark.ros


@pytest.fixture
def node() -> Iterator[Node]:
    context = Context()
    rclpy.init(context=context)
    node = rclpy.create_node("asked", context=context)
    yield node
    node.destroy_node()
    context.try_shutdown()


def test_what_was_asked_for_wrongly_comes_out_as_it_was(node: Node) -> None:
    refusal = SaferuleError("no such bag", "Name another")
    with pytest.raises(SaferuleError) as caught, only_refusals(node, "Look at the disk"):
        raise refusal
    assert caught.value is refusal


def test_a_system_that_refuses_is_told_with_what_to_do(node: Node) -> None:
    told = pytest.raises(SystemRefusedError, match=r"No such file.*'/nowhere'. Look at the disk")
    with told, only_refusals(node, "Look at the disk"):
        open("/nowhere").close()


def test_a_fault_in_the_program_is_a_refusal_and_its_traceback_is_in_the_log(
    node: Node, capfd: pytest.CaptureFixture[str]
) -> None:
    told = pytest.raises(FaultInProgramError, match="a fault in the program: ZeroDivisionError")
    with told, only_refusals(node, "Look at the disk"):
        _ = 1 // 0
    assert "Traceback" in capfd.readouterr().err


def test_the_end_of_the_process_is_none_of_its_business(node: Node) -> None:
    with pytest.raises(KeyboardInterrupt), only_refusals(node, "Look at the disk"):
        raise KeyboardInterrupt
