"""The file that puts a shell into the environment: people source it, with_env and make go through it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from .places import Places

HEADER = """\
# Written by the set-up step. Source it in bash to work with saferule_ros and the ROS 2 that it was built on.
export VIRTUAL_ENV={venv}
"""

# The wheels come with a hook that starts every Python a second time, to set LD_LIBRARY_PATH. Set here, the
# hook has nothing to do: processes start once, and an early signal cannot hit the first of two.
WHEELS = """\
unset ROS_DISTRO ROS_VERSION ROS_PYTHON_VERSION COLCON_PREFIX_PATH PYTHONPATH PYTHONHOME
export AMENT_PREFIX_PATH="$VIRTUAL_ENV" CMAKE_PREFIX_PATH="$VIRTUAL_ENV"
export LD_LIBRARY_PATH={libraries}"${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}"
export _ROS_WHEELS_BOOTSTRAP_COMPLETE=1
"""

# Python compiles what it imports. Kept in the environment, that makes a process that imports torch or rclpy start in
# half the time; who has switched it off, as images do, wants source folders clean, which they are.
FOOTER = """\
unset PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX="${{PYTHONPYCACHEPREFIX:-$VIRTUAL_ENV/__pycache__}}"
if [ -f {setup} ]; then . {setup}; fi
export PATH="$VIRTUAL_ENV/bin:$PATH"
export ROS_AUTOMATIC_DISCOVERY_RANGE="${{ROS_AUTOMATIC_DISCOVERY_RANGE:-LOCALHOST}}"
export MUJOCO_GL="${{MUJOCO_GL:-egl}}"
"""


def libraries(places: Places) -> list[Path]:
    """Where the wheels keep their shared libraries."""
    return [places.venv / "lib", *sorted(places.venv.glob("lib/python3.*/site-packages/ros_*.libs"))]


def write(places: Places) -> None:
    """Writes the file at `places.shell_file`, if it would be another."""
    text = HEADER.format(venv=shlex.quote(str(places.venv)))
    if not places.sourced:
        text += WHEELS.format(libraries=shlex.quote(":".join(map(str, libraries(places)))))
    text += FOOTER.format(setup=shlex.quote(str(places.install / "local_setup.bash")))
    if not places.shell_file.is_file() or places.shell_file.read_text() != text:
        places.shell_file.write_text(text)


def command(places: Places, words: list[str]) -> list[str]:
    """`words` as a command line that runs in the environment and leaves no shell behind it."""
    script = f'. {shlex.quote(str(places.shell_file))} && exec "$@"'
    return ["bash", "-c", script, "with_env", *words]


def outside(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` without what an environment of this kind, or a running virtual environment, has set in it.

    pip and venv must see their own environment only, even where make was started from within another.
    """
    dropped = {
        "VIRTUAL_ENV", "PYTHONPYCACHEPREFIX", "PYTHONHOME", "_ROS_WHEELS_BOOTSTRAP_COMPLETE", "LD_LIBRARY_PATH",
        "PYTHONPATH",
    }  # fmt: skip
    kept = {name: value for name, value in environ.items() if name not in dropped}
    venvs = {environ.get("VIRTUAL_ENV", "")} | ({sys.prefix} if sys.prefix != sys.base_prefix else set())
    inside = {f"{venv}/bin" for venv in venvs if venv}
    kept["PATH"] = ":".join(part for part in environ.get("PATH", "").split(":") if part not in inside)
    return kept
