"""Tables in Markdown."""

from collections.abc import Sequence


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Its lines. A heading that begins with ">" is of a column of numbers."""
    rule = ["---:" if heading.startswith(">") else ":---" for heading in headings]
    return [row([heading.removeprefix(">") for heading in headings]), row(rule), *map(row, rows)]


def row(cells: Sequence[str]) -> str:
    """One line of a table; no cell can break it."""
    return "| " + " | ".join(one_line(cell).replace("|", "\\|") for cell in cells) + " |"


def one_line(text: str) -> str:
    """Without line breaks."""
    return " ".join(text.split())
