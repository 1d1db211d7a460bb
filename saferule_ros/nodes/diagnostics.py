"""What a node says about its health on `/diagnostics`, regularly and at once when something changes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from saferule_ros.nodes import qos


class Level(Enum):
    """How bad it is: the levels of diagnostic_msgs/DiagnosticStatus."""

    OK = DiagnosticStatus.OK
    WARN = DiagnosticStatus.WARN
    ERROR = DiagnosticStatus.ERROR


@dataclass(frozen=True)
class Health:
    """One statement: how bad, in one line, with values. Numbers carry their unit in the name."""

    level: Level
    message: str
    values: Mapping[str, object] = field(default_factory=dict)


class Diagnostics:
    """Publishes what `report` says, every `period` [s] of real time and whenever `publish` is called."""

    def __init__(self, node: Node, period: float, report: Callable[[], Health]) -> None:
        self._node = node
        self._report = report
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", qos.REPORTS)
        # Steady time: a simulation that stands still is no reason to fall silent.
        self._timer = node.create_timer(period, self.publish, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def publish(self) -> None:
        """Says it now."""
        health = self._report()
        message = DiagnosticArray()
        message.header.stamp = self._node.get_clock().now().to_msg()
        message.status.append(
            DiagnosticStatus(
                level=health.level.value,
                name=self._node.get_fully_qualified_name(),
                message=health.message,
                values=[KeyValue(key=key, value=str(value)) for key, value in health.values.items()],
            )
        )
        self._publisher.publish(message)
