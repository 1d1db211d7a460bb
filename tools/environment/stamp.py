"""Remembers what a step was done from, so that it is done again only when that changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path


def digest(parts: Iterable[str]) -> str:
    """SHA-256 over the parts, each with its length, so that no two lists give the same text."""
    total = hashlib.sha256()
    for part in parts:
        data = part.encode()
        total.update(len(data).to_bytes(8, "big"))
        total.update(data)
    return total.hexdigest()


class Stamp:
    """A small file beside what a step made. Absent or unreadable means: not done, or not finished."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> tuple[str, list[str]] | None:
        """The digest and the names that were noted, or None."""
        try:
            content = json.loads(self.path.read_text())
            return str(content["digest"]), [str(name) for name in content["names"]]
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, value: str, names: Iterable[str] = ()) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps({"digest": value, "names": sorted(names)}) + "\n")

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
