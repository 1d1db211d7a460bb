#!/usr/bin/env python3
"""`make lock`: asks pip what the *.in files resolve to, and writes the *.lock files beside them.

Run it with the Python that the locks are for, CPython 3.11. Nothing is installed. Each lock is resolved under
those before it, and lists only what they do not, so that no package has two versions. What is locked stays as it is,
unless `--upgrade` is given (`make lock UPGRADE=1`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from environment.locks import canonical, read_lock

REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements"
ORDER = (
    ("python", ()),
    ("sim", ("python",)),
    ("build", ("python",)),
    ("ray", ("python", "sim", "build")),
    ("fuzz", ("python",)),
    ("ros-kilted", ("python", "build")),
    ("ros-jazzy", ("python", "build")),
)
ALONE = "without its dependencies"  # a line of a *.in file with this in its comment is pinned as it stands


def resolve(requirements: list[str], constraints: dict[str, str]) -> dict[str, str]:
    """What pip would install: canonical name -> version, without a local label such as torch's +cpu."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "wanted.txt").write_text("\n".join(requirements) + "\n")
        (folder / "bounds.txt").write_text("".join(f"{key}=={value}\n" for key, value in constraints.items()))
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        files = ["-r", "wanted.txt", "-c", "bounds.txt", "--report", "report.json"]
        environ = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        subprocess.run([*pip, *files], cwd=folder, env=environ, check=True)
        rows = json.loads((folder / "report.json").read_text())["install"]
    return {canonical(row["metadata"]["name"]): row["metadata"]["version"].split("+")[0] for row in rows}


def write_lock(name: str, under: tuple[str, ...], upgrade: bool) -> None:
    lines = [line for line in (REQUIREMENTS / f"{name}.in").read_text().splitlines() if line.split("#")[0].strip()]
    alone = [line.split("#")[0].strip() for line in lines if ALONE in line]
    others = [line.split("#")[0].strip() for line in lines if ALONE not in line]
    known: dict[str, str] = {}
    for lower in under:
        known.update(read_lock(REQUIREMENTS / f"{lower}.lock"))
    lock = REQUIREMENTS / f"{name}.lock"
    locked = {} if upgrade or not lock.exists() else read_lock(lock)
    pins = resolve(others, {**locked, **known})
    pins.update((canonical(line.split("==")[0]), line.split("==")[1]) for line in alone)
    rows = [f"{key}=={value}\n" for key, value in sorted(pins.items()) if key not in known]
    header = f"# Written by `make lock` from {name}.in; edit that one.\n"
    lock.write_text(header + "".join(rows))
    print(f"{name}.lock: {len(rows)} packages", flush=True)


if __name__ == "__main__":
    for lock, lower_locks in ORDER:
        write_lock(lock, lower_locks, "--upgrade" in sys.argv[1:])
