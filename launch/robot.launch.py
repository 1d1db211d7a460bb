"""A robot that serves a policy and records what it does; patches run here, or on an edge box.

With a contract, robot_bridge makes observations of the robot's own topics, and commands of actions.

For example:

    ros2 launch saferule_ros robot.launch.py workspace:=/var/lib/robot
    ros2 launch saferule_ros robot.launch.py workspace:=/var/lib/robot unlearning:=edge
    ros2 launch saferule_ros robot.launch.py workspace:=/var/lib/robot contract:=/etc/robot/contract.yaml
"""

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import EqualsSubstitution, LaunchConfiguration
from launch_ros.actions import Node

from saferule_ros.nodes.launching import common_arguments, include, saferule_node, value_of


def nodes(context: LaunchContext) -> list[Node]:
    """The nodes of the control loop."""
    workspace = {"workspace": value_of(context, "workspace")}
    guarded = value_of(context, "fallback") == "true"
    contract = value_of(context, "contract")
    return [
        saferule_node(context, "policy_server", {**workspace, "fallback": guarded}),
        saferule_node(context, "dataset_recorder", {**workspace, "contract": contract}),
        *([saferule_node(context, "robot_bridge", {"contract": contract})] if contract else []),
        *([saferule_node(context, "fallback")] if guarded else []),
    ]


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
            DeclareLaunchArgument(
                "fallback",
                default_value="true",
                choices=["true", "false"],
                description="start the node that commands the robot when policy_server is silent",
            ),
            DeclareLaunchArgument(
                "contract",
                default_value="",
                description="contract file: start robot_bridge with it; empty: the robot has observation and action",
            ),
            OpaqueFunction(function=nodes),
            include("edge", condition=IfCondition(EqualsSubstitution(LaunchConfiguration("unlearning"), "robot"))),
        ]
    )
