"""For the tests of the set-up step."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def own_environment() -> Path:
    """The environment that these tests run in, if set-up made it; skips the test otherwise."""
    venv = Path(os.environ.get("VIRTUAL_ENV", "/"))
    if venv.parent != ROOT / ".venv":
        pytest.skip(f"these tests run in {venv}, not in an environment that `make setup` made here")
    return venv


def program(path: Path, text: str) -> Path:
    """An executable shell script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path
