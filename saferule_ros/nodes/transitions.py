"""Lifecycle transition callbacks whose faults are seen: rclpy turns any exception in one into a bare ERROR."""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable
from typing import TypeVar

from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

N = TypeVar("N", bound=LifecycleNode)
Transition = Callable[[N, LifecycleState], TransitionCallbackReturn]


def loud(callback: Transition[N]) -> Transition[N]:
    """Decorates a transition callback: an exception is logged with its traceback before rclpy swallows it."""

    @functools.wraps(callback)
    def wrapped(node: N, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return callback(node, state)
        except Exception:  # whatever it is: it is told, and goes on its way
            node.get_logger().error(f"fault in {callback.__name__}:\n{traceback.format_exc()}")
            raise

    return wrapped
