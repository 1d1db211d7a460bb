"""Work beside an executor, on a real one."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from ros_helpers import DEADLINE
from serving_samples import TanhPolicy

from saferule_ros.errors import SaferuleError
from saferule_ros.nodes.background import Background, FaultInProgramError, abandon_all

pytestmark = pytest.mark.ros


@pytest.fixture
def node() -> Iterator[Node]:
    context = Context()
    rclpy.init(context=context)
    node = rclpy.create_node("busy", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    yield node
    executor.shutdown()
    node.destroy_node()
    context.try_shutdown()


def test_a_result_wakes_the_executor_and_is_returned_where_it_is_awaited(node: Node) -> None:
    release = threading.Event()
    work = Background(node, "work", lambda: release.wait(DEADLINE) and "done")
    awaited = node.executor.create_task(work.done())
    release.set()
    node.executor.spin_until_future_complete(awaited, DEADLINE)
    assert awaited.result() == "done"


def test_an_error_is_raised_where_it_is_awaited(node: Node) -> None:
    def fail() -> None:
        raise OSError("disk full")

    awaited = node.executor.create_task(Background(node, "work", fail).done())
    with pytest.raises(OSError, match="disk full"):  # the executor raises what a task raised
        node.executor.spin_until_future_complete(awaited, DEADLINE)


def test_a_fault_in_the_work_is_logged_and_ends_nothing_else(node: Node) -> None:
    awaited = node.executor.create_task(Background(node, "work", lambda: next(iter(()))).done())
    with pytest.raises(FaultInProgramError, match=r"a fault in the program: StopIteration\(\)") as caught:
        node.executor.spin_until_future_complete(awaited, DEADLINE)
    assert isinstance(caught.value, SaferuleError), "what every service answers with"


def test_work_that_ends_after_the_executor_leaves_it_alone(node: Node) -> None:
    release = threading.Event()
    work = Background(node, "work", lambda: release.wait(DEADLINE))
    awaited = node.executor.create_task(work.done())
    node.executor.spin_once(timeout_sec=0.0)
    abandon_all()
    node.executor.shutdown()
    release.set()
    work.join(DEADLINE)
    assert not awaited.done() and not work.told


END_AMID_WORK = """
import os, signal, sys, threading

import onnxruntime
from rclpy.node import Node

from saferule_ros.nodes.background import Background
from saferule_ros.nodes.process import main


class Busy(Node):
    def __init__(self):
        super().__init__("busy")

    def start(self):
        loaded = threading.Event()

        def work():
            while True:
                onnxruntime.InferenceSession(sys.argv[1])
                loaded.set()

        Background(self, "work", work)
        loaded.wait()
        os.kill(os.getpid(), signal.SIGTERM)

    def stop(self):
        pass


main(Busy)
"""


def test_a_process_that_is_told_to_end_while_work_is_in_c_code_ends_in_good_order(tmp_path: Path) -> None:
    """Left to the interpreter's own end, such a thread takes the process down with SIGABRT, nearly every time."""
    model = tmp_path / "policy.onnx"
    TanhPolicy(1).save(model)
    tries = 3
    for _ in range(tries):
        ended = subprocess.run(
            [sys.executable, "-c", END_AMID_WORK, str(model)], capture_output=True, text=True, timeout=DEADLINE
        )  # fmt: skip
        assert (ended.returncode, "terminate" in ended.stderr) == (0, False), ended.stderr
