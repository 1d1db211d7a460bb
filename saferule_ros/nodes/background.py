"""Work that must not hold the executor's thread: done in a thread, awaited by a service callback."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from typing import Generic, TypeVar

from rclpy.node import Node
from rclpy.task import Future

from saferule_ros.errors import SaferuleError

T = TypeVar("T")

# Work under way. A thread that ends when its executor has been shut down must leave that alone.
_under_way: set[Background] = set()
_changing = threading.Lock()


def abandon_all() -> None:
    """From here on nobody is told of results: called before the executor is shut down."""
    with _changing:
        _under_way.clear()


class FaultInProgramError(SaferuleError):
    """Work failed as nobody foresaw. Its traceback is in the log."""


class Background(Generic[T]):
    """One piece of work in a daemon thread. In an `async def` callback: `result = await Background(...).done()`.

    The callback must be in a ReentrantCallbackGroup: a mutually exclusive one stays taken while it awaits, and
    nothing else in that group would run.

    The thread is a daemon: a process that is told to stop does not wait for long work, which therefore has to leave
    things whole when it is cut off at any instant (as the policy store does).

    Args:
        node: whose executor awaits.
        name: of the thread.
        work: what to do; touches nothing that callbacks touch.
    """

    def __init__(self, node: Node, name: str, work: Callable[[], T]) -> None:
        self._node = node
        self._executor = node.executor
        self._work = work
        self._result: list[T] = []
        self._error: BaseException | None = None
        self._finished: Future = Future(executor=self._executor)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        with _changing:
            _under_way.add(self)
        self._thread.start()

    async def done(self) -> T:
        """The work's result; raises what it raised.

        Raises:
            FaultInProgramError: in place of what is neither of this package's errors nor of the system's: no fault in
                what is done beside control may end it.
        """
        await self._finished
        if isinstance(self._error, Exception) and not isinstance(self._error, SaferuleError | OSError):
            self._node.get_logger().error("".join(traceback.format_exception(self._error)))
            raise FaultInProgramError(f"a fault in the program: {self._error!r}") from self._error
        if self._error is not None:
            raise self._error
        return self._result[0]

    @property
    def told(self) -> bool:
        """Whether those who await have been told that it ended."""
        return self._finished.done()

    def join(self, deadline: float) -> None:
        """Waits up to `deadline` [s] for the thread."""
        self._thread.join(deadline)

    def _run(self) -> None:
        try:
            self._result.append(self._work())
        except BaseException as error:  # noqa: BLE001 - nothing is swallowed: it is raised where it is awaited
            self._error = error
        with _changing:
            if self not in _under_way:
                return
            _under_way.discard(self)
            self._finished.set_result(None)
            if self._executor is not None:
                self._executor.wake()  # an executor looks at what awaits when it wakes up
