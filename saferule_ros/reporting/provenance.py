"""On what a result was measured: versions, machine, commit. Numbers without these cannot be compared."""

import os
import platform
import subprocess
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import saferule_ros

# What can change a result.
PACKAGES = (
    "torch", "numpy", "onnxruntime", "onnx", "safety-gymnasium", "gymnasium", "mujoco", "rclpy",
)  # fmt: skip


def provenance_of(started: datetime) -> dict[str, Any]:
    """When something was begun, with what and on what, as plain data. To be asked at the beginning: later the checkout
    may be another one than the code that runs."""
    return {"started": started.isoformat(timespec="seconds"), "versions": versions(), "machine": machine()}


def versions() -> dict[str, str]:
    """Name to version: the package, its commit where it runs from a checkout, Python, ROS, what computes."""
    found = {"saferule_ros": saferule_ros.__version__, "python": platform.python_version()}
    commit = _commit()
    if commit:
        found["commit"] = commit
    if os.environ.get("ROS_DISTRO"):
        found["ROS"] = os.environ["ROS_DISTRO"]
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, str]:
    """What ran it: system, processor, cores that this process may use, memory."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "system": _system(),
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{memory:.1f} GiB",
    }


def _commit() -> str:
    folder = Path(saferule_ros.__file__).resolve().parent
    git = ("git", "-C", str(folder))
    try:
        commit = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, timeout=5)
        changes = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    if commit.returncode:
        return ""
    return commit.stdout.strip() + (" with local changes" if changes.stdout.strip() else "")


def _system() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:
        return platform.system()


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine()
