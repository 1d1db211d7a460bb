# ruff: noqa: F811  (a fixture that is imported is redefined by each parameter of its name)
"""The parameter files in config/ say all that the nodes can be told, and nothing that they refuse."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml
from ament_index_python.packages import get_package_share_directory
from ros_helpers import READY, Ros, ros  # noqa: F401
from saferule_ros.msg import PolicyStatus
from serving_samples import make_store

from saferule_ros.nodes import (
    dataset_recorder,
    fallback,
    policy_parameters,
    qos,
    robot_bridge,
    sim_bridge,
    unlearning_server,
)

pytestmark = pytest.mark.ros

PARAMETERS = {
    "policy_server": policy_parameters.Parameters,
    "fallback": fallback.Parameters,
    "dataset_recorder": dataset_recorder.Parameters,
    "unlearning_server": unlearning_server.Parameters,
    "robot_bridge": robot_bridge.Parameters,
    "sim_bridge": sim_bridge.Parameters,
}
# Stand in a file as comments, because an empty list has no type in YAML.
UNSET = {"safe_action"}


def config(scenario: str) -> Path:
    return Path(get_package_share_directory("saferule_ros")) / "config" / f"{scenario}.yaml"


@pytest.mark.parametrize(
    ("scenario", "nodes"),
    [
        ("robot", {"policy_server", "fallback", "robot_bridge", "dataset_recorder", "unlearning_server"}),
        ("edge", {"unlearning_server"}),
        ("sim", {"sim_bridge", "policy_server", "dataset_recorder", "unlearning_server"}),
    ],
)
def test_a_file_sets_every_parameter_of_its_nodes(scenario: str, nodes: set[str]) -> None:
    content: dict[str, Any] = yaml.safe_load(config(scenario).read_text())
    assert set(content) == {f"/**/{node}" for node in nodes}
    for node in nodes:
        given = set(content[f"/**/{node}"]["ros__parameters"]) - {"use_sim_time"}
        known = {field.name for field in dataclasses.fields(PARAMETERS[node])}
        assert given == known - UNSET


@pytest.mark.parametrize("namespace", ["", "/robot1"])
def test_all_nodes_of_a_simulated_robot_start_with_its_file(ros: Ros, tmp_path: Path, namespace: str) -> None:
    _, ids = make_store(tmp_path, 1)
    status = ros.probe.record(PolicyStatus, f"{namespace}/policy_server/status", qos.LATCHED)
    for node in set(PARAMETERS) - {"fallback", "robot_bridge"}:
        own = {} if node == "sim_bridge" else {"workspace": str(tmp_path)}
        ros.runner.start(node, params_file=config("sim"), parameters=own, namespace=namespace)
    ros.runner.wait_ready(READY)
    ros.runner.check_alive()
    ros.probe.wait_for(lambda: status and status[-1].state == "serving", "the policy is served")
    assert status[-1].active_id == ids[0]
    assert set(ros.runner.stop().values()) == {0}
