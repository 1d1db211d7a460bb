"""Parameters of a node: validated when it starts and whenever they are changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import rclpy
from rclpy.context import Context
from rclpy.node import Node
from rclpy.parameter import Parameter

from saferule_ros.errors import SettingsError
from saferule_ros.nodes.parameters import load, on_change, parameter

pytestmark = pytest.mark.ros


@dataclass(frozen=True)
class Sample:
    """One parameter of each kind."""

    folder: str = parameter("", "where it lies", required=True)
    deadline: float = parameter(0.5, "time for it", unit="s", low=0.1, high=2.0, changeable=True)
    count: int = parameter(3, "how many", low=1, high=5)
    loud: bool = parameter(False, "whether it is loud")
    mode: str = parameter("slow", "how it runs", choices=("slow", "fast"), changeable=True)
    vector: tuple[float, ...] = parameter((), "some numbers", low=-1.0, high=1.0, changeable=True)


@pytest.fixture
def context() -> Iterator[Context]:
    made = Context()
    rclpy.init(context=made)
    yield made
    made.shutdown()


def node_with(context: Context, **given: Any) -> Node:
    overrides = [Parameter(name, value=value) for name, value in given.items()]
    return rclpy.create_node("sample", context=context, parameter_overrides=overrides)


def test_defaults_and_given_values_come_back_typed(context: Context) -> None:
    loaded = load(node_with(context, folder="/x", count=5, vector=[0.5, -1.0]), Sample)
    assert loaded == Sample(folder="/x", count=5, vector=(0.5, -1.0))
    assert load(node_with(context, folder="/x"), Sample) == Sample(folder="/x")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "folder of sample is not set. It is: where it lies"),
        ({"folder": "/x", "deadline": 3.0}, "deadline of sample is 3.0. Allowed: 0.1 to 2 s"),
        ({"folder": "/x", "deadline": float("nan")}, "deadline of sample is nan. Allowed: 0.1 to 2 s"),
        (
            {"folder": "/x", "deadline": 1},
            r"deadline of sample is 1. Give a number with a decimal point \(1.0, not 1\)",
        ),
        ({"folder": "/x", "count": 0}, "count of sample is 0. Allowed: 1 to 5"),
        ({"folder": "/x", "count": 2.5}, "count of sample is 2.5. Give a whole number"),
        ({"folder": "/x", "loud": "yes"}, "loud of sample is 'yes'. Give a true or false"),
        ({"folder": "/x", "mode": "fats"}, "mode of sample is 'fats'. Allowed: 'slow', 'fast'"),
        ({"folder": "/x", "vector": [0.0, 7.0]}, r"vector of sample is \(0.0, 7.0\). Allowed: -1 to 1"),
        ({"folder": "/x", "dedline": 1.0}, "no parameter 'dedline'. Did you mean deadline?"),
    ],
)
def test_a_wrong_value_is_an_error_with_the_value_and_what_is_allowed(
    context: Context, given: dict[str, Any], says: str
) -> None:
    with pytest.raises(SettingsError, match=says):
        load(node_with(context, **given), Sample)


def test_changes_are_checked_applied_and_otherwise_refused(context: Context) -> None:
    node = node_with(context, folder="/x")
    applied: list[Sample] = []
    on_change(node, load(node, Sample), applied.append)

    def change(name: str, value: Any) -> str:
        result = node.set_parameters([Parameter(name, value=value)])[0]
        return "" if result.successful else str(result.reason)

    assert change("deadline", 1.5) == "" and applied[-1] == Sample(folder="/x", deadline=1.5)
    assert change("vector", [0.5]) == "" and applied[-1] == Sample(folder="/x", deadline=1.5, vector=(0.5,))
    count = len(applied)
    assert "out of range" in change("deadline", 9.0)
    assert "Allowed: 'slow', 'fast'" in change("mode", "fats")
    assert "Allowed: -1 to 1" in change("vector", [2.0])
    assert "read-only" in change("count", 4)
    assert len(applied) == count
