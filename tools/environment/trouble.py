"""The one error of the set-up step."""

from __future__ import annotations


class Trouble(Exception):
    """Set-up cannot go on.

    Args:
        what: what is missing or failed, with the value in it.
        remedy: what to do, a command where there is one.
    """

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what}\n  {remedy}")
        self.what = what
        self.remedy = remedy
