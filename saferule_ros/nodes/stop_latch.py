"""A `stop` holds until somebody activates the server, also across restarts: it is written down once it has gone out.

The file is that of policy/stop_mark.py. follow() is for the control thread, all else for the executor's.
"""

from __future__ import annotations

from collections.abc import Callable

from rclpy.lifecycle import LifecycleNode

from saferule_ros.nodes.serving import ControlPath
from saferule_ros.policy.errors import StoreError
from saferule_ros.policy.stop_mark import StopMark, StopMarkFile


class StopLatch:
    """Keeps a stop on the disk, and an autostart back.

    Args:
        node: whose executor writes.
        path: what is stopped.
        mark: beside the store.
        say: told in one line what happened, and whether that is a fault.
    """

    def __init__(
        self, node: LifecycleNode, path: ControlPath, mark: StopMarkFile, say: Callable[[str, bool], None]
    ) -> None:
        self._node = node
        self._path = path
        self._mark = mark
        self._say = say
        self._told = False  # the control thread has told the executor's of a stop
        self._kept = False  # which is on the disk
        self._refused = ""  # why it is not
        self._held_back = ""  # what an earlier process was stopped for

    @property
    def complaint(self) -> str:
        """That a stop is not on the disk, and why; "" if it is, or there is none."""
        return f"stopped, but a restart would undo it: {self._refused}" if self._refused else ""

    @property
    def held_back(self) -> str:
        """Why this process does not activate by itself, and what to do; "" if it may."""
        if not self._held_back:
            return ""
        return (
            f"not activated, as an earlier process was stopped until somebody activates: {self._held_back}. See to the "
            f"cause, then: ros2 lifecycle set {self._node.get_fully_qualified_name()} activate"
        )

    def read(self) -> None:
        """Looks whether an earlier process was stopped, see held_back."""
        self._held_back = self._mark.read()

    def release(self) -> None:
        """Somebody activates: that ends a stop, also one of an earlier process.

        Raises:
            StoreError: its mark cannot be removed; it would hold the next start back, although this one was asked for.
        """
        self._mark.remove()
        self._held_back = self._refused = ""
        self._told = self._kept = False

    def follow(self) -> None:
        """To be called after an action has gone out: has a stop written down."""
        if self._path.stopped and not self._told and self._node.executor is not None:
            self._told = True
            self._node.executor.create_task(self.keep)

    def keep(self) -> None:
        """Writes a stop down, so that no restart undoes it. In the executor's thread: the disk may take its time.

        A crash before that, some milliseconds after the stop, is one after which a policy acts again. To wait for the
        disk in the control thread instead would let a slow disk take the heartbeat away, in every stop.
        """
        stop = self._path.stop
        if stop is None or self._kept:
            return  # or it was activated again meanwhile
        try:
            self._mark.write(StopMark.now(stop.policy_id, stop.reason, stop.detail))
        except StoreError as error:
            if str(error) != self._refused:  # once, not with every try
                self._refused = str(error)
                self._say(self.complaint, True)
            return
        self._kept, self._refused = True, ""
        self._say(f"stopped until activated again, also after a restart: {stop.reason}: {stop.detail}", True)

    def look(self) -> None:
        """To be called now and then: there may be room on the disk by now."""
        if self._refused:
            self.keep()
