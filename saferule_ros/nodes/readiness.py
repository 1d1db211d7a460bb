"""Tells whoever started this process that it is ready: systemd's notify protocol (sd_notify(3)).

The same message serves a systemd unit with `Type=notify` on a robot and the package's own runner.
"""

from __future__ import annotations

import contextlib
import os
import socket

#: Environment variable with the number of a pipe that closes when the starter has gone: then end, too.
LIFELINE = "SAFERULE_LIFELINE_FD"


def notify(*assignments: str) -> None:
    """Sends e.g. `notify("READY=1", "STATUS=serving")`; does nothing if nobody asked to be told."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):  # a socket in Linux's abstract namespace
        address = "\0" + address[1:]
    # Whoever asked may be gone by now; that must never stop a node.
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect(address)
        sender.send("\n".join(assignments).encode())
