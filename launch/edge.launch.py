"""unlearning_server alone: beside a robot's control loop, or on an edge box that shares its workspace.

For example:

    ros2 launch saferule_ros edge.launch.py workspace:=/mnt/robot namespace:=robot1
"""

from launch import LaunchContext, LaunchDescription
from launch.actions import OpaqueFunction
from launch_ros.actions import Node

from saferule_ros.nodes.launching import common_arguments, saferule_node, value_of

# The server steps back behind the control loop; its worker steps back further (parameter `nice`).
STEP_BACK = "nice -n 5"


def nodes(context: LaunchContext) -> list[Node]:
    """The one node."""
    workspace = {"workspace": value_of(context, "workspace")}
    return [saferule_node(context, "unlearning_server", workspace, prefix=STEP_BACK)]


def generate_launch_description() -> LaunchDescription:
    """See the module."""
    return LaunchDescription([*common_arguments("edge"), OpaqueFunction(function=nodes)])
