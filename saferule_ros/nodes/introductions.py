"""Which other nodes have met this one, in both directions.

DDS connects each pair of topics in its own time, and a message that is published before its reader has found the
writer is lost to that reader, whatever the quality of service. A publisher sees only its own half of that. But what a
process announces arrives at another in order: so a node that answers a service call through a client that was made
after our topics has met those topics [ours].
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from rcl_interfaces.srv import GetParameters
from rclpy.client import Client
from rclpy.node import Node
from rclpy.task import Future
from rclpy.topic_endpoint_info import TopicEndpointInfo

# A node without parameter services never answers (some command line tools), and neither does one that hangs.
PATIENCE = 3.0  # [s], far above what an answer takes on a busy machine
ASK_AGAIN = 0.5  # [s]; a call can be lost on the same ways as any message


class Acquaintance:
    """One node that is being asked; once it `answers`, it has met whatever the asking one had announced before.

    Args:
        node: who asks.
        name: full name of the one that is asked.
    """

    def __init__(self, node: Node, name: str) -> None:
        self.client: Client = node.create_client(GetParameters, f"{name}/get_parameters")
        self.since = self._asked = time.monotonic()
        self._calls: list[Future] = []

    def answers(self) -> bool:
        """Whether it has answered. Asks where it has not been asked, or not lately."""
        if any(call.done() for call in self._calls):
            return True
        late = time.monotonic() - self._asked > ASK_AGAIN
        if (not self._calls or late) and self.client.service_is_ready():
            self._calls.append(self.client.call_async(GetParameters.Request()))
            self._asked = time.monotonic()
        return False


class Introductions:
    """Asks other nodes for an answer, and remembers who gave one.

    Args:
        node: who asks. Its topics must exist by now.
        patience: after so long without an answer a node counts as met [s].
    """

    def __init__(self, node: Node, patience: float = PATIENCE) -> None:
        self._node = node
        self._patience = patience
        self._asked: dict[str, Acquaintance] = {}
        self._met: set[tuple[int, ...]] = set()  # endpoints: a node that was started again has new ones

    def outstanding(self, endpoints: Iterable[TopicEndpointInfo]) -> set[str]:
        """Full names of the nodes that have not answered yet; to be asked again until there are none.

        Args:
            endpoints: all those that matter; whoever has none among them is not waited for any longer.
        """
        waiting = set()
        for endpoint in endpoints:
            gid, name = tuple(endpoint.endpoint_gid), node_of(endpoint)
            if gid in self._met or name == self._node.get_fully_qualified_name():
                continue
            if name not in self._asked:
                self._asked[name] = Acquaintance(self._node, name)
            asked = self._asked[name]
            if asked.answers() or time.monotonic() - asked.since > self._patience:
                self._met.add(gid)
            else:
                waiting.add(name)
        for name in self._asked.keys() - waiting:
            self._node.destroy_client(self._asked.pop(name).client)
        return waiting


def node_of(endpoint: TopicEndpointInfo) -> str:
    """Of the node that an endpoint belongs to."""
    return f"{endpoint.node_namespace.rstrip('/')}/{endpoint.node_name}"
