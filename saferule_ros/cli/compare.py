"""`saferule compare` and `saferule grid`: methods side by side, in one cell or in a whole grid of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from saferule_ros.cli.options import AlgorithmOption, JsonOption, WorkersOption
from saferule_ros.cli.teaching import CANCELLED, CHECK_FAILED, fail

if TYPE_CHECKING:
    from saferule_ros.experiments.runner import Overall
    from saferule_ros.experiments.settings import GridSettings
    from saferule_ros.reporting.comparison import MethodRow

OUT = Path("runs/compare")
# Running trials that are named behind the bar: more would not fit on a screen.
SHOWN = 2

OutOption = Annotated[Path, typer.Option(help="Folder of the comparison; a rerun goes on from what is there.")]
ProcessesOption = Annotated[
    int, typer.Option("--processes", min=0, help="Trials at a time, each a process; 0: as many as there are cores.")
]
RayOption = Annotated[
    str, typer.Option("--ray", metavar="ADDRESS", help="Of a Ray cluster that exists, to run the trials on instead.")
]


def register(app: typer.Typer) -> None:
    """Adds the verbs."""
    app.command()(compare)
    app.command()(grid)


def compare(
    task: Annotated[str, typer.Argument(metavar="TASK", help="A Safety-Gymnasium task, e.g. SafetyPointCircle1.")],
    algorithm: AlgorithmOption = "bcq_lag",
    attack: Annotated[
        str, typer.Option(help="How the data is poisoned: injected, max_cost, trigger or baffle.")
    ] = "injected",
    ratio: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of the data that is poisoned: 0.15.")] = 0.15,
    seeds: Annotated[int, typer.Option(min=1, help="How many: 1 to that number.")] = 1,
    settings: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="YAML as for grid, without cells and seeds."),
    ] = None,
    out: OutOption = OUT,
    processes: ProcessesOption = 0,
    workers: WorkersOption = 1,
    ray: RayOption = "",
    as_json: JsonOption = False,
) -> None:
    """Compare all unlearning methods in one cell: poison a task's data, learn from it, unlearn, simulate.

    Collects data, poisons it, trains on it; then every method unlearns from the same learner, and retraining from
    scratch shows what they are up against. Writes OUT (one JSON for each method and seed, table.md, findings.md,
    summary.json, plots). Ctrl-C stops; the same command goes on. Exit status: 0 done, 1 a trial failed, 2 wrong input,
    130 stopped.

    \b
    Examples:
      saferule compare SafetyPointCircle1
      saferule compare SafetyPointCircle1 --algorithm cpq --attack trigger --ratio 0.05 --seeds 3 --processes 2
    """
    from saferule_ros.cli.output import print_json
    from saferule_ros.experiments.settings import GridSettings
    from saferule_ros.settings import load_settings_with
    from saferule_ros.sim.tasks import full_id

    block = {"tasks": [task], "algorithms": [algorithm], "attacks": [attack], "ratios": [ratio]}
    chosen = load_settings_with(GridSettings, settings, {"cells": [block], "seeds": list(range(1, seeds + 1))})
    rows = _run(chosen, out, processes, workers, ray)
    cell = chosen.all_cells()[0]
    shown = [row for row in rows if row.cell == cell.model_copy(update={"task": full_id(task)})]
    if as_json:
        print_json([_as_json(row) for row in shown])
    else:
        _show_cell(shown, out)


def grid(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="YAML: cells, seeds, methods, settings."),
    ],
    out: OutOption = OUT,
    processes: ProcessesOption = 0,
    workers: WorkersOption = 1,
    ray: RayOption = "",
    table: Annotated[
        bool, typer.Option("--table", help="Run nothing: make table and plots from what is there.")
    ] = False,
    readme: Annotated[
        Path | None, typer.Option(help="File in which, between two marks, what OUT shows in short is renewed.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare all unlearning methods in many cells: tasks, algorithms, attacks and poison ratios.

    FILE lists blocks of cells (see config/grid.yaml for every setting); all of it is checked before anything runs.
    Writes OUT as `saferule compare` does, trial by trial: what is there already is not made again. A trial that fails
    does not stop the others. Exit status: 0 done, 1 a trial failed, 2 wrong input, 130 stopped by Ctrl-C.

    \b
    Examples:
      saferule grid config/grid.yaml --out runs/grid --processes 8
      saferule grid config/grid.yaml --out /shared/grid --ray auto
      saferule grid config/grid.yaml --out runs/grid --table      (of what is there by now)
    """
    from saferule_ros.cli.output import print_json
    from saferule_ros.experiments.outcome import write_outcome
    from saferule_ros.experiments.settings import GridSettings
    from saferule_ros.reporting.readme import EVIDENCE, check_place, update_evidence
    from saferule_ros.reporting.trials import load_results
    from saferule_ros.settings import load_settings

    chosen = load_settings(GridSettings, file)
    if readme is not None:
        check_place(readme, EVIDENCE)
    rows = write_outcome(out) if table else _run(chosen, out, processes, workers, ray)
    if readme is not None:
        update_evidence(readme, load_results(out), out)
    if as_json:
        print_json([_as_json(row) for row in rows])
    else:
        _show_overall(rows, out)


def _run(chosen: GridSettings, out: Path, processes: int, workers: int, ray: str) -> list[MethodRow]:
    """All trials that are not there yet, and what they say together."""
    from saferule_ros.cli.bars import bar
    from saferule_ros.cli.output import note
    from saferule_ros.experiments.cancelling import TrialCancelled
    from saferule_ros.experiments.outcome import write_outcome
    from saferule_ros.experiments.plan import plan
    from saferule_ros.experiments.ray_cluster import run_on_ray
    from saferule_ros.experiments.runner import run_trials

    trials = plan(chosen)
    count = processes or len(os.sched_getaffinity(0))
    try:
        with bar("comparing") as advance:

            def show(at: Overall) -> None:
                more = f"; and {len(at.words) - SHOWN} more" if len(at.words) > SHOWN else ""
                words = f"trials {at.finished}/{at.trials}  " + "; ".join(at.words[:SHOWN]) + more
                advance(at.steps, at.all_steps, words, at.time_left)

            failed = (
                run_on_ray(trials, out, ray, workers, show) if ray else run_trials(trials, out, count, workers, show)
            )
    except TrialCancelled as error:
        raise fail(error.what, error.hint, CANCELLED) from None
    for name, why in failed.items():
        note(f"failed: {name}: {why}")
    if len(failed) == len(trials):
        raise fail(f"all {len(trials)} trials failed", "See above; the same command tries them again", CHECK_FAILED)
    rows = write_outcome(out)
    if failed:
        raise fail(
            f"{len(failed)} of {len(trials)} trials failed", f"The others are in {out}; the same command tries again",
            CHECK_FAILED,
        )  # fmt: skip
    return rows


def _show_cell(rows: list[MethodRow], out: Path) -> None:
    from saferule_ros.cli.output import note, print_table
    from saferule_ros.reporting.comparison_table import HEADINGS, row_cells

    print_table(HEADINGS, [row_cells(row) for row in rows])
    note(f"{out}/table.md, {out}/plots: cost limit {rows[0].cost_limit:g}, {rows[0].seeds} seeds")


def _show_overall(rows: list[MethodRow], out: Path) -> None:
    from saferule_ros.cli.output import note, print_table
    from saferule_ros.reporting.comparison import overall
    from saferule_ros.reporting.comparison_table import OVERALL, overall_cells

    print_table(OVERALL, [overall_cells(row) for row in overall(rows)])
    note(f"Cell by cell: {out}/table.md, {out}/plots")


def _as_json(row: MethodRow) -> dict[str, object]:
    from dataclasses import asdict

    return {**asdict(row), "cell": row.cell.model_dump(mode="json")}
