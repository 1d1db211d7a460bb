"""All cells against all methods, as two maps: cost as a share of the limit, return as a share of retraining's."""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from saferule_ros.reporting.comparison import MethodRow, in_order
from saferule_ros.reporting.figures import TILTED, Plot, both
from saferule_ros.reporting.palette import Palette
from saferule_ros.reporting.trials import Cell
from saferule_ros.reporting.wording import percent

# Blue is good and red is bad for the cost; the other way round for the return. The colour-blind tell them apart.
COST_COLOURS, RETURN_COLOURS = "RdBu_r", "RdBu"
# Beyond twice the limit red is as red as it gets: how much more it is, stands in the box.
MOST = 2.0
# [inch] A box holds its number; below, the narrowest figure that a page shows without enlarging it.
ROW_HEIGHT, COLUMN_WIDTH, LABELS_WIDTH, LEAST_WIDTH = 0.27, 0.42, 2.8, 10.4


def heat_maps(rows: Sequence[MethodRow]) -> Plot:
    """One line for each cell, one column for each method; every box has its number. No returns where nothing was
    retrained.

    Args:
        rows: at least one.
    """
    cells = list(dict.fromkeys(row.cell for row in rows))
    methods = in_order(row.method for row in rows)
    of_each = {(row.cell, row.method): row for row in rows}

    def values(value: Callable[[MethodRow], float]) -> np.ndarray:
        return np.array([
            [value(of_each[cell, method]) if (cell, method) in of_each else np.nan for method in methods]
            for cell in cells
        ])  # fmt: skip

    costs, returns = values(lambda row: row.worst_cost / row.cost_limit), values(lambda row: row.return_ratio)

    maps = [(costs, COST_COLOURS, "Mean cost, share of the limit\n(with a marker, if more)")]
    if np.isfinite(returns).any():
        maps.append((returns, RETURN_COLOURS, "Mean return,\nshare of retraining's"))

    def draw(palette: Palette) -> Figure:
        width = max(LABELS_WIDTH + COLUMN_WIDTH * len(methods) * len(maps), LEAST_WIDTH)
        figure = Figure(figsize=(width, 1.4 + ROW_HEIGHT * len(cells)), layout="constrained")
        all_axes = figure.subplots(1, len(maps), squeeze=False)[0]
        for axes, (values_shown, colours, title) in zip(all_axes, maps, strict=True):
            _map(axes, values_shown, colours, title, methods, palette)
            axes.set_yticks([])
        all_axes[0].set_yticks(range(len(cells)), [_short(cell) for cell in cells], fontsize=8.5, color=palette.ink)
        return figure

    alt = "; ".join(
        f"{row.cell.title}, {row.method}: cost {percent(row.worst_cost / row.cost_limit)} of the limit, "
        f"return {percent(row.return_ratio)} of retraining's"
        for row in rows
    )
    return both(draw, f"Cost and return of every method in every cell. {alt}.")


def _map(axes: Axes, values: np.ndarray, colours: str, title: str, methods: Sequence[str], palette: Palette) -> None:
    axes.imshow(values, cmap=colours, norm=TwoSlopeNorm(1.0, 0.0, MOST), aspect="auto")
    axes.set_title(title, loc="left", color=palette.ink)
    axes.set_xticks(range(len(methods)), methods, color=palette.ink, **TILTED)
    axes.tick_params(length=0, colors=palette.ink)
    for side in axes.spines.values():
        side.set_visible(False)
    for line, column in np.ndindex(values.shape):
        value = float(values[line, column])
        if np.isfinite(value):
            dark = abs(min(value, MOST) - 1.0) > 0.6
            axes.text(
                column, line, f"{value:.2g}" if value < 10 else f"{value:.0f}", ha="center", va="center", fontsize=7.5,
                color="white" if dark else "black",
            )  # fmt: skip


def _short(cell: Cell) -> str:
    return cell.title.replace("Safety", "", 1)
