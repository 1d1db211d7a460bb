"""Runs one command with its output in a log file, and teaches when it fails."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from .trouble import Trouble

LINES_SHOWN_ON_FAILURE = 25

# (what the log says, what it means, what to do); the first that matches is told.
KNOWN_FAILURES = (
    (
        r"No space left on device",
        "The disk is full.",
        "Free 4 GB for each ROS distribution, then run make again.",
    ),
    (
        r"Temporary failure in name resolution|Name or service not known"
        r"|NewConnectionError|Network is unreachable|Max retries exceeded|ConnectTimeout|ReadTimeout"
        r"|Connection refused|ProxyError",
        "The Python package index could not be reached.",
        "Check the network (and PIP_INDEX_URL, HTTPS_PROXY where you need them), then run make again: "
        "what was downloaded is kept.",
    ),
    (
        r"No matching distribution found for (?P<name>\S+)",
        "The package index has no {name} for this Python and machine.",
        "Look at `pip config list`: does an index or mirror lack it? ROS's wheels are for x86-64.",
    ),
)


def run(
    command: Sequence[str],
    log: Path,
    environ: Mapping[str, str],
    cwd: Path,
    on_line: Callable[[str], None] = lambda line: None,
) -> None:
    """Runs `command`, writes its output (both streams) to `log`, and hands each line to `on_line`.

    Raises:
        Trouble: it failed; the end of its output and the log's path are in the message.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    lines: list[str] = []
    with (
        log.open("w") as file,
        subprocess.Popen(
            command,
            env=dict(environ),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process,
    ):
        assert process.stdout is not None
        file.write(f"$ {' '.join(command)}\n")
        for line in process.stdout:
            file.write(line)
            lines.append(line.rstrip())
            on_line(line)
    if process.returncode != 0:
        raise _failure(command, process.returncode, lines, log)


def _failure(command: Sequence[str], status: int, lines: list[str], log: Path) -> Trouble:
    text = "\n".join(lines)
    for pattern, what, remedy in KNOWN_FAILURES:
        found = re.search(pattern, text)
        if found:
            return Trouble(what.format(**found.groupdict()), f"{remedy}\n  All of its output: {log}")
    tail = "\n".join(f"    {line}" for line in lines[-LINES_SHOWN_ON_FAILURE:])
    return Trouble(
        f"`{' '.join(command[:4])} …` failed with status {status}; its last lines:\n{tail}",
        f"All of its output: {log}",
    )
