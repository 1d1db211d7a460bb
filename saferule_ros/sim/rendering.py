"""The picture that shows what a policy does: its path over the ground, drawn on the camera's image. [ours]"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from saferule_ros.errors import SaferuleError
from saferule_ros.sim.camera import OVERVIEW_EXTENT, Camera, Image, View, overview
from saferule_ros.sim.environment import SafetyEnvironment

# Blue and vermilion: told apart by everybody, the colour-blind included, and on the green of the circle.
SAFE_COLOUR = (17, 85, 168)
COST_COLOUR = (213, 56, 0)
_WALL_COLOUR = (160, 20, 20)
_UNSAFE_TINT = (220, 40, 20, 40)
_CASING = (255, 255, 255, 215)
_INK = (32, 36, 44)

_OVERSAMPLING = 4  # drawn at this many times the size and averaged: Pillow does not smooth lines itself
_WALL_LENGTH = 3.5  # [m], half the floor of Safety-Gymnasium
_MARGIN = 0.25  # [m] kept around a path that leaves the usual view
_UNIT = 1 / 960  # line widths and text sizes are for a picture 960 pixels wide, and scale with it

Colour = tuple[int, int, int] | tuple[int, int, int, int]


def path_picture(
    environment: SafetyEnvironment,
    path: NDArray[np.float64],
    costs: NDArray[np.floating],
    *,
    title: str = "",
    note: str | None = None,
    legend: bool = True,
    width: int = 960,
    height: int = 720,
) -> Image:
    """The world as it is now, with a path of the robot on it. The robot is drawn where it stands.

    Args:
        environment: after reset(); at the end of the episode, or at its start.
        path: world x, y [m], (T+1, 2), e.g. Trajectory.path.
        costs: cost of each step, (T,): steps that cost something are drawn in another colour.
        title: first line in the picture's corner.
        note: second line; None: cost and share of costly steps.
        legend: whether title, note and the key to the colours are drawn.
        width, height: pixels.

    Returns:
        uint8 (height, width, 3).

    Raises:
        SaferuleError: path and costs do not fit each other or are not finite.
        PictureError: no EGL on this machine.
    """
    path, costs = np.asarray(path, np.float64), np.asarray(costs, np.float64)
    if path.ndim != 2 or path.shape[1] != 2 or costs.shape != (len(path) - 1,) or len(costs) == 0:
        raise SaferuleError(
            f"a path of shape {path.shape} with costs of shape {costs.shape}",
            "Give T+1 points (x, y) and T costs, T at least 1",
        )
    if not (np.isfinite(path).all() and np.isfinite(costs).all()):
        raise SaferuleError("path or costs hold a NaN or infinity", "Leave such episodes out")
    view = overview(max(OVERVIEW_EXTENT, float(np.abs(path).max()) + _MARGIN))
    camera = Camera(width, height)
    try:
        ground = camera.picture(environment.model, environment.data, view, environment.robot_geoms())
        robot = camera.picture(environment.model, environment.data, view)
    finally:
        camera.close()
    canvas = _Canvas(ground, view)
    _draw_walls(canvas, environment.walls())
    _draw_path(canvas, path, costs)
    canvas.paste(robot, (ground != robot).any(axis=2))
    if note is None:
        note = f"cost {costs.sum():.0f}: {float((costs > 0).mean()):.0%} of {len(costs)} steps"
    if legend:
        _draw_legend(canvas, title, note)
    return np.array(canvas.image.resize((width, height), Pillow.Resampling.BOX), np.uint8)


def save_picture(image: Image, file: Path) -> None:
    """Writes a picture (height, width, 3) uint8 as PNG."""
    Pillow.fromarray(image).save(file, format="PNG")


class _Canvas:
    """A picture that can be drawn on in world coordinates on the ground, and with transparent colours."""

    def __init__(self, ground: Image, view: View) -> None:
        self.image = _enlarged(ground)
        self.draw = ImageDraw.Draw(self.image, "RGBA")
        self.unit = self.image.width * _UNIT
        self._view = view

    def pixels(self, points: NDArray[np.float64]) -> list[tuple[float, float]]:
        """Where points (N, 2) [m] on the ground are in the picture."""
        lifted = np.column_stack([points, np.zeros(len(points))])
        return [(float(x), float(y)) for x, y in self._view.project(lifted, *self.image.size)]

    def line(self, points: NDArray[np.float64], colour: Colour, thickness: float) -> None:
        width = max(1, round(thickness * self.unit))
        self.draw.line(self.pixels(points), fill=colour, width=width, joint="curve")

    def ring(self, point: NDArray[np.float64], radius: float, fill: Colour, outline: Colour) -> None:
        (x, y), r = self.pixels(point[None])[0], radius * self.unit
        width = round(2.5 * self.unit)
        self.draw.ellipse((x - r, y - r, x + r, y + r), fill=fill, outline=outline, width=width)

    def paste(self, source: Image, where: NDArray[np.bool_]) -> None:
        self.image.paste(_enlarged(source), mask=_enlarged(where.astype(np.uint8) * 255))


def _enlarged(image: NDArray[np.uint8]) -> Pillow.Image:
    return Pillow.fromarray(image.repeat(_OVERSAMPLING, axis=0).repeat(_OVERSAMPLING, axis=1))


def _draw_walls(canvas: _Canvas, walls: tuple[float | None, float | None]) -> None:
    """A red line along each wall, and a tint on the ground behind it."""
    for axis, limit in enumerate(walls):
        if limit is None:
            continue
        for side in (-1.0, 1.0):
            wall = np.array([[side * limit, -_WALL_LENGTH], [side * limit, _WALL_LENGTH]])
            behind = wall[::-1] * np.array([_WALL_LENGTH / limit, 1.0])
            order = [0, 1] if axis == 0 else [1, 0]
            canvas.draw.polygon(canvas.pixels(np.concatenate([wall, behind])[:, order]), fill=_UNSAFE_TINT)
            canvas.line(wall[:, order], _WALL_COLOUR, 3.0)


def _draw_path(canvas: _Canvas, path: NDArray[np.float64], costs: NDArray[np.floating]) -> None:
    canvas.line(path, _CASING, 6.0)
    for begin, end in _stretches(costs > 0):
        canvas.line(path[begin : end + 1], COST_COLOUR if costs[begin] > 0 else SAFE_COLOUR, 3.2)
    canvas.ring(path[0], 7.0, (255, 255, 255), _INK)


def _stretches(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Begin and end (exclusive) of each run of equal values."""
    edges = [0, *(np.flatnonzero(np.diff(flags)) + 1).tolist(), len(flags)]
    return list(itertools.pairwise(edges))


def _draw_legend(canvas: _Canvas, title: str, note: str) -> None:
    unit, draw = canvas.unit, canvas.draw
    large, small = ImageFont.load_default(24 * unit), ImageFont.load_default(17 * unit)
    key = (("safe", SAFE_COLOUR), ("costs", COST_COLOUR), ("wall", _WALL_COLOUR))
    left, top, gap, swatch = 20 * unit, 18 * unit, 12 * unit, 26 * unit
    key_width = sum(swatch + gap / 2 + draw.textlength(word, small) + gap for word, _ in key) - gap
    lines = ((title, large, 34 * unit), (note, small, 28 * unit))
    texts = [line for line in lines if line[0]]
    inner = max([key_width, *(draw.textlength(text, font) for text, font, _ in texts)])
    bottom = top + sum(advance for *_, advance in texts) + 30 * unit
    panel = (left - gap, top - gap, left + inner + gap, bottom)
    draw.rounded_rectangle(panel, 10 * unit, fill=(255, 255, 255, 225))
    for text, font, advance in texts:
        draw.text((left, top), text, font=font, fill=_INK)
        top += advance
    for word, colour in key:
        middle = top + 11 * unit
        draw.line((left, middle, left + swatch, middle), fill=colour, width=round(4 * unit))
        draw.text((left + swatch + gap / 2, top), word, font=small, fill=_INK)
        left += swatch + gap / 2 + draw.textlength(word, small) + gap
