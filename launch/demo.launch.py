"""The whole loop as `make demo` shows it, under ros2 launch: a simulated robot, and who repairs it.

For example:

    ros2 launch saferule_ros demo.launch.py workspace:=/tmp/robot seed:=1

Ends when the operator is done; the operator's exit status says whether the policy was repaired.
"""

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, Shutdown
from launch_ros.actions import Node

from saferule_ros.nodes.launching import common_arguments, include, saferule_node, value_of


def operator(context: LaunchContext) -> list[Node]:
    """The process that does what a person would: run episodes, forget, swap, roll back, report."""
    overrides = {"workspace": value_of(context, "workspace"), "seed": int(value_of(context, "seed"))}
    return [
        saferule_node(
            context,
            "demo",
            overrides,
            respawn=False,
            on_exit=Shutdown(reason="the demo has ended"),
            emulate_tty=True,
        )
    ]


def generate_launch_description() -> LaunchDescription:
    """See the module."""
    return LaunchDescription(
        [
            *common_arguments("demo", use_sim_time=True, respawn=False),
            DeclareLaunchArgument(
                "task",
                default_value="",
                description="task, e.g. SafetyPointCircle1; empty: as params_file says",
            ),
            DeclareLaunchArgument("mode", default_value="", description="as in sim.launch.py"),
            DeclareLaunchArgument("unlearning", default_value="robot", description="as in robot.launch.py"),
            DeclareLaunchArgument("seed", default_value="1", description="seed of data, learning and episodes"),
            include("sim", ["task", "mode", "unlearning"]),
            OpaqueFunction(function=operator),
        ]
    )
