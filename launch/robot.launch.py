"""A robot that serves a policy and records what it does; patches run here, or on an edge box.

For example:

    ros2 launch saferule_ros robot.launch.py workspace:=/var/lib/robot
    ros2 launch saferule_ros robot.launch.py workspace:=/var/lib/robot unlearning:=edge
"""

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import EqualsSubstitution, LaunchConfiguration
from launch_ros.actions import Node

from saferule_ros.nodes.launching import common_arguments, include, saferule_node, value_of


def nodes(context: LaunchContext) -> list[Node]:
    """The two nodes of the control loop."""
    workspace = {"workspace": value_of(context, "workspace")}
    return [saferule_node(context, name, workspace) for name in ("policy_server", "dataset_recorder")]


def generate_launch_description() -> LaunchDescription:
    """See the module."""
    return LaunchDescription(
        [
            *common_arguments("robot"),
            DeclareLaunchArgument(
                "unlearning",
                default_value="robot",
                choices=["robot", "edge"],
                description="where patches run: here, or on another machine that runs edge.launch.py",
            ),
            OpaqueFunction(function=nodes),
            include("edge", condition=IfCondition(EqualsSubstitution(LaunchConfiguration("unlearning"), "robot"))),
        ]
    )
