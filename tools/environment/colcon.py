"""Builds this package with colcon, as a ROS user would, into folders of its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from . import shell
from .places import Places
from .run import run
from .say import Step
from .stamp import Stamp, digest

# Files whose content goes into the build. Of others the names are enough: a symlink install follows edits.
BUILT_FILES = ("CMakeLists.txt", "package.xml", "msg/*.msg", "srv/*.srv", "action/*.action")
LINKED_FOLDERS = ("saferule_ros", "scripts", "launch", "config")


def source_digest(root: Path, packages_digest: str) -> str:
    """Changes when a build is due: an interface or CMake file was edited, a file came or went, or ROS did."""
    parts = [packages_digest]
    for pattern in BUILT_FILES:
        for path in sorted(root.glob(pattern)):
            parts += [str(path.relative_to(root)), path.read_text()]
    for folder in LINKED_FOLDERS:
        parts += sorted(
            str(path.relative_to(root))
            for path in (root / folder).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        )
    return digest(parts)


def build(places: Places, packages_digest: str, environ: Mapping[str, str]) -> None:
    """Runs colcon where a build is due.

    Raises:
        Trouble: the build failed.
    """
    stamp = Stamp(places.build / "setup-stamp.json")
    wanted = source_digest(places.root, packages_digest)
    known = stamp.read()
    if known is not None and known[0] == wanted and (places.install / "local_setup.bash").is_file():
        print("  colcon build: nothing changed")
        return
    stamp.remove()
    if known is None or known[1] != [packages_digest]:
        shutil.rmtree(places.build, ignore_errors=True)  # CMake's cache points into the environment before
    shutil.rmtree(places.install, ignore_errors=True)  # or links to files that went away would stay
    # colcon's own choice would build one file at a time while the machine does anything else (make -l).
    with Step("colcon build") as step:
        run(
            shell.command(places, _command(places)),
            places.log / "colcon.log",
            {**environ, "MAKEFLAGS": f"-j{len(os.sched_getaffinity(0))}"},
            places.root,
            lambda line: step.progress(line.strip()[:60]),
        )
    stamp.write(wanted, [packages_digest])


def _command(places: Places) -> list[str]:
    return [
        "colcon",
        "--log-base",
        str(places.log / "colcon"),
        "build",
        "--symlink-install",
        "--paths",
        str(places.root),
        "--build-base",
        str(places.build),
        "--install-base",
        str(places.install),
        "--event-handlers",
        "console_direct+",
        "--cmake-args",
        f"-DPython3_EXECUTABLE={places.python}",
        f"-DUNITE_TYPESUPPORT={'OFF' if places.sourced else 'ON'}",  # known to work with the wheels
    ]
