"""`make setup` as a whole, on the environment that these tests run in."""

from __future__ import annotations

import importlib.metadata
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

from environment import locks, places, shell
from setup_tools import ROOT, own_environment

# What a user waits, at most, when nothing is to be done. Taken as CPU time, of which nearly all of it is: the wall
# clock of a busy machine tells nothing.
SECOND_TIME_S = 5.0


def calling_environ(venv: Path) -> dict[str, str]:
    """The shell that the user typed `make` in: nothing of the tests' environment, but a sourced distribution."""
    if venv.name.endswith("-sourced"):
        return dict(os.environ)
    environ = shell.outside(os.environ)
    for name in ("AMENT_PREFIX_PATH", "CMAKE_PREFIX_PATH", "COLCON_PREFIX_PATH", "ROS_DISTRO"):
        environ.pop(name, None)
    return environ


def cpu_seconds_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def snapshot(*folders: Path) -> dict[str, tuple[int, int]]:
    """Every file's size and time of change, of bytecode and locks excepted: running Python writes those."""
    return {
        str(path): (path.lstat().st_size, path.lstat().st_mtime_ns)
        for folder in folders
        for path in folder.rglob("*")
        if "__pycache__" not in path.parts and (path.is_symlink() or path.is_file())
    }


def test_a_second_set_up_changes_nothing_and_is_quick() -> None:
    venv = own_environment()
    name = venv.name.removesuffix("-sourced")
    folders = (venv, ROOT / "build" / venv.name, ROOT / "install" / venv.name)
    before = snapshot(*folders)
    used_before = cpu_seconds_of_children()
    result = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "set_up.py"), "--ros", name],
        env=calling_environ(venv),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "colcon build: nothing changed" in result.stdout
    assert snapshot(*folders) == before
    assert cpu_seconds_of_children() - used_before < SECOND_TIME_S


def test_what_is_installed_is_what_is_locked() -> None:
    venv = own_environment()
    sourced = venv.name.endswith("-sourced")
    place = places.Places(ROOT, venv.name.removesuffix("-sourced"), sourced)
    version = (sys.version_info.major, sys.version_info.minor)
    pins = locks.pins_for(place, version, has_colcon=True)
    folder = [str(path) for path in venv.glob("lib/python3.*/site-packages")]
    found = {
        locks.canonical(row.metadata["Name"]): row.version.split("+")[0]  # torch's build is after the plus
        for row in importlib.metadata.distributions(path=folder)
    }
    assert {name: found.get(name) for name in pins} == pins


def test_with_env_runs_a_command_in_the_environment() -> None:
    venv = own_environment()
    code = "import json, os, sys; print(json.dumps([sys.prefix, dict(os.environ), sys.argv[1:]]))"
    with_env = [sys.executable, str(ROOT / "tools" / "with_env.py"), "--ros", venv.name.removesuffix("-sourced")]
    result = subprocess.run(
        [*with_env, "--", "python", "-c", code, "--ros", "two words"],
        env=calling_environ(venv),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    prefix, environ, arguments = json.loads(result.stdout)
    assert Path(prefix) == venv
    assert str(ROOT / "install" / venv.name / "saferule_ros") in environ["AMENT_PREFIX_PATH"].split(":")
    assert environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
    assert arguments == ["--ros", "two words"]


def test_with_env_says_what_to_run_first(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "tools", tmp_path / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    result = subprocess.run(
        [sys.executable, str(tmp_path / "tools" / "with_env.py"), "--ros", "kilted", "--", "true"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 1
    assert ".venv/kilted is not set up" in result.stderr
    assert "make setup ROS=kilted" in result.stderr
