"""One way to run a node as a process: start, spin, stop on SIGINT or SIGTERM, exit status.

rclpy's own signal handlers destroy the context first, and a node could no longer send its safe action. Here the
signal only ends the spinning; the node then shuts down with everything still working, and the context goes last.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Protocol, Self, runtime_checkable

import rclpy
from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from saferule_ros.errors import SaferuleError
from saferule_ros.nodes.background import abandon_all
from saferule_ros.nodes.readiness import LIFELINE, notify

EXIT_FAULT, EXIT_BAD_INPUT = 1, 2
# A reader that hangs or was killed a moment ago never acknowledges; nobody waits longer for it than this [s].
DELIVERY_DEADLINE = 1.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stoppable(Protocol):
    """What `run` needs of a node, besides being an rclpy Node."""

    def start(self) -> None:
        """Called once the executor knows the node, before it spins; the node may use `self.executor`."""

    def stop(self) -> None:
        """Called after the last callback, with the context alive: send what must be sent last, join threads."""


@runtime_checkable
class TellsFaults(Protocol):
    """A node that ends otherwise where that is not meant.

    Attributes:
        faulty: a fault in the program ends it, whoever then told the process to end.
    """

    faulty: bool

    def failed(self) -> None:
        """Called before stop() where a fault in the program ends the node, and no signal."""


def run(make_node: Callable[[], Node], args: list[str] | None = None) -> int:
    """Runs a node (a `Stoppable`) in a single-threaded executor until SIGINT or SIGTERM.

    Returns:
        Exit status: 0 after a signal, 1 where a fault ended a thread of the node, 2 if the node refused its parameters
        or environment, made or started.
    """
    try:
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    except rclpy_implementation.RCLError as error:  # a parameter file that is none, an argument that ROS does not know
        get_logger("saferule_ros").fatal(f"{error}. Correct what follows --ros-args")
        return EXIT_BAD_INPUT
    try:
        executor = SingleThreadedExecutor()
        with _StopSignals(executor) as signals:
            try:
                node = make_node()
            except SaferuleError as error:
                get_logger("saferule_ros").fatal(str(error))
                return EXIT_BAD_INPUT
            try:
                executor.add_node(node)
                try:
                    node.start()  # type: ignore[attr-defined]
                except SaferuleError as error:
                    get_logger("saferule_ros").fatal(str(error))
                    return EXIT_BAD_INPUT
                notify("READY=1")
                while not signals.stopped:
                    executor.spin_once()
            finally:
                if not signals.stopped and isinstance(node, TellsFaults):
                    node.failed()
                notify("STOPPING=1")
                node.stop()  # type: ignore[attr-defined]
                _deliver(node)
                abandon_all()
                executor.shutdown()
                node.destroy_node()
        return EXIT_FAULT if isinstance(node, TellsFaults) and node.faulty else 0
    finally:
        rclpy.try_shutdown()


def main(make_node: Callable[[], Node]) -> None:
    """Body of an executable: `run`, then exit with its status."""
    status = run(make_node)
    # rclpy logs through C++ streams that are flushed by now; Python's own are flushed here.
    sys.stdout.flush()
    sys.stderr.flush()
    if any(thread.daemon for thread in threading.enumerate()):
        # An interpreter that ends ends its daemon threads wherever they are. One that is within C++, such as loading a
        # policy, then takes the process down: std::terminate, and SIGABRT in place of the status.
        os._exit(status)
    sys.exit(status)


def _deliver(node: Node) -> None:
    """Waits until what was published last has arrived: a writer that is gone sends nothing again."""
    end = time.monotonic() + DELIVERY_DEADLINE
    for publisher in node.publishers:
        publisher.wait_for_all_acked(Duration(seconds=max(0.0, end - time.monotonic())))


class _StopSignals:
    """Ends an executor's wait when SIGINT or SIGTERM arrives, or whoever started this process has gone.

    A Python signal handler runs between two bytecodes, but the executor waits in C. The interpreter writes a byte
    to the wake-up descriptor at once; a thread reads it and gives the executor an empty task to wake up for.
    """

    def __init__(self, executor: SingleThreadedExecutor) -> None:
        self.stopped = False
        self._executor = executor
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._watched = [self._read]
        if lifeline := os.environ.get(LIFELINE, ""):
            self._watched.append(int(lifeline))
            os.set_inheritable(int(lifeline), False)  # ours alone, not our children's
        self._thread = threading.Thread(target=self._watch, name="signals", daemon=True)

    def __enter__(self) -> Self:
        self._old_descriptor = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._old = {s: signal.signal(s, self._stop) for s in _SIGNALS}
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._old_descriptor)
        os.close(self._write)
        self._thread.join()
        os.close(self._read)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self.stopped = True

    def _watch(self) -> None:
        awake = False
        while True:
            for ready in select.select(self._watched, [], [])[0]:
                received = os.read(ready, 1)
                if not received and ready == self._read:  # the other end is closed: leaving
                    return
                if not received:
                    self._watched.remove(ready)
                    os.kill(os.getpid(), signal.SIGTERM)
                # Once is enough, and a second signal may find the executor gone.
                elif not awake and received[0] in _SIGNALS:
                    awake = True
                    self._executor.create_task(_nothing)


def _nothing() -> None:
    pass
