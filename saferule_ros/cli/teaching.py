"""How `saferule` fails: one red line that says what is wrong, with the value, and one that says what to do.

Exit status: 0 done, 1 a check failed (a gate, a patch, a limit), 2 the input was wrong, 130 cancelled by Ctrl-C.
A defect of this program keeps its traceback.
"""

from typing import Any

import typer
from typer.core import TyperGroup

from saferule_ros.errors import SaferuleError

ORDER = [
    "collect", "contract", "safeguard", "data", "poison", "train", "evaluate", "forget", "unlearn", "checkpoints",
    "export", "patch", "policy", "keys", "audit", "compare", "grid", "demo", "demo-results", "demo-report",
]  # fmt: skip

CHECK_FAILED, WRONG_INPUT, CANCELLED = 1, 2, 130

# What verbs need beyond the core, by the module that is missing where it is not installed.
_LEARNING = "pip install 'saferule_ros[learning]'"
_SIM = "pip install 'saferule_ros[sim]' and, without its dependencies, safety-gymnasium==1.0.0"
_ROS = "Source a ROS 2 set-up with this package built (colcon build), or run `make demo`, which sets all of it up"
EXTRAS = {
    "torch": _LEARNING, "safetensors": _LEARNING, "onnxscript": _LEARNING, "onnx": _LEARNING, "onnxruntime": _LEARNING,
    "safety_gymnasium": _SIM, "gymnasium": _SIM, "mujoco": _SIM, "matplotlib": _SIM, "jinja2": _SIM, "PIL": _SIM,
    "h5py": "pip install h5py", "minari": "pip install --no-deps minari==0.5.0",
    "rclpy": _ROS, "rosbag2_py": _ROS, "rosidl_runtime_py": _ROS, "saferule_ros.msg": _ROS, "saferule_ros.srv": _ROS,
    "saferule_ros.action": _ROS, "cryptography": "pip install 'saferule_ros'",
}  # fmt: skip


def fail(what: str, hint: str = "", status: int = WRONG_INPUT) -> typer.Exit:
    """Says what is wrong on standard error; raise what it returns."""
    typer.secho(f"error: {what}", fg=typer.colors.RED, err=True)
    if hint:
        typer.echo(f"  {hint}", err=True)
    return typer.Exit(status)


class TeachingGroup(TyperGroup):
    """The root command: what its verbs raise for the user's eyes ends here."""

    def list_commands(self, ctx: Any) -> list[str]:
        """In the order in which they are used."""
        return sorted(super().list_commands(ctx), key=ORDER.index)

    def invoke(self, ctx: Any) -> Any:
        """Runs the verb."""
        try:
            return super().invoke(ctx)
        except SaferuleError as error:
            raise fail(error.what, error.hint) from None
        except ModuleNotFoundError as error:
            hint = EXTRAS.get(error.name or "")
            if hint is None:
                raise
            raise fail(f"{ctx.invoked_subcommand!r} needs {error.name}, which is not installed", hint) from None
        except BrokenPipeError:  # `saferule … | head`: typer ends quietly
            raise
        except OSError as error:  # a full disk, a folder that may not be written to
            named = f" ({error.filename})" if error.filename else ""
            raise fail(
                f"{error.strerror or error}{named}", "Check the path, its owner and the room on its disk"
            ) from None
