"""Progress bars as a terminal shows them."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pytest

PROGRAM = """
from saferule_ros.cli.bars import bar
with bar("safe_rule") as advance:
    advance(25750, 90000, "  ".join(f"loss_{k} {k / 7:.3g}" for k in range(40)), 413.0)
"""


def shown_by(program: str, width: int) -> str:
    """All that a program writes to a terminal of that width, without control codes."""
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("4H", 24, width, 0, 0))
    # pytest's workers have COLUMNS, which would outweigh the terminal's own width.
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    process = subprocess.Popen([sys.executable, "-P", "-c", program], stderr=end, env=environment | {"TERM": "xterm"})
    os.close(end)
    written = b""
    try:
        while data := os.read(terminal, 65536):
            written += data
    except OSError:  # what Linux says at the end of a terminal whose last writer has gone
        pass
    os.close(terminal)
    assert process.wait(timeout=60) == 0
    return re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", written.decode())


@pytest.mark.parametrize("width", [80, 120, 300])
def test_words_that_are_too_long_push_no_number_aside_and_take_no_second_line(width: int) -> None:
    *_, last = [line for line in re.split(r"[\r\n]+", shown_by(PROGRAM, width)) if line.strip()]
    assert "safe_rule" in last and "25750/90000" in last and "6 min 53 s left" in last
    assert len(last.rstrip()) <= width
    assert ("loss_0 0" in last, "loss_39" in last) == (width > 80, False), "as many words as there is room for"
