"""What the demo prints: one headed stage after the other, bars with the time left, and a table at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Column, Table
from rich.text import Text

from saferule_ros.reporting.results import DemoResults, StageTime
from saferule_ros.reporting.verdict import judge
from saferule_ros.reporting.wording import duration, number, percent

STAGES = 6
LOG_WIDTH = 120


class TimeLeft(ProgressColumn):
    """What the task itself says of the time left (field `left`, [s]); else rich's estimate."""

    def render(self, task: Task) -> Text:
        left = task.fields.get("left", -1.0)
        if left < 0:
            left = task.time_remaining if task.time_remaining is not None else -1.0
        if task.finished:
            return Text("")
        return Text("" if left < 0 else f"{duration(max(left, 1.0))} left", style="cyan")


class Count(ProgressColumn):
    """How many of how many; a share where the whole is 1."""

    def render(self, task: Task) -> Text:
        if task.total is None:
            return Text("")
        whole = task.total <= 1
        return Text(percent(task.completed) if whole else f"{task.completed:.0f}/{task.total:.0f}", style="green")


class _CaptionedProgress(Progress):
    """Bars with a line of text below."""

    caption = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        if self.caption:
            yield Text(f"  {self.caption}", style="dim")


class Bars:
    """A group of progress bars on the screen, with a line of text below where there is something to say."""

    def __init__(self, progress: _CaptionedProgress) -> None:
        self._progress = progress

    def caption(self, text: str) -> None:
        self._progress.caption = text

    def add(self, title: str, total: float | None = None) -> Bar:
        return Bar(self._progress, self._progress.add_task(title, total=total, note="", left=-1.0))


class Bar:
    """One of them."""

    def __init__(self, progress: Progress, task: int) -> None:
        self._progress = progress
        self._task = task

    def set(self, done: float, total: float | None = None, note: str | None = None, left: float | None = None) -> None:
        """Any of: how much is done and of how much, text behind it, time left [s]."""
        fields: dict[str, object] = {}
        if note is not None:
            fields["note"] = note
        if left is not None:
            fields["left"] = left
        self._progress.update(self._task, completed=done, total=total, **fields)  # type: ignore[arg-type]


class Show:
    """The demo's voice, and its stop-watch: `times` has every stage that was entered."""

    def __init__(self, console: Console | None = None) -> None:
        # A log file has no width; 80 columns, rich's guess, would break the tables up.
        self.console = console or Console(width=None if sys.stdout.isatty() else LOG_WIDTH)
        self.times: list[StageTime] = []

    def say(self, text: str) -> None:
        self.console.print(f"  {text}", highlight=False)

    @contextmanager
    def stage(self, name: str, text: str) -> Iterator[None]:
        """A stage with its heading; its time counts even if it fails."""
        self.console.print(f"\n[bold]{len(self.times) + 1}/{STAGES}  {text}[/bold]", highlight=False)
        began = time.monotonic()
        try:
            yield
        finally:
            self.times.append(StageTime(name=name, seconds=time.monotonic() - began))

    @contextmanager
    def bars(self) -> Iterator[Bars]:
        columns = (
            SpinnerColumn(finished_text=" "), TextColumn("{task.description}", table_column=Column(no_wrap=True)),
            BarColumn(bar_width=20), Count(table_column=Column(no_wrap=True, justify="right")),
            TimeElapsedColumn(table_column=Column(no_wrap=True)), TimeLeft(table_column=Column(no_wrap=True)),
            # The one that gives way where the terminal is narrow.
            TextColumn("[dim]{task.fields[note]}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
        )  # fmt: skip
        with _CaptionedProgress(*columns, console=self.console, refresh_per_second=5, expand=True) as progress:
            yield Bars(progress)

    def summary(self, results: DemoResults) -> None:
        """The table of all policies, what was checked, and the verdict."""
        self.console.print()
        if results.evaluations:
            self.console.print(evaluations_table(results))
        if results.checks:
            self.console.print(checks_table(results))
        verdict = judge(results)
        style = "bold green" if verdict.passed else "bold red"
        self.console.print(f"\n[{style}]{verdict.title}[/{style}]", highlight=False)
        self.console.print(f"{verdict.text}", highlight=False, markup=False)
        times = ", ".join(f"{stage.name} {duration(stage.seconds)}" for stage in results.stages)
        self.console.print(f"[dim]{duration(results.seconds)} in all: {times}[/dim]", highlight=False)


def evaluations_table(results: DemoResults) -> Table:
    """One row per evaluated policy."""
    table = Table(title=f"{results.task}, seed {results.seed}: cost limit {results.cost_limit:g} per episode")
    for heading in ("policy", "id"):
        table.add_column(heading)
    for heading in ("episodes", "return", "cost (mean)", "cost (median)", "within limit"):
        table.add_column(heading, justify="right")
    for evaluation in results.evaluations:
        good = evaluation.cost_mean <= results.cost_limit
        style = "green" if good else "red"
        table.add_row(
            evaluation.heading, evaluation.policy_id[:8], str(len(evaluation.episodes)),
            f"{number(evaluation.return_mean)} ± {number(evaluation.return_std)}",
            f"[{style}]{number(evaluation.cost_mean)}[/{style}]", number(evaluation.cost_median),
            percent(evaluation.share_within(results.cost_limit)),
        )  # fmt: skip
    return table


def checks_table(results: DemoResults) -> Table:
    """One row per thing that had to hold."""
    table = Table(title="What had to hold")
    for heading in ("", "check", "measured", "required"):
        table.add_column(heading)
    for check in results.checks:
        mark = "[green]✓[/green]" if check.passed else "[red]✗[/red]"
        table.add_row(mark, check.name, check.value, check.required)
    return table
