"""What the set-up step prints: a line per step with its time, alive on a terminal, plain in a log."""

from __future__ import annotations

import sys
import time
from types import TracebackType

REDRAW_S = 0.2  # often enough to look alive, seldom enough to cost nothing


class Step:
    """Prints `title`, then how far it is (on a terminal), then how long it took.

    Use it as a context manager; an exception ends the line with "failed".
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self._live = sys.stdout.isatty()
        self._began = 0.0
        self._drawn = 0.0
        self._outcome = "done"

    def __enter__(self) -> Step:
        self._began = time.monotonic()
        if self._live:
            self.progress("")
        else:
            print(f"  {self.title} …", flush=True)
        return self

    def progress(self, text: str) -> None:
        """Redraws the line with `text`, at most every REDRAW_S seconds and only on a terminal."""
        now = time.monotonic()
        if self._live and now - self._drawn >= REDRAW_S:
            self._drawn = now
            print(f"\r\033[K  {self.title} … {text} {now - self._began:.0f} s", end="", flush=True)

    def finish(self, outcome: str) -> None:
        """Sets the word that the line ends with in place of "done"."""
        self._outcome = outcome

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        outcome = self._outcome if kind is None else "failed"
        start = "\r\033[K" if self._live else ""
        print(f"{start}  {self.title}: {outcome}, {time.monotonic() - self._began:.1f} s", flush=True)
