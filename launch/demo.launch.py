"""The whole loop, as `make demo` shows it, under ros2 launch.

For example:

    ros2 launch saferule_ros demo.launch.py seed:=2 out:=/tmp/demo

The demo starts the robot's nodes itself, when it has learned the policy that they are to serve, and in a ROS domain
that nobody uses: it sends actions, which must never reach a real robot. Launch fails if the demo does.
"""

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, Shutdown
from launch.events.process import ProcessExited
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackagePrefix, FindPackageShare

from saferule_ros.nodes.launching import PACKAGE, STOP_SECONDS


def ended(event: ProcessExited, _context: LaunchContext) -> Shutdown:
    """Ends the launch, successfully or not."""
    if event.returncode:
        # The one way to give `ros2 launch` an exit status other than 0.
        raise RuntimeError(f"the demo ended with status {event.returncode}; see the last lines of its output")
    return Shutdown(reason="the demo has ended")


def generate_launch_description() -> LaunchDescription:
    """See the module."""
    settings = PathJoinSubstitution([FindPackageShare(PACKAGE), "config", "demo.yaml"])
    arguments = {
        "seed": ("1", "seed of data, learning and episodes"),
        "out": ("runs/demo", "folder of the runs"),
        "report": ("report", "folder of the page that is written"),
        "settings": (settings, "demo settings; config/demo_quick.yaml takes a minute"),
    }
    command = [PathJoinSubstitution([FindPackagePrefix(PACKAGE), "lib", PACKAGE, "demo"])]
    for name in arguments:
        command += [f"--{name}", LaunchConfiguration(name)]
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=description)
                for name, (default, description) in arguments.items()
            ),
            ExecuteProcess(
                cmd=command, name="demo", output="screen", emulate_tty=True, sigterm_timeout=STOP_SECONDS, on_exit=ended
            ),
        ]
    )
