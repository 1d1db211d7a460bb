"""The comparison as pictures: every episode of one cell, and what each method costs and keeps over all cells."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator

from saferule_ros.dataset.durable import write_atomically
from saferule_ros.reporting.comparison import RETRAIN, MethodRow, rows_of
from saferule_ros.reporting.figures import DASHED, Plot, both, episodes_plot, style
from saferule_ros.reporting.palette import LIGHT, Palette
from saferule_ros.reporting.results import Evaluation
from saferule_ros.reporting.trials import TrialResult
from saferule_ros.reporting.wording import percent

# Of variants, which have no colour of their own. With more variants than these, several share one: the tables tell.
VARIANT_MARKERS = "s^vP*X<>"


def cell_plot(results: Sequence[TrialResult]) -> Plot:
    """Cost and return of every episode of one cell, method by method, all seeds together.

    Args:
        results: of one cell, at least one.
    """
    methods = [row.method for row in rows_of(results)]
    evaluations = [
        Evaluation(
            name=method, title=method, policy_id=",".join(result.checkpoint_id for result in found),
            episodes=[episode for result in found for episode in result.episodes],
        )
        for method in methods
        for found in [[result for result in results if result.method == method]]
    ]  # fmt: skip
    return episodes_plot(evaluations, results[0].cost_limit)


# Shares of retraining's return that are drawn to scale, and what is written at the axis.
LINEAR_RETURN = 2.0
RETURN_TICKS = (-100, -20, -5, -2, -1, 0, 0.5, 1, 1.5, 2, 5, 20, 100)


def overview_plot(rows: Sequence[MethodRow]) -> Plot:
    """One point for each method and cell: return, as share of retraining's, against cost, as share of the limit."""
    shown = [row for row in rows if row.return_ratio == row.return_ratio]
    methods = list(dict.fromkeys(row.method for row in shown))
    variants = [method for method in methods if method not in LIGHT.policies]
    markers = {method: VARIANT_MARKERS[k % len(VARIANT_MARKERS)] for k, method in enumerate(variants)} | {RETRAIN: "D"}

    def draw(palette: Palette) -> Figure:
        figure = Figure(figsize=(7.2, 5.0), layout="constrained")
        axes = figure.subplots()
        style(axes, palette)
        axes.grid(color=palette.faint, linewidth=0.8)
        axes.set_axisbelow(True)
        for method in methods:
            of_method = [row for row in shown if row.method == method]
            colour = palette.policies.get(method, palette.ink)
            axes.scatter(
                [row.return_ratio for row in of_method], [row.worst_cost / row.cost_limit for row in of_method],
                s=46, color=colour, alpha=0.85, marker=markers.get(method, "o"), linewidths=0,
            )  # fmt: skip
        axes.axhline(1.0, color=palette.limit, linestyle=DASHED, linewidth=1.4, zorder=1)
        axes.set_xlabel("Mean return, share of retraining's")
        axes.set_ylabel("Mean cost, share of the limit\n(with a marker, if more)")
        # Most returns are near that of retraining, and where that is near zero some are far from it.
        axes.set_xscale("symlog", linthresh=LINEAR_RETURN, linscale=2.0)
        axes.xaxis.set_major_locator(FixedLocator(RETURN_TICKS))
        axes.xaxis.set_major_formatter("{x:g}")
        # Most points are below the limit, and some far above it.
        axes.set_yscale("symlog", linthresh=1.0, linscale=1.0)
        axes.set_ylim(bottom=-0.05, top=1.2 * max([1.0, *(row.worst_cost / row.cost_limit for row in shown)]))
        axes.yaxis.set_major_locator(FixedLocator(_ticks(axes.get_ylim()[1])))
        axes.yaxis.set_major_formatter("{x:g}")
        looks = {name: (palette.policies.get(name, palette.ink), markers.get(name, "o")) for name in methods}
        keys = [
            Line2D([], [], color=colour, marker=marker, linestyle="", label=name)
            for name, (colour, marker) in looks.items()
        ]
        figure.legend(
            handles=keys, loc="outside upper right", ncols=3, frameon=False, labelcolor=palette.ink, fontsize=9.5
        )
        return figure

    alt = "; ".join(
        f"{row.method} in {row.cell.name}: return {percent(row.return_ratio)} of retraining's, "
        f"cost {percent(row.worst_cost / row.cost_limit)} of the limit"
        for row in shown
    )
    return both(draw, f"Return and cost of each method in each cell. {alt}.")


def _ticks(top: float) -> list[float]:
    """Below the limit by fifths, above it 1, 2, 5, 10 and so on."""
    above = [step * 10.0**power for power in range(6) for step in (1, 2, 5)]
    return [0.0, 0.2, 0.4, 0.6, 0.8] + [tick for tick in above if tick <= top]


def save_plot(plot: Plot, path: Path) -> None:
    """Writes <path>-light.svg and <path>-dark.svg."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for name, text in (("light", plot.light), ("dark", plot.dark)):
        write_atomically(path.with_name(f"{path.name}-{name}.svg"), text.encode())
