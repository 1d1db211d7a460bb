"""Which ROS is used, and where its virtual environment and its build lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .trouble import Trouble

DEFAULT_DISTRO = "kilted"  # the one whose wheels carry the simulator and ROS on one interpreter, and the newest
DISTROS_WITH_WHEELS = ("kilted", "jazzy")


@dataclass(frozen=True)
class Places:
    """Where one ROS distribution's part of the working tree lies.

    Attributes:
        root: the repository.
        distro: the distribution's name, e.g. "kilted".
        sourced: True where a distribution that the user sourced is used, False where it comes as wheels.
    """

    root: Path
    distro: str
    sourced: bool

    @property
    def name(self) -> str:
        return f"{self.distro}-sourced" if self.sourced else self.distro

    @property
    def venv(self) -> Path:
        return self.root / ".venv" / self.name

    @property
    def python(self) -> Path:
        return self.venv / "bin" / "python"

    @property
    def build(self) -> Path:
        return self.root / "build" / self.name

    @property
    def install(self) -> Path:
        return self.root / "install" / self.name

    @property
    def log(self) -> Path:
        return self.root / "log" / self.name

    @property
    def shell_file(self) -> Path:
        """What a shell sources to work in this environment; with_env does it for a single command."""
        return self.venv / "environment.bash"


def choose(root: Path, wanted: str, environ: Mapping[str, str]) -> Places:
    """Decides which ROS is used.

    A sourced distribution is used when nothing or its own name was asked for, wheels otherwise. Both
    variables are looked at: ROS_DISTRO alone may be set in a shell in which nothing was sourced.

    Raises:
        Trouble: `wanted` names a distribution that is neither sourced nor there as wheels.
    """
    sourced = environ.get("ROS_DISTRO", "") if environ.get("AMENT_PREFIX_PATH") else ""
    if sourced and wanted in ("", sourced):
        return Places(root, sourced, sourced=True)
    distro = wanted or DEFAULT_DISTRO
    if distro not in DISTROS_WITH_WHEELS:
        raise Trouble(
            f"ROS={distro} is not sourced (ROS_DISTRO={environ.get('ROS_DISTRO', '')!r}), and has no wheels.",
            f"Use one of {', '.join(DISTROS_WITH_WHEELS)}; or source /opt/ros/{distro}/setup.bash first.",
        )
    return Places(root, distro, sourced=False)
