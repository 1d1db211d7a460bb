"""The lock files: every package with its exact version, one `name==version` a line."""

from __future__ import annotations

import re
from pathlib import Path

from .places import Places
from .trouble import Trouble


def canonical(name: str) -> str:
    """A package's name as indexes compare it: `ruamel.yaml` and `Ruamel_YAML` are one."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_lock(path: Path) -> dict[str, str]:
    """Canonical name -> exact version.

    Raises:
        Trouble: a line is not `name==version`.
    """
    pins: dict[str, str] = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        text = line.split("#")[0].strip()
        if not text:
            continue
        name, equals, version = text.partition("==")
        if not equals or not version:
            raise Trouble(f"{path}:{number}: {text!r} is not an exact pin.", "Write name==version, or run `make lock`.")
        pins[canonical(name)] = version
    return pins


def pins_for(places: Places, python_version: tuple[int, int], has_colcon: bool) -> dict[str, str]:
    """What the environment at `places` gets.

    A sourced distribution keeps its own numpy: its messages' compiled parts were built against it. It keeps
    its own colcon too, where there is one.
    """
    folder = places.root / "requirements"
    pins = read_lock(folder / "python.lock")
    if has_simulator(python_version):
        pins.update(read_lock(folder / "sim.lock"))
        pins.update(read_lock(folder / "ray.lock"))
    if has_fuzzer(python_version):
        pins.update(read_lock(folder / "fuzz.lock"))
    if not places.sourced:
        pins.update(read_lock(folder / f"ros-{places.distro}.lock"))
    if not (places.sourced and has_colcon):
        pins.update(read_lock(folder / "build.lock"))
    if places.sourced:
        del pins["numpy"]
    return pins


def has_simulator(python_version: tuple[int, int]) -> bool:
    """MuJoCo 2.3.3, which Safety-Gymnasium 1.0.0 is pinned to, has wheels up to CPython 3.11."""
    return python_version <= (3, 11)


def has_fuzzer(python_version: tuple[int, int]) -> bool:
    """Atheris 3.0.0 has wheels for CPython 3.11 to 3.13."""
    return (3, 11) <= python_version <= (3, 13)
