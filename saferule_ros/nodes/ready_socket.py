"""The receiving end of `readiness.notify`: a socket on which a child process says that it is ready."""

from __future__ import annotations

import socket
import tempfile
import time
from pathlib import Path

_LARGEST_MESSAGE = 4096


class ReadySocket:
    """A bound datagram socket; pass `path` to the child as NOTIFY_SOCKET."""

    def __init__(self) -> None:
        # A short path: addresses of Unix sockets end at 107 bytes, and test folders are longer than that.
        self._folder = tempfile.TemporaryDirectory(prefix="saferule-")
        self.path = str(Path(self._folder.name) / "ready")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._ready = False

    def wait(self, patience: float) -> bool:
        """True once READY=1 has arrived; waits at most `patience` [s] for it."""
        end = time.monotonic() + patience
        while not self._ready:
            left = end - time.monotonic()
            if left <= 0:
                return False
            self._socket.settimeout(left)
            try:
                message = self._socket.recv(_LARGEST_MESSAGE)
            except TimeoutError:
                return False
            self._ready = b"READY=1" in message.split(b"\n")
        return True

    def close(self) -> None:
        self._socket.close()
        self._folder.cleanup()
