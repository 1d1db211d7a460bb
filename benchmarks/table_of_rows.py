"""A table that grows row by row and is resumed: the numbers as JSON, and beside them the Markdown document of them."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def show(document: str, numbers: Mapping[str, Any], out: Path | None) -> None:
    """Prints a document, and writes it, with its numbers beside it as .json, if there is a place for it."""
    print(document)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(document)
        out.with_suffix(".json").write_text(json.dumps(numbers, indent=1))


def made_with(*what: Mapping[str, Any]) -> str:
    """Machine and versions as a line of a document."""
    return ", ".join(f"{key} {value}" for part in what for key, value in part.items())


class TableOfRows:
    """The rows made so far; without a file, none are there and none are kept.

    Args:
        out: Markdown file; the numbers stand beside it as .json. None: nothing is written.
        document: all rows as Markdown.
    """

    def __init__(self, out: Path | None, document: Callable[[list[Row]], str]) -> None:
        self._out, self._document = out, document
        numbers = out.with_suffix(".json") if out else None
        self._rows: list[Row] = json.loads(numbers.read_text()) if numbers and numbers.exists() else []

    def has(self, identity: Mapping[str, Any]) -> bool:
        """Whether a row with these values was made before."""
        return any(all(made[key] == value for key, value in identity.items()) for made in self._rows)

    def add(self, made: Row) -> None:
        """Adds a row and writes all of them."""
        self._rows.append(made)
        if self._out is None:
            return
        self._out.parent.mkdir(parents=True, exist_ok=True)
        self._out.with_suffix(".json").write_text(json.dumps(self._rows, indent=1))
        self._out.write_text(self._document(self._rows))
