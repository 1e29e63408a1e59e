"""Drawings for the page: marks with a place and a kind, which the style sheet colours; no plotting library.

A drawing is data. Its colours come from the page (light, dark or paper), its text stays text, and equal numbers make
equal bytes. Every figure brings the table that it draws.
"""

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH = 440.0
"""Units of every drawing: on a phone 358 pixels wide, so that text of 14 units is 11 pixels high."""
ROW = 24.0
"""Height of a row with a label."""
MOST_TICKS = 5
NICE_STEPS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5)


@dataclass(frozen=True)
class Mark:
    """One SVG element.

    Parameters
    ----------
    tag : str
    kind : str
        Class of the style sheet.
    place : tuple of (str, str)
        Attributes.
    text : str or None
    """

    tag: str
    kind: str
    place: tuple[tuple[str, str], ...]
    text: str | None = None


@dataclass(frozen=True)
class Table:
    """A table of the page; the first column names the row, cells of `text` columns stand to the left."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Figure:
    """A drawing with what a reader needs who cannot see it.

    Parameters
    ----------
    identifier : str
        Unique on the page.
    title : str
        What is drawn.
    description : str
        What it shows, in a sentence.
    height : float
        Units; the width is `WIDTH`.
    marks : tuple of Mark
    table : Table
        The numbers that are drawn.
    legend : tuple of (str, str)
        Kind and what it stands for.
    """

    identifier: str
    title: str
    description: str
    height: float
    marks: tuple[Mark, ...]
    table: Table
    legend: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Scale:
    """A straight map from values to units.

    Examples
    --------
    >>> Scale(0.0, 0.5, 100.0, 300.0)(0.25)
    200.0
    """

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The unit of a value; values outside are drawn at the border."""
        value = min(max(value, self.low), self.high)
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def share_scale(highest: float, start: float, end: float) -> tuple[Scale, tuple[float, ...]]:
    """A scale from 0 to at least `highest`, and its ticks.

    Examples
    --------
    >>> share_scale(0.17, 0.0, 1.0)[1]
    (0.0, 0.05, 0.1, 0.15, 0.2)
    """
    highest = min(max(highest, NICE_STEPS[0]), 1.0)
    step = next((one for one in NICE_STEPS if highest / one <= MOST_TICKS - 1), NICE_STEPS[-1])
    n = int(-(-highest // step))
    return Scale(0.0, n * step, start, end), tuple(round(i * step, 3) for i in range(n + 1))


def rect(kind: str, x: float, y: float, width: float, height: float) -> Mark:
    """A rectangle by its upper left corner."""
    return Mark("rect", kind, (_at("x", x), _at("y", y), _at("width", max(width, 0.0)), _at("height", height)))


def line(kind: str, x1: float, y1: float, x2: float, y2: float) -> Mark:
    """A straight line."""
    return Mark("line", kind, (_at("x1", x1), _at("y1", y1), _at("x2", x2), _at("y2", y2)))


def dot(kind: str, x: float, y: float, radius: float = 4.5) -> Mark:
    """A circle."""
    return Mark("circle", kind, (_at("cx", x), _at("cy", y), _at("r", radius)))


def path(kind: str, points: Sequence[tuple[float, float]], closed: bool = False) -> Mark:
    """A line through points, or the area inside it."""
    places = " ".join(f"{_number(x)},{_number(y)}" for x, y in points)
    return Mark("polygon" if closed else "polyline", kind, (("points", places),))


def text(kind: str, x: float, y: float, words: str, anchor: str = "start") -> Mark:
    """Words on a base line; `anchor` is start, middle or end."""
    place = (_at("x", x), _at("y", y))
    return Mark("text", kind, place if anchor == "start" else (*place, ("text-anchor", anchor)), words)


def share_axis(scale: Scale, ticks: Sequence[float], top: float, bottom: float, words: str) -> list[Mark]:
    """Upright grid lines with per cent below, and what is measured."""
    marks = []
    for tick in ticks:
        marks += [line("grid", scale(tick), top, scale(tick), bottom)]
        marks += [text("tick", scale(tick), bottom + 16, f"{100 * tick:g}", "middle")]
    return [*marks, text("tick", (scale.start + scale.end) / 2, bottom + 34, words, "middle")]


def _at(name: str, value: float) -> tuple[str, str]:
    return name, _number(value)


def _number(value: float) -> str:
    """A tenth of a unit is finer than any screen shows."""
    return f"{value:.1f}".removesuffix(".0")
