"""A ROS domain that no other demo or test run on this machine uses."""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path
from typing import IO, Self

from saferule_ros.errors import SaferuleError

# Domains above 101 can meet the ports that Linux hands out to others; 0 is everybody's default.
DOMAINS = range(60, 100)


class NoDomainLeft(SaferuleError):
    """All domains are claimed."""


class ClaimedDomain:
    """A domain number, ours until `close` or the end of this process, however it ends.

    The demo sends actions, and stops nodes: it must never do that in the domain of a robot, so it does not take
    the one that the shell is set to.
    """

    def __init__(self) -> None:
        folder = Path(tempfile.gettempdir()) / f"saferule_ros_domains_{os.getuid()}"
        folder.mkdir(exist_ok=True)
        for number in DOMAINS:
            claim = self._try(folder / str(number))
            if claim is not None:
                self.number, self._claim = number, claim
                return
        raise NoDomainLeft(
            f"the ROS domains {DOMAINS.start} to {DOMAINS.stop - 1} are all in use",
            f"Wait for other runs to end; who holds the files in {folder} is shown by `fuser`",
        )

    @staticmethod
    def _try(path: Path) -> IO[str] | None:
        file = path.open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        return file

    def close(self) -> None:
        self._claim.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
