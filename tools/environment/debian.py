"""Debian packages that are needed: which are missing, and the command that installs them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .run import run
from .say import Step
from .trouble import Trouble


@dataclass(frozen=True)
class Need:
    """A Debian package, and the command that makes it superfluous when it is found by other means."""

    package: str
    reason: str
    command: str = ""


NEEDS = (
    Need("make", "runs CMake's build", "make"),
    Need("cmake", "builds the ROS messages", "cmake"),
    Need("g++", "compiles the ROS messages", "g++"),
    Need("libegl1", "draws the simulator's pictures without a screen"),
    Need("libegl-mesa0", "draws the simulator's pictures without a GPU"),
    Need("libgl1-mesa-dri", "draws the simulator's pictures without a GPU"),
    Need("libopengl0", "draws the simulator's pictures without a screen"),
)


def is_installed(package: str) -> bool:
    """Whether dpkg has `package` installed (not just its left-over configuration)."""
    answer = subprocess.run(
        ["dpkg-query", "--show", "--showformat=${db:Status-Status}", package],
        capture_output=True,
        text=True,
        check=False,
    )
    return answer.returncode == 0 and answer.stdout == "installed"


def missing(
    needs: Iterable[Need],
    installed: Callable[[str], bool] = is_installed,
    which: Callable[[str], str | None] = shutil.which,
) -> list[Need]:
    """The needs that neither a command on PATH nor dpkg meets, in the order given."""
    return [need for need in needs if not (need.command and which(need.command)) and not installed(need.package)]


def apt_get_install(packages: Iterable[str], as_root: bool) -> str:
    """The command that a user types."""
    return f"{'' if as_root else 'sudo '}apt-get install -y {' '.join(packages)}"


def ensure(needs: Iterable[Need], environ: Mapping[str, str], log: Path) -> None:
    """Checks that the needs are met; installs what is missing where the user is root and CI=true.

    Raises:
        Trouble: something is missing; names the packages, what for, and the command.
    """
    if shutil.which("dpkg-query") is None:
        _ensure_commands(needs)
        return
    lacking = missing(needs)
    if not lacking:
        return
    names = [need.package for need in lacking]
    is_root = os.geteuid() == 0
    if is_root and environ.get("CI") == "true":
        _install(names, environ, log)
        return
    reasons = "".join(f"\n    {need.package}: {need.reason}" for need in lacking)
    raise Trouble(f"Debian packages are missing:{reasons}", f"Install them:  {apt_get_install(names, is_root)}")


def _ensure_commands(needs: Iterable[Need]) -> None:
    """On a system without dpkg only the commands can be looked for."""
    lacking = [need for need in needs if need.command and not shutil.which(need.command)]
    if lacking:
        names = ", ".join(need.command for need in lacking)
        raise Trouble(f"Not found on PATH: {names}.", "Install them with your system's package manager.")


def _install(names: list[str], environ: Mapping[str, str], log: Path) -> None:
    quiet = {**environ, "DEBIAN_FRONTEND": "noninteractive"}
    with Step(f"Debian packages {' '.join(names)}"):
        run(["apt-get", "update"], log, quiet, Path("/"))
        run(["apt-get", "install", "-y", "--no-install-recommends", *names], log, quiet, Path("/"))
