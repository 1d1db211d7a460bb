#!/usr/bin/env python3
"""`make setup`: everything that saferule_ros needs, in this repository's own folders. Run it at will."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from environment import cmake_paths, colcon, debian, interpreter, locks, packages, places, shell
from environment.stamp import Stamp
from environment.trouble import Trouble
from environment.turns import only_one

ROOT = Path(__file__).resolve().parent.parent


def set_up(place: places.Places, python: str, torch: str, environ: Mapping[str, str]) -> None:
    """Debian packages, Python packages, the wheels' paths, the build.

    Raises:
        Trouble: something is missing or failed.
    """
    outside = shell.outside(environ)
    with only_one(place.root, "Debian packages"):  # those of two distributions install what they share
        debian.ensure(debian.NEEDS, environ, place.log / "apt.log")
    found = interpreter.find(place, python, environ if place.sourced else outside)
    has_colcon = shutil.which("colcon", path=outside["PATH"]) is not None
    pins = locks.pins_for(place, found.version, has_colcon)
    if not locks.has_simulator(found.version):
        print(f"  No simulator: MuJoCo 2.3.3 has no wheel for Python {found.full_version}.")
        print("  For the demo: make demo ROS=kilted")
    packages.install(place, found, pins, torch, outside)
    if not place.sourced:
        _point_wheels_here(place)
    shell.write(place)
    installed = Stamp(place.venv / "setup-stamp.json").read()
    assert installed is not None
    colcon.build(place, installed[0], environ if place.sourced else outside)


def _point_wheels_here(place: places.Places) -> None:
    question = "import numpy, sysconfig; print(sysconfig.get_paths()['include']); print(numpy.get_include())"
    answer = subprocess.run([place.python, "-c", question], capture_output=True, text=True, check=True)
    python_include, numpy_include = answer.stdout.splitlines()
    changed = cmake_paths.rewrite(place.venv / "share", python_include, numpy_include)
    if changed:
        print(f"  CMake files of the wheels: {changed} pointed to this environment")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--ros",
        default="",
        help="kilted, jazzy, or a sourced distribution (default: the sourced one, else kilted)",
    )
    parser.add_argument(
        "--python",
        default="",
        help="the Python to use (default: python3.11; a sourced distribution's: python3)",
    )
    parser.add_argument(
        "--torch", default="cpu", choices=packages.TORCH_CHOICES, help="which build of torch (default: cpu)"
    )
    arguments = parser.parse_args()
    began = time.monotonic()
    try:
        place = places.choose(ROOT, arguments.ros, os.environ)
        kind = "sourced" if place.sourced else "from wheels"
        print(f"Set-up: ROS 2 {place.distro.capitalize()} ({kind}), in .venv/{place.name}", flush=True)
        with only_one(place.root, place.name):
            set_up(place, arguments.python, arguments.torch, os.environ)
    except Trouble as trouble:
        print(f"\nset-up: {trouble}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nset-up: stopped; `make setup` goes on.", file=sys.stderr)
        return 130
    print(f"Set-up: ready, {time.monotonic() - began:.1f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
