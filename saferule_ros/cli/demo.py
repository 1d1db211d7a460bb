"""`saferule demo`: the whole loop with real processes, and what its runs are turned into."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from saferule_ros.cli.options import SettingsOption

RUNS = Path("runs/demo")
REPORT = Path("report")


def register(app: typer.Typer) -> None:
    """Adds the verbs."""
    app.command()(demo)
    app.command("demo-results", hidden=True)(demo_results)
    app.command("demo-report", hidden=True)(demo_report)


def demo(
    seed: Annotated[int, typer.Option(min=0, help="Of data, learning and episodes.")] = 1,
    out: Annotated[Path, typer.Option(help="Where the runs go: OUT/seed-SEED.")] = RUNS,
    report: Annotated[Path, typer.Option(help="Where the page goes: REPORT/index.html.")] = REPORT,
    settings: SettingsOption = None,
) -> None:
    """Poison a policy, patch it while its robot runs, and show that it worked. Needs ROS 2 and the simulator.

    Reads nothing but its settings. Writes OUT/seed-SEED (results.json, workspace, logs) and the report. Exit status:
    0 passed, 1 it ran but something did not hold, 2 wrong input, 3 it ended early, 130 cancelled.

    \b
    Examples:
      saferule demo
      saferule demo --seed 7
    """
    from saferule_ros.nodes.demo.scenario import main

    arguments = ["--seed", str(seed), "--out", str(out), "--report", str(report)]
    if settings is not None:
        arguments += ["--settings", str(settings)]
    raise typer.Exit(main(arguments))


def demo_results(
    runs: Annotated[Path, typer.Argument(metavar="RUNS", help="Folder with seed-*/results.json.")] = RUNS,
    out: Annotated[Path, typer.Option(help="Markdown file to write.")] = Path("docs/results/demo.md"),
    readme: Annotated[Path | None, typer.Option(help="File in which the last run's table is renewed.")] = None,
) -> None:
    """Write the table of all seeds that were tried, failures included.

    \b
    Example:
      saferule demo-results runs/demo --out docs/results/demo.md --readme README.md
    """
    from saferule_ros.cli.output import note
    from saferule_ros.reporting.readme import update_demo
    from saferule_ros.reporting.seeds import load_runs, write_seeds_table

    found = load_runs(runs)
    if readme is not None:
        update_demo(readme, found)
    note(f"{write_seeds_table(found, out)}: {sum(run.passed for run in found)} of {len(found)} seeds passed")


def demo_report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of one run, with results.json and workspace.")],
    out: Annotated[Path, typer.Option(help="Folder to write index.html to.")] = REPORT,
) -> None:
    """Write the report of a run again.

    \b
    Example:
      saferule demo-report runs/demo/seed-1
    """
    from saferule_ros.cli.output import note
    from saferule_ros.reporting.report import make_report
    from saferule_ros.reporting.results import DemoResults
    from saferule_ros.workspace import Workspace

    note(str(make_report(DemoResults.load(run), Workspace(run / "workspace"), out)))
