"""Line plots as small SVG files, without a plotting library."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 64, 496, 40, 312
"""The plot area. The names of the lines are to its right."""

COLOURS = ("#0969da", "#bc4c00", "#1a7f37", "#8250df", "#6e7781")
"""Colours of the lines, readable on white and on black."""

Points = Sequence[tuple[float, float]]


class Plot(NamedTuple):
    """A plot. lines: points by name. Both axes begin at 0."""

    title: str
    x: str
    y: str
    lines: Mapping[str, Points]

    @property
    def file(self) -> str:
        """The file name, from the title."""
        text = "".join(letter if letter.isalnum() else " " for letter in self.title.lower())
        return "-".join(text.split()) + ".svg"


class Scale(NamedTuple):
    """Maps values from 0 to `top` to coordinates from `start` to `end`."""

    top: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (self.end - self.start) * value / self.top

    def ticks(self) -> list[float]:
        step = _round(self.top / 5)
        return [number * step for number in range(math.floor(self.top / step * 1.0001) + 1)]


def svg(plot: Plot) -> str:
    points = [point for line in plot.lines.values() for point in line]
    across = Scale(max(x for x, _ in points), LEFT, RIGHT)
    up = Scale(1.05 * max(y for _, y in points) or 1, BOTTOM, TOP)
    parts = [
        _text(LEFT, 22, plot.title, weight="bold"),
        _text((LEFT + RIGHT) / 2, HEIGHT - 12, plot.x, anchor="middle"),
        _text(LEFT, TOP - 4, plot.y),
        *(_grid_line(up(value), value) for value in up.ticks()),
        *(_text(across(x), BOTTOM + 18, f"{x:g}", anchor="middle") for x in across.ticks()),
        *(
            part
            for number, (name, line) in enumerate(plot.lines.items())
            for part in _line(name, [(across(x), up(y)) for x, y in line], number)
        ),
    ]
    return "\n".join([HEAD, *parts, "</svg>", ""])


HEAD = (
    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
    'font-family="sans-serif" font-size="12">\n'
    '<rect width="100%" height="100%" fill="#fff"/>'
)


def _line(name: str, points: Points, number: int) -> list[str]:
    colour = COLOURS[number % len(COLOURS)]
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return [
        f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="2"/>',
        *(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points),
        _text(RIGHT + 16, TOP + 12 + 20 * number, name, colour=colour, weight="bold"),
    ]


def _grid_line(place: float, value: float) -> str:
    line = f'<path d="M{LEFT} {place:.1f}H{RIGHT}" stroke="#d0d7de"/>'
    return line + _text(LEFT - 6, place + 4, f"{value:g}", anchor="end")


def _text(
    x: float,
    y: float,
    text: str,
    *,
    anchor: str = "start",
    colour: str = "#1f2328",
    weight: str = "normal",
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" '
        f'font-weight="{weight}">{escape(text)}</text>'
    )


def _round(step: float) -> float:
    """The next of 1, 2 and 5 times a power of ten."""
    power: float = 10.0 ** math.floor(math.log10(step))
    return next(power * times for times in (1, 2, 5, 10) if power * times >= step)
