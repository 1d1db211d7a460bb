"""What verbs print: results on standard output, everything else on standard error, so that pipes stay clean."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

# Where nobody looks at a terminal, lines are long enough that no id is cut or folded.
_FILE_WIDTH = 240


def results() -> Console:
    """Standard output."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else _FILE_WIDTH)


def notes() -> Console:
    """Standard error."""
    return Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else _FILE_WIDTH)


def note(text: str) -> None:
    """One line on standard error."""
    notes().print(Text(text), soft_wrap=True)


def print_json(value: Any) -> None:
    """On standard output; what is not a number (NaN) becomes null."""
    print(json.dumps(_plain(value), indent=2, default=str))


def print_table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on standard output. A heading that begins with ">" is of a column of numbers.

    A cell is any object, or a rich Text for one in colour.
    """
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in headings:
        right = heading.startswith(">")
        table.add_column(heading.removeprefix(">"), justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    results().print(table)


def print_facts(facts: Iterable[tuple[str, object]]) -> None:
    """Names and values, one pair a line."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(Text(name), value if isinstance(value, Text) else Text(str(value)))
    results().print(table)


def verdict(passed: bool, good: str = "passed", bad: str = "failed") -> Text:
    """A coloured word."""
    return Text(good, "green") if passed else Text(bad, "bold red")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not -float("inf") < value < float("inf"):
        return None
    return value
