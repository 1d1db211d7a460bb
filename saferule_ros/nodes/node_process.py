"""One running node process: wait until it is ready, read its log, end it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

from saferule_ros.errors import SaferuleError
from saferule_ros.nodes.readiness import LIFELINE
from saferule_ros.nodes.ready_socket import ReadySocket

# A node that has not stopped by then hangs; each stage is given this long before the next, harder one.
STOP_STAGES = ((signal.SIGINT, 10.0), (signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0))
# How often a wait looks whether a process has died; readiness itself arrives by message.
LOOK_EVERY = 0.05
LOG_TAIL_LINES = 20


class RunnerError(SaferuleError):
    """A node process could not be started, died, or was not ready in time."""


class NodeProcess:
    """One running node process; made by `Runner.start`."""

    def __init__(self, name: str, command: list[str], env: dict[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        self._ready = ReadySocket()
        # The node ends itself when the other end closes, which the kernel does even if this process is
        # killed hard. (PR_SET_PDEATHSIG would end it with the thread that started it.)
        theirs, self._lifeline = os.pipe()
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                command,
                env={**env, "NOTIFY_SOCKET": self._ready.path, LIFELINE: str(theirs)},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                pass_fds=(theirs,),
                start_new_session=True,  # Ctrl-C reaches the runner only: one teardown path
            )
        os.close(theirs)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Exit status, None while it runs; negative: ended by that signal."""
        return self._process.poll()

    def wait_ready(self, deadline: float) -> None:
        """Waits up to `deadline` [s] for the node's word that it is ready; raises RunnerError."""
        end = time.monotonic() + deadline
        while not self._ready.wait(LOOK_EVERY):
            if self.returncode is not None:
                raise RunnerError(
                    f"{self.name} ended with status {self.returncode} before it was ready",
                    f"Its log, {self.log}, ends with:\n{self.log_tail()}",
                )
            if time.monotonic() > end:
                raise RunnerError(
                    f"{self.name} was not ready within {deadline:g} s",
                    f"Its log, {self.log}, ends with:\n{self.log_tail()}",
                )

    def signal(self, number: int) -> None:
        if self.returncode is None:
            self._process.send_signal(number)

    def wait(self, deadline: float) -> int | None:
        """Exit status, or None if it still runs after `deadline` [s]."""
        try:
            return self._process.wait(deadline)
        except subprocess.TimeoutExpired:
            return None

    def stop(self) -> int:
        """Ends the process as gently as it lets us; returns its exit status."""
        for number, patience in STOP_STAGES:
            self.signal(number)
            status = self.wait(patience)
            if status is not None:
                self._close()
                return status
        raise RunnerError(f"{self.name} (pid {self.pid}) does not die", "Look at it with ps: state D?")

    def log_tail(self, lines: int = LOG_TAIL_LINES) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def let_go(self) -> None:
        """Closes the lifeline: the node ends itself, as it would if this process had been killed."""
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1

    def _close(self) -> None:
        self._ready.close()
        self.let_go()
