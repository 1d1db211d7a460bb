"""The launch files under a real `launch`: same scenarios as test_launch_runner.py, same functions."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

launch_pytest = pytest.importorskip(
    "launch_pytest",
    reason="launch_pytest is not installed (it comes with a ROS distribution, not with the wheels); "
    "test_launch_runner.py runs the same scenarios through the package's own runner",
)

import launch_scenario as scenario  # noqa: E402
from launch import LaunchContext, LaunchDescription  # noqa: E402
from launch.actions import IncludeLaunchDescription, RegisterEventHandler  # noqa: E402
from launch.event_handlers import OnProcessExit  # noqa: E402
from launch.events.process import ProcessExited  # noqa: E402
from launch.launch_description_sources import PythonLaunchDescriptionSource  # noqa: E402
from launch.substitutions import PathJoinSubstitution  # noqa: E402
from launch_ros.substitutions import FindPackageShare  # noqa: E402
from ros_helpers import Probe  # noqa: E402

pytestmark = pytest.mark.ros


class Launched:
    """One launch file as a fixture gives it to a test: its workspace, its policy, how its processes ended."""

    def __init__(self, folder: Path) -> None:
        self.workspace = folder / "robot"
        self.policy_id = scenario.make_workspace(self.workspace)
        self.ended: dict[str, int] = {}

    def description(self, file: str, **arguments: str) -> LaunchDescription:
        path = PathJoinSubstitution([FindPackageShare("saferule_ros"), "launch", f"{file}.launch.py"])
        given = {"workspace": str(self.workspace), "namespace": scenario.NAMESPACE, **arguments}
        return LaunchDescription(
            [
                RegisterEventHandler(OnProcessExit(on_exit=self._ended)),
                IncludeLaunchDescription(PythonLaunchDescriptionSource(path), launch_arguments=given.items()),
                launch_pytest.actions.ReadyToTest(),
            ]
        )

    def ended_cleanly(self, nodes: tuple[str, ...]) -> None:
        assert self.ended == dict.fromkeys(nodes, 0)

    def _ended(self, event: ProcessExited, _context: LaunchContext) -> None:
        # The process's name has a number at its end: "policy_server-1".
        self.ended[event.process_name.rpartition("-")[0]] = event.returncode


@pytest.fixture
def launched(tmp_path: Path) -> Launched:
    return Launched(tmp_path)


@pytest.fixture
def probe() -> Iterator[Probe]:
    opened = Probe(int(os.environ["ROS_DOMAIN_ID"]))
    yield opened
    opened.close()


@launch_pytest.fixture
def sim(launched: Launched) -> LaunchDescription:
    return launched.description("sim", task=scenario.TASK)


@launch_pytest.fixture
def robot(launched: Launched) -> LaunchDescription:
    return launched.description("robot", unlearning="edge")


@launch_pytest.fixture
def edge_by_own_file(launched: Launched, tmp_path: Path) -> LaunchDescription:
    file = tmp_path / "own.yaml"
    file.write_text(scenario.ON_SIMULATED_TIME)
    return launched.description("edge", params_file=str(file))


@launch_pytest.fixture
def edge(launched: Launched) -> LaunchDescription:
    return launched.description("edge")


# What stands after `yield` runs when the launch has been shut down.
@pytest.mark.launch(fixture=sim)
def test_sim(launched: Launched, probe: Probe) -> Iterator[None]:
    scenario.simulated_robot_runs_and_records_an_episode(probe, launched.workspace, launched.policy_id)
    yield
    launched.ended_cleanly(scenario.SIM_NODES)


@pytest.mark.launch(fixture=robot)
def test_robot_with_patches_on_an_edge_box(launched: Launched, probe: Probe) -> Iterator[None]:
    scenario.robot_answers_observations(probe, launched.policy_id)
    yield
    launched.ended_cleanly(scenario.ROBOT_NODES)


@pytest.mark.launch(fixture=edge)
def test_edge(launched: Launched, probe: Probe) -> Iterator[None]:
    scenario.nodes_are_exactly(probe, scenario.EDGE_NODES)
    scenario.patches_can_be_asked_for(probe)
    yield
    launched.ended_cleanly(scenario.EDGE_NODES)


@pytest.mark.launch(fixture=edge_by_own_file)
def test_edge_by_a_parameter_file_of_ones_own(launched: Launched, probe: Probe) -> Iterator[None]:
    scenario.nodes_are_exactly(probe, scenario.EDGE_NODES)
    scenario.is_on_simulated_time(probe, *scenario.EDGE_NODES)
    yield
    launched.ended_cleanly(scenario.EDGE_NODES)
