"""Figures of agreement: differences against means, ROC curves, and calibration. PNG, for screen and print.

Groups differ in shape as well as in colour, and every figure has what it shows in words, as alternative text: a PNG
carries it in its field "Description".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vertebra_core.statistics.bland_altman import Limits
from vertebra_core.statistics.calibration import Bin

WHITE, BLACK, GREY = "#FFFFFF", "#1B1E22", "#5F6770"
BLUE, ORANGE, GREEN = "#0067A5", "#B5480A", "#00705A"
"""Dark enough for 4.5 : 1 on white, and apart in lightness and hue with every kind of colour vision."""
TITLES = {
    "ha_mm": "anterior height, mm", "hm_mm": "middle height, mm", "hp_mm": "posterior height, mm", "g": "G",
}  # fmt: skip
SERIES = ((BLUE, "-", "o"), (ORANGE, "--", "s"), (GREEN, ":", "^"))
MOST_POINTS = 5000
"""Points that are drawn of a scatter; of more, so many at random."""
DPI = 150


@dataclass(frozen=True)
class Picture:
    """A figure and what it shows, in words."""

    name: str
    figure: Figure
    words: str


def save(pictures: Sequence[Picture], folder: Path) -> list[Path]:
    """Write each as PNG with its words; the folder is made."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for one in pictures:
        path = folder / f"{one.name}.png"
        one.figure.savefig(path, dpi=DPI, facecolor=WHITE, metadata={"Title": one.name, "Description": one.words})
        paths.append(path)
    return paths


def bland_altman(
    name: str, measures: Sequence[tuple[str, Float[np.ndarray, "n 2"], Limits]], first: str, second: str
) -> Picture:
    """Difference against mean of two measurements, a panel for each measure.

    Parameters
    ----------
    name : str
    measures : sequence of (title, values, limits)
        Values [n, 2]: by `first` and by `second`.
    first, second : str
        What they are called.
    """
    figure, panels = _panels(len(measures), "Agreement of heights and of G")
    words = []
    for axes, (title, values, limits) in zip(panels, measures, strict=True):
        shown = values
        if len(values) > MOST_POINTS:
            shown = values[np.random.default_rng(0).choice(len(values), MOST_POINTS, replace=False)]
        axes.plot(shown.mean(1), shown[:, 1] - shown[:, 0], "o", ms=3.5, mfc="none", mec=BLUE, alpha=0.6)
        axes.axhline(0, color=GREY, lw=0.8)
        if limits.bias is not None and limits.low is not None and limits.high is not None:
            for value, style in ((limits.bias, "-"), (limits.low, "--"), (limits.high, "--")):
                axes.axhline(value, color=ORANGE, ls=style, lw=1.4)
            for ends in ((limits.bias_low, limits.bias_high), limits.low_interval, limits.high_interval):
                if ends is not None and None not in ends:
                    axes.axhspan(*ends, color=ORANGE, alpha=0.12, lw=0)  # type: ignore[arg-type]
            words.append(
                f"{title}: bias {limits.bias:+.3g}, limits {limits.low:+.3g} to {limits.high:+.3g}, n {limits.n}"
            )
        _label(axes, title, f"mean of {first} and {second}", f"{second} minus {first}")
    return Picture(name, figure, f"Difference against mean, {second} minus {first}. {'; '.join(words)}.")


def roc_curves(name: str, curves: Mapping[str, Sequence[tuple[str, Bool[np.ndarray, "n"], Float[np.ndarray, "n"]]]]):
    """ROC curves, a panel for each unit; each curve is (label, case, score)."""
    from sklearn.metrics import roc_curve

    figure, panels = _panels(len(curves), "Finding fractures: sensitivity and specificity at every bound of G")
    words = []
    for axes, (unit, own) in zip(panels, curves.items(), strict=True):
        for (label, case, score), (colour, line, _) in zip(own, SERIES, strict=False):
            if case.any() and not case.all():
                false, true, _ = roc_curve(case, score)
                axes.plot(false, true, line, color=colour, lw=1.8, drawstyle="steps-post", label=label)
                words.append(f"{unit}, {label}")
        axes.plot([0, 1], [0, 1], color=GREY, lw=0.8)
        axes.set_xlim(-0.01, 1.01)
        axes.set_ylim(-0.01, 1.01)
        axes.set_aspect("equal")
        if axes.get_lines()[:-1]:
            axes.legend(loc="lower right", frameon=False, fontsize=8)
        _label(axes, f"by {unit}", "1 - specificity", "sensitivity")
    return Picture(name, figure, f"ROC curves of -G. {'; '.join(words)}.")


def calibration_curves(name: str, title: str, curves: Sequence[tuple[str, Sequence[Bin]]], stated: str, observed: str):
    """What was stated against what came true, in tenths of the sample, a panel for each curve."""
    figure, panels = _panels(len(curves), title)
    words = []
    for axes, (label, bins) in zip(panels, curves, strict=True):
        points = np.array([(one.stated, one.observed) for one in bins]).reshape(-1, 2)
        top = float(points.max(initial=0.0)) * 1.08 or 1.0
        axes.plot([0, top], [0, top], color=GREY, lw=0.8)
        axes.plot(*points.T, "-o", color=BLUE, ms=5, lw=1.2)
        axes.set_xlim(0, top)
        axes.set_ylim(0, top)
        axes.set_aspect("equal")
        _label(axes, label, stated, observed)
        words.append(f"{label}: {', '.join(f'{a:.3g} / {b:.3g}' for a, b in points)}")
    return Picture(name, figure, f"{title}; stated / observed in tenths. {'; '.join(words)}.")


def _panels(n: int, title: str) -> tuple[Figure, list[Axes]]:
    """A row of panels, or two rows of two."""
    columns = n if n <= 3 else 2
    lines = -(-n // columns)
    figure = Figure(figsize=(4.2 * columns, 3.7 * lines + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, color=BLACK, fontsize=12, x=0.01, ha="left")
    grid = figure.subplots(lines, columns, squeeze=False)
    return figure, list(grid.ravel())[:n]


def _label(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, loc="left", color=BLACK, fontsize=10)
    axes.set_xlabel(x, color=BLACK, fontsize=9)
    axes.set_ylabel(y, color=BLACK, fontsize=9)
    axes.tick_params(colors=BLACK, labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
