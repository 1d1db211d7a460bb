"""What the launch files share: their arguments, and how a node of this package is started.

Imports `launch`, which a ROS distribution has and the wheels do not; nothing else here needs it.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from launch import Action, LaunchContext
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

PACKAGE = "saferule_ros"
# Launch sends SIGINT, and force only after so many seconds: dataset_recorder seals the open episode,
# unlearning_server cancels its job and answers those who wait for it.
STOP_SECONDS = "10"
# A process that died is started again after so many seconds: not at once, so that a fault that persists does
# not keep a core busy.
RESPAWN_SECONDS = 2.0

_COMMON = ("params_file", "workspace", "namespace", "use_sim_time", "respawn", "log_level")


def common_arguments(scenario: str, *, use_sim_time: bool | None = None, respawn: bool = True) -> list[Action]:
    """The arguments that every launch file has; config/<scenario>.yaml is the default parameter file."""
    config = PathJoinSubstitution([FindPackageShare(PACKAGE), "config", f"{scenario}.yaml"])
    switch = {"choices": ["true", "false"]}
    return [
        DeclareLaunchArgument("params_file", default_value=config, description="ROS parameters of the nodes"),
        DeclareLaunchArgument(
            "workspace",
            default_value="",
            description="folder of store, bags, dataset, checkpoints and jobs; empty: as params_file says",
        ),
        DeclareLaunchArgument("namespace", default_value="", description="namespace of the nodes"),
        DeclareLaunchArgument(
            "use_sim_time",
            default_value="" if use_sim_time is None else _word(use_sim_time),
            description="take the time from /clock; empty: as params_file says",
            choices=["", "true", "false"],
        ),
        DeclareLaunchArgument(
            "respawn", default_value=_word(respawn), description="start a node that has died again", **switch
        ),
        DeclareLaunchArgument("log_level", default_value="info", description="debug, info, warn or error"),
    ]


def saferule_node(
    context: LaunchContext, executable: str, overrides: Mapping[str, Any] | None = None, **more: Any
) -> Node:
    """A node of this package, named like its executable.

    Args:
        context: its common arguments are used.
        executable: e.g. "policy_server".
        overrides: parameters that win over the file; empty strings are left out.
        more: for `launch_ros.actions.Node`.
    """
    given = {name: LaunchConfiguration(name).perform(context) for name in _COMMON}
    chosen = {name: value for name, value in (overrides or {}).items() if value != ""}
    if given["use_sim_time"]:
        chosen["use_sim_time"] = given["use_sim_time"] == "true"
    arguments: dict[str, Any] = {
        "respawn": given["respawn"] == "true",
        "respawn_delay": RESPAWN_SECONDS,
        "sigterm_timeout": STOP_SECONDS,
        "output": "screen",
    }
    return Node(
        package=PACKAGE,
        executable=executable,
        name=executable,
        exec_name=executable,  # in the log; otherwise the prefix would stand there
        namespace=given["namespace"],
        parameters=[given["params_file"], *([chosen] if chosen else [])],
        ros_arguments=["--log-level", given["log_level"]],
        **{**arguments, **more},
    )


def value_of(context: LaunchContext, argument: str) -> str:
    """What a launch argument was set to."""
    return LaunchConfiguration(argument).perform(context)


def include(scenario: str, arguments: Iterable[str] = (), **more: Any) -> IncludeLaunchDescription:
    """Another launch file of this package, with the common arguments and these passed on."""
    path = PathJoinSubstitution([FindPackageShare(PACKAGE), "launch", f"{scenario}.launch.py"])
    names = (*_COMMON, *arguments)
    return IncludeLaunchDescription(
        PythonLaunchDescriptionSource(path),
        launch_arguments=[(name, LaunchConfiguration(name)) for name in names],
        **more,
    )


def _word(value: bool) -> str:
    return "true" if value else "false"
