"""Makes the virtual environment and puts the locked packages into it."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from .interpreter import Interpreter
from .places import Places
from .run import run
from .say import Step
from .stamp import Stamp, digest
from .trouble import Trouble

DISK_NEEDED = 3 * 2**30  # bytes: 1.7 GB installed, and the wheels in pip's cache
STEPS_VERSION = "1"  # count up when this module does something else with the same locks
TORCH_CHOICES = ("cpu", "cuda")
CUDA_PACKAGE = re.compile(r"(nvidia|cuda|triton)(?![a-z])", re.IGNORECASE)


def install(
    places: Places, interpreter: Interpreter, pins: Mapping[str, str], torch: str, environ: Mapping[str, str]
) -> None:
    """Brings the environment at `places` to exactly `pins`; does nothing where it is already there.

    The stamp is removed first and written last: an environment without one was left half-finished, and is
    made anew.

    Args:
        torch: "cpu", or "cuda" for torch's build with CUDA and the packages it brings.

    Raises:
        Trouble: disk full, no network, a pin that the index lacks, only CUDA's torch where "cpu" is wanted.
    """
    stamp = Stamp(places.venv / "setup-stamp.json")
    wanted = digest(
        [STEPS_VERSION, str(places.venv), interpreter.executable, interpreter.full_version, torch]
        + [f"{name}=={version}" for name, version in sorted(pins.items())]
    )
    known = stamp.read()
    if known is not None and known[0] == wanted and places.python.exists():
        print(f"  Python packages: {len(pins)} as locked")
        return
    _check_disk(places.root)
    stamp.remove()
    usable = known is not None and set(known[1]) <= set(pins) and _is_made_from(places, interpreter)
    if not usable:
        _make_venv(places, interpreter, environ)
    with Step(f"Python packages ({len(pins)}, first time about 1.5 GB)") as step:
        _install_pins(places, pins, torch, environ, step)
    stamp.write(wanted, pins)


def _check_disk(root: Path) -> None:
    free = shutil.disk_usage(root).free
    if free < DISK_NEEDED:
        raise Trouble(
            f"{free / 2**30:.1f} GB are free at {root}; set-up needs {DISK_NEEDED / 2**30:.0f}.",
            "Make room (`make clean` removes older set-ups), then run make again.",
        )


def _is_made_from(places: Places, interpreter: Interpreter) -> bool:
    """False after another Python was chosen, or the repository moved: absolute paths are in it."""
    config = places.venv / "pyvenv.cfg"
    if not config.is_file() or not places.python.exists():
        return False
    lines = config.read_text().splitlines()
    return (
        f"home = {Path(interpreter.executable).parent}" in lines
        and f"version = {interpreter.full_version}" in lines
        and any(line.startswith("command = ") and line.endswith(f" {places.venv}") for line in lines)
    )


def _make_venv(places: Places, interpreter: Interpreter, environ: Mapping[str, str]) -> None:
    options = ["--clear"] + (["--system-site-packages"] if places.sourced else [])
    with Step(f"Virtual environment {places.venv.relative_to(places.root)}, Python {interpreter.full_version}"):
        run(
            [interpreter.executable, "-m", "venv", *options, str(places.venv)],
            places.log / "venv.log",
            environ,
            places.root,
        )


def _install_pins(places: Places, pins: Mapping[str, str], torch: str, environ: Mapping[str, str], step: Step) -> None:
    pip = [str(places.python), "-m", "pip", "install"]
    if torch == "cpu":
        _refuse_cuda(pip, pins["torch"], places, environ)
    collected = 0

    def on_line(line: str) -> None:
        nonlocal collected
        collected += line.startswith(("Collecting ", "Requirement already satisfied"))
        step.progress("unpacking" if line.startswith("Installing collected") else f"{collected}/{len(pins)}")

    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder) / "pins.txt"
        listed.write_text("".join(f"{name}=={version}\n" for name, version in sorted(pins.items())))
        # No dependencies: the locks are complete, and Safety-Gymnasium's own pins could not be met. Nothing
        # is compiled beforehand: Python does it with what is imported, and half of it never is.
        locked = [*pip, "--no-deps", "--no-compile", "-r", str(listed)]
        run(locked, places.log / "pip.log", environ, places.root, on_line)
        if torch == "cuda":
            step.progress("CUDA's libraries")
            cuda = [*pip, "--no-compile", "-c", str(listed), f"torch=={pins['torch']}"]
            run(cuda, places.log / "pip-cuda.log", environ, places.root)


def _refuse_cuda(pip: list[str], version: str, places: Places, environ: Mapping[str, str]) -> None:
    """Looks which torch pip would take, and stops where that is a build that pulls in gigabytes of CUDA."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        look = [
            *pip,
            "--dry-run",
            "--no-deps",
            "--ignore-installed",
            "--report",
            str(report),
            f"torch=={version}",
        ]
        run(look, places.log / "pip-torch.log", environ, places.root)
        chosen = json.loads(report.read_text())["install"][0]
    needs_cuda = [line for line in chosen["metadata"].get("requires_dist", []) if CUDA_PACKAGE.match(line)]
    if needs_cuda:
        raise Trouble(
            f"pip would take torch {version} with CUDA, several GB, from {chosen['download_info']['url']}.",
            "For the CPU build (200 MB) give pip the index that PyTorch's 'Get started' page names for CPU:\n"
            "    PIP_EXTRA_INDEX_URL=<that index> make setup\n"
            "  For the one with CUDA:\n"
            "    make setup TORCH=cuda",
        )
