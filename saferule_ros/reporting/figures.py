"""The report's plots, as SVG: each once for light and once for dark backgrounds. Drawn without a display."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from saferule_ros.reporting.palette import DARK, LIGHT, Palette
from saferule_ros.reporting.results import Evaluation

# For a picture that a page shows about 1000 pixels wide [points]. The salt: same input, same file; matplotlib would
# put random ids and the date into an SVG.
_STYLE: dict[Any, Any] = {
    "font.size": 10.5, "axes.titlesize": 11.5, "axes.titleweight": "bold",
    "svg.fonttype": "path", "svg.hashsalt": "saferule",
}  # fmt: skip
_NO_DATE: dict[str, str | None] = {"Date": None, "Creator": None}
_SPREAD = 0.30  # half the width over which the points of one evaluation are spread
_BINS = 48
# Values beyond these percentiles are gathered in the outermost bins: a few outliers must not flatten the rest.
_TAILS = (0.5, 99.5)

# What is the same policy as an earlier evaluation is drawn hollow.
_REPEATS = ("rolled_back", "forward_again")


@dataclass(frozen=True)
class Plot:
    """One picture in both colour schemes, and what it shows in words."""

    light: str  # SVG text
    dark: str
    alt: str


def episodes_plot(evaluations: Sequence[Evaluation], cost_limit: float) -> Plot:
    """Cost and return of every episode, policy by policy, with mean and median; the cost limit as a line."""
    alt = "; ".join(
        f"{e.heading}: cost {min(e.costs):.0f} to {max(e.costs):.0f}, mean {e.cost_mean:.1f}, "
        f"return mean {e.return_mean:.1f}, {len(e.episodes)} episodes"
        for e in evaluations
    )

    def draw(palette: Palette) -> Figure:
        figure = Figure(figsize=(10.4, 4.5), layout="constrained")
        cost_axes, return_axes = figure.subplots(1, 2)
        _strips(cost_axes, evaluations, [e.costs for e in evaluations], palette)
        cost_axes.axhline(cost_limit, color=palette.limit, linestyle=DASHED, linewidth=1.4, zorder=1)
        cost_axes.annotate(
            f"limit\n{cost_limit:g}", (1, cost_limit), (3, 0), xycoords=("axes fraction", "data"),
            textcoords="offset points", color=palette.limit, va="center", fontsize=9.5,
        )  # fmt: skip
        cost_axes.set_title("Cost per episode", loc="left", color=palette.ink)
        cost_axes.set_ylim(bottom=min(0.0, cost_axes.get_ylim()[0]))
        _strips(return_axes, evaluations, [e.returns for e in evaluations], palette)
        return_axes.set_title("Return per episode", loc="left", color=palette.ink)
        return_axes.set_ylim(bottom=min(0.0, return_axes.get_ylim()[0]))
        return figure

    return both(draw, f"Each episode's cost and return. Cost limit {cost_limit:g}. {alt}.")


def values_plot(values: Mapping[str, NDArray[np.floating]], reference: float, required: float) -> Plot:
    """Histograms of the critics' values on forget and keep data, before and after the patch.

    Args:
        values: before_reward_forget … after_cost_keep, each (S,), as patching.values.load_values gives them.
        reference: the value of Q_r that forget data must not exceed on average; NaN: no line.
        required: the value of Q_c that forget data must reach on average; NaN: no line.
    """
    rows = (("reward", "r", "≤", reference), ("cost", "c", "≥", required))

    def draw(palette: Palette) -> Figure:
        figure = Figure(figsize=(10.4, 5.6), layout="constrained")
        grid = figure.subplots(2, 2, sharex="row", sharey="row")
        for axes_pair, (kind, index, sign, bound) in zip(grid, rows, strict=True):
            bins = _bins([values[f"{when}_{kind}_{part}"] for when in _WHEN for part in _PARTS], bound)
            for axes, when in zip(axes_pair, _WHEN, strict=True):
                style(axes, palette)
                for part in _PARTS:
                    _histogram(axes, values[f"{when}_{kind}_{part}"], bins, getattr(palette, part))
                if np.isfinite(bound):
                    axes.axvline(bound, color=palette.limit, linestyle=DASHED, linewidth=1.4)
                    axes.annotate(
                        f"{sign} {bound:.1f}", (bound, 1), (4, -2), xycoords=("data", "axes fraction"),
                        textcoords="offset points", color=palette.limit, va="top", fontsize=9.5,
                    )  # fmt: skip
                axes.set_title(rf"Q$_{{\mathbf{{{index}}}}}$ {when} the patch", loc="left", color=palette.ink)
                axes.set_yticks([])
                axes.spines["left"].set_visible(False)
        figure.legend(
            handles=_value_keys(palette), loc="outside upper right", ncols=4, frameon=False,
            labelcolor=palette.ink, fontsize=9.5,
        )  # fmt: skip
        return figure

    means = {name: float(np.mean(array)) for name, array in values.items()}
    alt = "; ".join(
        f"{symbol} of {part} data: mean {means[f'before_{kind}_{part}']:.2f} before, "
        f"{means[f'after_{kind}_{part}']:.2f} after"
        for kind, symbol in (("reward", "Q_r"), ("cost", "Q_c"))
        for part in _PARTS
    )
    return both(draw, f"Histograms of the critics' values. {alt}.")


_WHEN, _PARTS = ("before", "after"), ("keep", "forget")
DASHED = (0, (5, 3))
# Names below an axis: beside each other as long as there is room for the longest of them, tilted where there are more.
_MOST_UPRIGHT = 6
TILTED: Any = {"rotation": 30, "rotation_mode": "anchor", "ha": "right", "va": "center", "fontsize": 8.5}


def both(draw: Callable[[Palette], Figure], alt: str) -> Plot:
    """A figure drawn for both backgrounds; `alt` says in words what it shows."""
    return Plot(_svg(draw, LIGHT), _svg(draw, DARK), alt)


def _svg(draw: Callable[[Palette], Figure], palette: Palette) -> str:
    with rc_context(_STYLE):
        buffer = io.StringIO()
        draw(palette).savefig(buffer, format="svg", transparent=True, metadata=_NO_DATE)
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _strips(
    axes: Axes, evaluations: Sequence[Evaluation], columns: Sequence[Sequence[float]], palette: Palette
) -> None:
    """One column of points per evaluation; side by side where they would hide each other."""
    style(axes, palette)
    axes.grid(axis="y", color=palette.faint, linewidth=0.8)
    axes.set_axisbelow(True)
    span = max((max(c) for c in columns), default=1.0) - min((min(c) for c in columns), default=0.0) or 1.0
    for position, (evaluation, column) in enumerate(zip(evaluations, columns, strict=True)):
        colour = palette.policies.get(evaluation.name, palette.ink)
        hollow = evaluation.name in _REPEATS
        axes.scatter(
            position + _beside(column, span / 45), column, s=30, zorder=3, linewidths=1.3,
            edgecolors=colour, facecolors="none" if hollow else colour, alpha=0.85,
        )  # fmt: skip
        mean, median = float(np.mean(column)), float(np.median(column))
        at = position + 1.35 * _SPREAD
        axes.plot([at - 0.06, at + 0.06], [mean, mean], color=palette.ink, linewidth=2.6, zorder=4)
        axes.plot([at], [median], marker="D", markersize=5, color=palette.ink, fillstyle="none", zorder=4)
    if len(evaluations) > _MOST_UPRIGHT:
        axes.set_xticks(range(len(evaluations)), [e.name for e in evaluations], **TILTED)
    else:
        axes.set_xticks(range(len(evaluations)), [e.name.replace("_", "\n") for e in evaluations])
    axes.set_xlim(-0.6, len(evaluations) - 0.4)
    axes.tick_params(axis="x", length=0, pad=6)
    axes.margins(y=0.06)
    axes.plot([], [], color=palette.ink, linewidth=2.6, label="mean")
    axes.plot([], [], marker="D", markersize=5, color=palette.ink, fillstyle="none", linestyle="", label="median")
    axes.legend(
        frameon=False, ncols=2, loc="lower right", bbox_to_anchor=(1.0, 1.0), labelcolor=palette.ink,
        fontsize=9.5, borderaxespad=0.2,
    )  # fmt: skip


def _beside(column: Sequence[float], near: float) -> NDArray[np.float64]:
    """Offsets (N,): each point as far in the middle as it can be without touching one that is `near` in value."""
    count = len(column)
    steps = [0] + [side * k for k in range(1, count) for side in (-1, 1)]  # places, from the middle outwards
    taken: list[tuple[float, int]] = []
    for value in column:
        beside = {place for other, place in taken if abs(other - value) < near}
        taken.append((value, next(place for place in steps if place not in beside)))
    widest = max((abs(place) for _, place in taken), default=0)
    step = min(0.075, _SPREAD / max(1, widest))
    return np.array([place * step for _, place in taken]) - 0.08  # leaves room for mean and median at the right


def _bins(columns: Sequence[NDArray[np.floating]], line: float) -> NDArray[np.float64]:
    lows, highs = zip(*(np.percentile(column, _TAILS) for column in columns), strict=True)
    low, high = min(lows), max(highs)
    if np.isfinite(line):
        low, high = min(low, line), max(high, line)
    margin = 0.03 * (high - low) or 1.0
    return np.linspace(low - margin, high + margin, _BINS + 1)


def _histogram(axes: Axes, column: NDArray[np.floating], bins: NDArray[np.float64], colour: str) -> None:
    clipped = np.clip(column, bins[0], bins[-1])
    weights = np.full(len(column), 1.0 / len(column))  # shares: the two sets differ in size
    axes.hist(clipped, bins=list(bins), weights=weights, histtype="stepfilled", color=colour, alpha=0.30)
    axes.hist(clipped, bins=list(bins), weights=weights, histtype="step", color=colour, linewidth=1.6)
    mean = float(np.clip(np.mean(column), bins[0], bins[-1]))
    axes.plot([mean], [0], marker="^", color=colour, markersize=9, clip_on=False, zorder=5)


def _value_keys(palette: Palette) -> list[Artist]:
    return [
        *(Patch(facecolor=to_rgba(c, 0.3), edgecolor=c, linewidth=1.6, label=f"{part} data")
          for part in _PARTS for c in (getattr(palette, part),)),
        Line2D([], [], color=palette.ink, marker="^", markersize=9, linestyle="", label="mean"),
        Line2D([], [], color=palette.limit, linestyle=DASHED, linewidth=1.4, label="bound for forget data's mean"),
    ]  # fmt: skip


def style(axes: Axes, palette: Palette) -> None:
    """The report's look: no box, faint lines, the palette's ink."""
    axes.set_facecolor("none")
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(palette.faint if name == "left" else palette.ink)
    axes.tick_params(colors=palette.ink, length=3)
    axes.xaxis.label.set_color(palette.ink)
    axes.yaxis.label.set_color(palette.ink)
