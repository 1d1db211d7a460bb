"""Who is there for sim_bridge to work with: questions to the ROS graph."""

from __future__ import annotations

from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.subscription import Subscription
from rclpy.topic_endpoint_info import TopicEndpointInfo

from saferule_ros.nodes.introductions import Introductions, node_of


class Company:
    """The nodes around a sim_bridge.

    Args:
        node: the sim_bridge.
        observations: its publisher of observations.
        actions: its subscription to actions.
        recorded: its subscription to the recorder's sealed episodes.
    """

    def __init__(self, node: Node, observations: Publisher, actions: Subscription, recorded: Subscription) -> None:
        self._node = node
        self._observations = observations
        self._action_topic = actions.topic_name
        self._recorded_topic = recorded.topic_name
        self._introductions = Introductions(node)

    def others_that_act(self) -> set[str]:
        """Full names of the other nodes that publish actions."""
        return self._others(self._node.get_publishers_info_by_topic(self._action_topic))

    def others_that_answer(self) -> set[str]:
        """Those that also listen to observations, and are connected to ours."""
        if self._observations.get_subscription_count() == 0:
            return set()
        listeners = self._node.get_subscriptions_info_by_topic(self._observations.topic_name)
        return self.others_that_act() & self._others(listeners)

    def recorders(self) -> set[str]:
        """Full names of the nodes that announce sealed episodes."""
        return self._others(self._node.get_publishers_info_by_topic(self._recorded_topic))

    def missing_for_policy(self) -> str:
        """What keeps an episode driven by a policy from starting; empty if nothing does."""
        if self.others_that_answer():
            return ""
        acting = self.others_that_act()
        if acting:
            return f"{_names(acting)} publish(es) {self._action_topic} but does not listen to " + str(
                self._observations.topic_name
            )
        return f"no node publishes {self._action_topic}; start policy_server, or see its status for why it is inactive"

    def missing_for_script(self) -> str:
        """What keeps an episode driven by a script from starting; empty if nothing does."""
        acting = self.others_that_act()
        if acting:
            return f"{_names(acting)} publish(es) {self._action_topic}, too; deactivate or stop it first"
        if self.recorders() and self._observations.get_subscription_count() == 0:
            return f"{_names(self.recorders())} is not connected to {self._observations.topic_name} yet"
        return ""

    def should_have_answered(self) -> str:
        """Names for the error when no answer came."""
        answering = self.others_that_answer()
        return _names(answering) if answering else "no node: none publishes " + str(self._action_topic)

    def strangers(self) -> set[str]:
        """Full names of nodes that may not hear us yet, or we them. Ask until there are none: a few tenths of a second,
        and seconds for a node that does not answer at all."""
        topics = (self._action_topic, self._recorded_topic)
        endpoints = [e for topic in topics for e in self._node.get_publishers_info_by_topic(topic)]
        endpoints += self._node.get_subscriptions_info_by_topic(self._observations.topic_name)
        return self._introductions.outstanding(endpoints)

    def _others(self, endpoints: list[TopicEndpointInfo]) -> set[str]:
        own = self._node.get_fully_qualified_name()
        return {node_of(endpoint) for endpoint in endpoints} - {own}


def _names(nodes: set[str]) -> str:
    return ", ".join(sorted(nodes))
