"""What a comparison leaves for readers, made from the results on disk: table, numbers, pictures."""

import json
from dataclasses import asdict
from pathlib import Path

from saferule_ros.dataset.durable import write_atomically
from saferule_ros.reporting.clean_retraining import with_clean_retraining
from saferule_ros.reporting.comparison import MethodRow, finished, rows_of
from saferule_ros.reporting.comparison_plots import cell_plot, overview_plot, save_plot
from saferule_ros.reporting.comparison_table import comparison_table
from saferule_ros.reporting.findings import findings
from saferule_ros.reporting.heat_map import heat_maps
from saferule_ros.reporting.trials import load_results

TABLE, FINDINGS, NUMBERS, PLOTS = "table.md", "findings.md", "summary.json", "plots"


def write_outcome(out: Path) -> list[MethodRow]:
    """Writes OUT/table.md, findings.md, summary.json and plots/*.svg; returns the table's rows.

    All but the findings are of finished trials while there are any: methods beside each other over other seeds would be
    compared with what they did not do.

    Raises:
        ResultsError: there are no results, or one cannot be read.
    """
    every = with_clean_retraining(load_results(out))
    results = finished(every) or every
    rows = rows_of(results)
    write_atomically(out / TABLE, comparison_table(results).encode())
    write_atomically(out / FINDINGS, findings(every).encode())
    # What is not known is null: JSON has no NaN.
    numbers = [
        {name: None if value != value else value for name, value in asdict(row).items()}
        | {"cell": row.cell.model_dump(mode="json")}
        for row in rows
    ]
    write_atomically(out / NUMBERS, json.dumps(numbers, indent=1).encode() + b"\n")
    for cell in dict.fromkeys(row.cell for row in rows):
        plot = cell_plot([result for result in results if result.cell == cell])
        save_plot(plot, out / PLOTS / cell.name.replace("/", "-"))
    save_plot(heat_maps(rows), out / PLOTS / "heat-maps")
    if any(row.return_ratio == row.return_ratio for row in rows):
        save_plot(overview_plot(rows), out / PLOTS / "overview")
    return rows
