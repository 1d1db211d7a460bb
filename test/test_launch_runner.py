"""The scenarios of the launch files, through the package's own runner: the same behaviour without `launch`."""
# ruff: noqa: F811  (a fixture and the arguments that ask for it)

from pathlib import Path

import launch_scenario as scenario
import pytest
from ament_index_python.packages import get_package_share_directory
from ros_helpers import READY, Ros, ros  # noqa: F401

pytestmark = pytest.mark.ros


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    return tmp_path / "robot"


@pytest.fixture
def policy_id(workspace: Path) -> str:
    return scenario.make_workspace(workspace)


def start(ros: Ros, file: str, nodes: tuple[str, ...], workspace: Path) -> None:
    params_file = Path(get_package_share_directory("saferule_ros")) / "config" / f"{file}.yaml"
    own = {"sim_bridge": {"task": scenario.TASK}, "fallback": {}}
    for node in nodes:
        parameters = own.get(node, {"workspace": str(workspace)})
        ros.runner.start(node, params_file=params_file, parameters=parameters, namespace=f"/{scenario.NAMESPACE}")
    ros.runner.wait_ready(READY)


def test_edge_by_a_parameter_file_of_ones_own(ros: Ros, workspace: Path, policy_id: str, tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(scenario.ON_SIMULATED_TIME)
    (node,) = scenario.EDGE_NODES
    ros.runner.start(
        node, params_file=file, parameters={"workspace": str(workspace)}, namespace=f"/{scenario.NAMESPACE}"
    )
    ros.runner.wait_ready(READY)
    scenario.is_on_simulated_time(ros.probe, node)
    all_end_cleanly(ros, scenario.EDGE_NODES)


def all_end_cleanly(ros: Ros, nodes: tuple[str, ...]) -> None:
    assert ros.runner.stop() == dict.fromkeys(nodes, 0)


def test_sim(ros: Ros, workspace: Path, policy_id: str) -> None:
    start(ros, "sim", scenario.SIM_NODES, workspace)
    scenario.simulated_robot_runs_and_records_an_episode(ros.probe, workspace, policy_id)
    all_end_cleanly(ros, scenario.SIM_NODES)


def test_robot_with_patches_on_an_edge_box(ros: Ros, workspace: Path, policy_id: str) -> None:
    start(ros, "robot", scenario.ROBOT_NODES, workspace)
    scenario.robot_answers_observations(ros.probe, policy_id)
    all_end_cleanly(ros, scenario.ROBOT_NODES)


def test_edge(ros: Ros, workspace: Path, policy_id: str) -> None:
    start(ros, "edge", scenario.EDGE_NODES, workspace)
    scenario.nodes_are_exactly(ros.probe, scenario.EDGE_NODES)
    scenario.patches_can_be_asked_for(ros.probe)
    all_end_cleanly(ros, scenario.EDGE_NODES)
