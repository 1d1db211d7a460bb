"""Requests that are always answered: what goes wrong with one is a refusal that says so, and not the node's end.

An exception that leaves a callback ends the executor's spinning, and with it the node; whoever asked waits for ever.
"""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from rclpy.node import Node

from saferule_ros.errors import SaferuleError
from saferule_ros.nodes.background import FaultInProgramError


class SystemRefusedError(SaferuleError):
    """The operating system refuses: a disk that fails or is full, a mount that has gone stale."""


@contextmanager
def only_refusals(node: Node, hint: str) -> Iterator[None]:
    """What is raised within comes out as one of this package's errors, whatever it was.

    Args:
        node: in whose log the traceback of a fault in the program goes.
        hint: what to do where the operating system refuses.

    Raises:
        SaferuleError: as it was.
        SystemRefusedError: in place of an OSError.
        FaultInProgramError: in place of anything else, as of work beside the executor (`Background`).
    """
    try:
        yield
    except SaferuleError:
        raise
    except OSError as error:
        raise SystemRefusedError(f"the operating system refuses: {error}", hint) from error
    except Exception as error:  # whatever it is: it is told, and the next request may be another
        node.get_logger().error(traceback.format_exc())
        raise FaultInProgramError(f"a fault in the program: {error!r}") from error
