"""Progress bars, on standard error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.table import Column
from rich.text import Text

from saferule_ros.cli.output import notes
from saferule_ros.reporting.wording import duration

# Called with (done, all, words behind the bar, time left [s] or a negative number for rich's own estimate).
Advance = Callable[[float, float, str, float], None]


class _TimeLeft(ProgressColumn):
    def render(self, task: Task) -> Text:
        left = task.fields["left"] if task.fields["left"] >= 0 else task.time_remaining
        return Text("" if left is None or task.finished else f"{duration(max(1.0, left))} left", "cyan")


@contextmanager
def bar(title: str) -> Iterator[Advance]:
    """One bar, for as long as the context lasts."""
    columns = (
        TextColumn("{task.description}"), BarColumn(bar_width=28), MofNCompleteColumn(), TimeElapsedColumn(),
        # What is left of the line: words that are too long are cut, and never push the numbers aside.
        _TimeLeft(), TextColumn("[dim]{task.fields[note]}[/dim]", table_column=Column(ratio=1, no_wrap=True)),
    )  # fmt: skip
    with Progress(*columns, console=notes(), refresh_per_second=5, expand=True) as progress:
        shown = progress.add_task(title, total=None, note="", left=-1.0)

        def advance(done: float, total: float, note: str = "", left: float = -1.0) -> None:
            progress.update(shown, completed=done, total=total, note=note, left=left)

        yield advance


def losses(values: dict[str, float]) -> str:
    """Named numbers as words behind a bar."""
    return "  ".join(f"{name} {value:.3g}" for name, value in values.items() if value == value)
