"""A simulated robot: sim_bridge behind the topics of a robot, and what robot.launch.py starts.

For example:

    ros2 launch saferule_ros sim.launch.py workspace:=/tmp/robot task:=SafetyPointCircle1
"""

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, Shutdown
from launch_ros.actions import Node

from saferule_ros.nodes.launching import common_arguments, include, saferule_node, value_of


def nodes(context: LaunchContext) -> list[Node]:
    """The simulator; without it there is no robot, so its end is the end of all."""
    overrides = {"task": value_of(context, "task"), "mode": value_of(context, "mode")}
    return [
        saferule_node(context, "sim_bridge", overrides, respawn=False, on_exit=Shutdown(reason="sim_bridge has ended"))
    ]


def generate_launch_description() -> LaunchDescription:
    """See the module."""
    return LaunchDescription(
        [
            # A node that dies in a simulation is to be looked at, not started again.
            *common_arguments("sim", use_sim_time=True, respawn=False),
            DeclareLaunchArgument(
                "task",
                default_value="",
                description="task, e.g. SafetyPointCircle1; empty: as params_file says",
            ),
            DeclareLaunchArgument(
                "mode",
                default_value="",
                choices=["", "lock_step", "real_time"],
                description="lock_step waits for each action; empty: as params_file says",
            ),
            DeclareLaunchArgument(
                "unlearning",
                default_value="robot",
                choices=["robot", "edge"],
                description="as in robot.launch.py",
            ),
            DeclareLaunchArgument(
                "fallback",
                default_value="false",
                choices=["true", "false"],
                description="as in robot.launch.py; a simulator that waits for each action needs none",
            ),
            include("robot", ["unlearning", "fallback"]),
            OpaqueFunction(function=nodes),
        ]
    )
