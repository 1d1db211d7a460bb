"""The command line as users meet it: `saferule` in a process of its own."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

# Far above what a loaded machine needs; a test that reaches it has failed.
DEADLINE = 120.0
COMMAND = [sys.executable, "-P", "-m", "saferule_ros.cli"]


def saferule(*arguments: object, workspace: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs it to its end. Never in a folder with a workspace, so that a forgotten -w shows."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        env={**os.environ, "SAFERULE_WORKSPACE": str(workspace), **environment},
        cwd=workspace.parent,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )


def interrupted(*arguments: object, sign: str, cwd: Path) -> tuple[int, str]:
    """Presses Ctrl-C once `sign`, a regular expression, is seen in the progress bar, which does not show every count:
    exit status, and what was said after that."""
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments)], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, cwd=cwd, text=True,
        start_new_session=True,
        env={**os.environ, "TTY_INTERACTIVE": "1", "FORCE_COLOR": "1", "COLUMNS": "300"},  # so that the bar is drawn
    )  # fmt: skip
    patience = threading.Timer(DEADLINE, process.kill)  # a process that shows nothing must not hang the reader
    patience.start()
    try:
        assert process.stderr is not None
        seen = ""
        while not re.search(sign, seen):
            character = process.stderr.read(1)
            assert character, f"ended early, or showed nothing for {DEADLINE:g} s: {seen}"
            seen += character
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=DEADLINE)[1]
    finally:
        patience.cancel()
        process.kill()
        process.wait()
    return process.returncode, rest


def done(*arguments: object, workspace: Path) -> str:
    """Standard output of a call that must succeed."""
    result = saferule(*arguments, workspace=workspace)
    assert result.returncode == 0, f"saferule {' '.join(map(str, arguments))}: {result.stderr}"
    return result.stdout


def as_json(*arguments: object, workspace: Path) -> Any:
    """The same with --json, parsed."""
    return json.loads(done(*arguments, "--json", workspace=workspace))


def refused(*arguments: object, workspace: Path, status: int = 2, **environment: str) -> str:
    """What a call that must fail says: one line of error, at most one hint, no traceback."""
    result = saferule(*arguments, workspace=workspace, **environment)
    assert result.returncode == status, result.stderr
    assert "Traceback" not in result.stderr
    assert not result.stdout
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, result.stderr
    return result.stderr
