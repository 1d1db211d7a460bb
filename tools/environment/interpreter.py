"""The Python that the virtual environment is made from."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .debian import apt_get_install
from .places import Places
from .trouble import Trouble

WHEELS_VERSION = (3, 11)  # numpy 2.3 needs 3.11 or newer, MuJoCo 2.3.3's wheels end with 3.11

# Asks an interpreter about itself. In a virtual environment it answers for the one that it was made from: an
# environment must not be made from one that set-up may remove.
QUESTION = """
import importlib.util, json, platform, sys, sysconfig
print(json.dumps({
    "executable": getattr(sys, "_base_executable", sys.executable),
    "version": list(sys.version_info[:2]),
    "full_version": platform.python_version(),
    "machine": platform.machine(),
    "include": sysconfig.get_paths()["include"],
    "has_venv": all(importlib.util.find_spec(name) for name in ("venv", "ensurepip")),
    "modules": [name for name in ("rclpy", "numpy") if importlib.util.find_spec(name)],
}))
"""


@dataclass(frozen=True)
class Interpreter:
    """A Python: `include` is where its C headers are, `modules` which of rclpy and numpy it sees."""

    executable: str
    version: tuple[int, int]
    full_version: str
    machine: str
    include: Path
    has_venv: bool
    modules: tuple[str, ...]


def ask(command: str, environ: Mapping[str, str]) -> Interpreter | None:
    """Asks the Python `command`; None if there is none, or it does not run (a version manager's shim)."""
    path = shutil.which(command, path=environ.get("PATH"))
    if path is None:
        return None
    answer = subprocess.run([path, "-c", QUESTION], capture_output=True, text=True, check=False, env=dict(environ))
    if answer.returncode != 0:
        return None
    facts = json.loads(answer.stdout)
    return Interpreter(
        os.path.realpath(facts["executable"]),  # one Python, one name, by whatever PATH it was found
        (facts["version"][0], facts["version"][1]),
        facts["full_version"],
        facts["machine"],
        Path(facts["include"]),
        facts["has_venv"],
        tuple(facts["modules"]),
    )


def find(places: Places, wanted: str, environ: Mapping[str, str]) -> Interpreter:
    """Finds the Python for the environment at `places`; `wanted` (a command or path) overrides the choice.

    Raises:
        Trouble: there is none, or it lacks the version, the venv module or the C headers that are needed.
    """
    found = _sourced(places, wanted, environ) if places.sourced else _for_wheels(wanted, environ)
    name = "python{}.{}".format(*found.version)
    if not found.has_venv:
        raise Trouble(f"{found.executable} lacks the venv module.", _apt(f"{name}-venv"))
    if not (found.include / "Python.h").is_file():
        raise Trouble(f"{found.executable} lacks its C headers ({found.include}/Python.h).", _apt(f"{name}-dev"))
    return found


def _for_wheels(wanted: str, environ: Mapping[str, str]) -> Interpreter:
    """The first Python of the version that the wheels need; python3 may be it where there is no python3.11."""
    name = "python{}.{}".format(*WHEELS_VERSION)
    answers = {command: ask(command, environ) for command in ([wanted] if wanted else [name, "python3"])}
    fitting = [found for found in answers.values() if found is not None and found.version == WHEELS_VERSION]
    if not fitting:
        seen = ", ".join(
            f"{command} is {found.full_version}" if found else f"{command} was not found or does not run"
            for command, found in answers.items()
        )
        raise Trouble(
            f"ROS from wheels needs CPython 3.11: {seen}.",
            f"{_apt(name, f'{name}-dev', f'{name}-venv')}\n  or name one: make PYTHON=/path/to/{name} …",
        )
    if fitting[0].machine != "x86_64":
        raise Trouble(
            f"This machine is {fitting[0].machine}; the ROS wheels are for x86_64 only.",
            "Install a ROS distribution, source its setup.bash, and run make again.",
        )
    return fitting[0]


def _sourced(places: Places, wanted: str, environ: Mapping[str, str]) -> Interpreter:
    """The Python of the sourced distribution: the one that finds the distribution's rclpy, and a numpy."""
    command = wanted or "python3"
    found = ask(command, environ)
    if found is None:
        raise Trouble(f"{command} was not found, or does not run.", _apt("python3", "python3-dev", "python3-venv"))
    lacking = [name for name in ("rclpy", "numpy") if name not in found.modules]
    if lacking:
        raise Trouble(
            f"ROS {places.distro} is sourced, but {found.executable} (Python {found.full_version}) "
            f"cannot import {' and '.join(lacking)}.",
            "Name the Python that the distribution uses: make PYTHON=/usr/bin/python3 …\n"
            f"  or install what is missing: ros-{places.distro}-rclpy, python3-numpy",
        )
    return found


def _apt(*packages: str) -> str:
    return f"Install it:  {apt_get_install(packages, as_root=os.geteuid() == 0)}"
