# ruff: noqa: F811  (a fixture that is imported is redefined by each parameter of its name)
"""The package's runner, on real node processes; and parameters as a node gets them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import DescribeParameters, SetParameters
from ros_helpers import DEADLINE, READY, Ros, ros  # noqa: F401
from saferule_ros.msg import PolicyStatus
from serving_samples import make_store

from saferule_ros.nodes import qos
from saferule_ros.nodes.node_process import STOP_STAGES, NodeProcess, RunnerError
from saferule_ros.nodes.runner import Runner, find_executable

pytestmark = pytest.mark.ros


def test_an_unknown_executable_is_an_error_that_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(RunnerError, match=r"No executable 'polcy_server'.*policy_server, "), Runner(tmp_path) as runner:
        runner.start("polcy_server")


def test_a_node_that_dies_before_it_is_ready_is_an_error_with_its_last_words(ros: Ros) -> None:
    ros.runner.start("policy_server")
    with pytest.raises(RunnerError, match=r"(?s)ended with status 2 before it was ready.*neither workspace nor store"):
        ros.runner.wait_ready(READY)


def test_a_node_that_dies_later_is_noticed(ros: Ros, tmp_path: Path) -> None:
    store, _ = make_store(tmp_path, 1)
    node = ros.runner.start("policy_server", parameters={"store": str(store.root)})
    ros.runner.wait_ready(READY)
    ros.runner.check_alive()
    with pytest.raises(RunnerError, match="runs already"):
        ros.runner.start("policy_server")
    node.signal(signal.SIGKILL)
    assert node.wait(DEADLINE) == -signal.SIGKILL
    with pytest.raises(RunnerError, match="policy_server ended with status -9"):
        ros.runner.check_alive()


def stubborn(tmp_path: Path, deaf_to: str) -> NodeProcess:
    """A process that says it is ready and does not listen to some signals."""
    script = f"""
        import signal
        from saferule_ros.nodes.readiness import notify
        for number in {deaf_to}:
            signal.signal(number, lambda *_: None)
        notify("READY=1")
        while True:
            signal.pause()
    """
    process = NodeProcess(
        "stubborn", [sys.executable, "-c", textwrap.dedent(script)], dict(os.environ), tmp_path / "log"
    )
    process.wait_ready(READY)
    return process


def test_a_process_that_is_deaf_to_signals_is_ended_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = tuple((number, 0.5) for number, _ in STOP_STAGES)
    monkeypatch.setattr("saferule_ros.nodes.node_process.STOP_STAGES", quick)
    assert stubborn(tmp_path, "(signal.SIGINT,)").stop() == -signal.SIGTERM
    assert stubborn(tmp_path, "(signal.SIGINT, signal.SIGTERM)").stop() == -signal.SIGKILL


def test_the_command_runs_nodes_until_it_is_interrupted(ros: Ros, tmp_path: Path) -> None:
    make_store(tmp_path, 1)
    params = tmp_path / "params.yaml"
    params.write_text(f"/**:\n  ros__parameters:\n    workspace: {tmp_path}\n")
    status = ros.probe.record(PolicyStatus, "robot1/policy_server/status", qos.LATCHED)
    command = ["-m", "saferule_ros.nodes.runner", "--params", str(params), "--logs", str(tmp_path / "logs")]
    command += ["--namespace", "/robot1", "policy_server", "dataset_recorder"]
    with subprocess.Popen([sys.executable, *command], cwd=tmp_path) as runner:
        ros.probe.wait_for(lambda: status and status[-1].state == "serving", "the policy is served", READY)
        runner.send_signal(signal.SIGINT)
        assert runner.wait(DEADLINE) == 0
    ros.probe.wait_for(lambda: status[-1].state == "shutdown", "the server was shut down")


def test_nodes_of_a_killed_runner_end_themselves(ros: Ros, tmp_path: Path) -> None:
    make_store(tmp_path, 1)
    params = tmp_path / "params.yaml"
    params.write_text(f"/**:\n  ros__parameters:\n    workspace: {tmp_path}\n")
    status = ros.probe.record(PolicyStatus, "policy_server/status", qos.LATCHED)
    command = ["-m", "saferule_ros.nodes.runner", "--params", str(params), "--logs", str(tmp_path / "logs")]
    with subprocess.Popen([sys.executable, *command, "policy_server"], cwd=tmp_path) as runner:
        ros.probe.wait_for(lambda: status and status[-1].state == "serving", "the policy is served", READY)
        runner.kill()
    ros.probe.wait_for(lambda: status[-1].state == "shutdown", "the server was shut down")


def test_parameters_tell_unit_and_range_and_refuse_changes_while_the_node_runs(ros: Ros, tmp_path: Path) -> None:
    store, _ = make_store(tmp_path, 1)
    ros.runner.start("policy_server", parameters={"store": str(store.root)})
    ros.runner.wait_ready(READY)
    request = DescribeParameters.Request(names=["stale_after", "reaction"])
    stale, reaction = ros.probe.call(DescribeParameters, "policy_server/describe_parameters", request).descriptors
    assert (
        stale.description == "oldest observation that is acted on; one that is overdue for so long is missed [s]"
        and stale.read_only
    )
    limits = stale.floating_point_range[0]
    assert (limits.from_value, limits.to_value) == (0.001, 60.0)
    assert reaction.additional_constraints == "Allowed: 'zero', 'hold', 'damp', 'stop'"
    value = ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=2.0)
    change = SetParameters.Request(parameters=[Parameter(name="stale_after", value=value)])
    result = ros.probe.call(SetParameters, "policy_server/set_parameters", change).results[0]
    assert not result.successful and "read-only" in result.reason


def test_a_node_that_cannot_start_ends_with_its_reason_in_good_order(tmp_path: Path) -> None:
    script = """
        from rclpy.node import Node
        from saferule_ros.errors import SaferuleError
        from saferule_ros.nodes import process

        class Refusing(Node):
            def start(self):
                raise SaferuleError("there is no room", "Make some")
            def stop(self):
                print("stopped")

        process.main(lambda: Refusing("refusing"))
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.returncode == 2 and "there is no room. Make some" in done.stderr and "Traceback" not in done.stderr
    assert "stopped" in done.stdout


def test_a_parameter_file_that_is_none_is_named(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("a: [\n")
    command = [sys.executable, str(find_executable("fallback")), "--ros-args", "--params-file", str(bad)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.returncode == 2 and str(bad) in done.stderr and "Traceback" not in done.stderr
