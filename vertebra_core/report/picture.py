"""The picture of a study: what a radiologist looks at to trust or to correct the numbers (paper Fig. 1 c and f).

Left, the straightened mid-sagittal slice with six keypoints and three heights a vertebra and their values beside it;
right, the CT from the side as it was scanned, with the centre line and the vertebrae coloured by grade. Both panels
have the same scale. One axes covers the whole figure and counts in pixels, so that every place is exact.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle
from matplotlib.patheffects import withStroke
from PIL import Image
from scipy.optimize import isotonic_regression

from vertebra_core.report.palette import (
    CURVE_COLOUR,
    FAINT,
    GRADE_COLOURS,
    INK,
    OUTSIDE,
    PAPER,
    UNMEASURED_COLOUR,
)
from vertebra_core.report.png import png_bytes
from vertebra_core.report.projection import SLAB_MM, SagittalProjection, project_sagittal
from vertebra_core.settings import GradingSettings
from vertebra_core.study import StudyResult
from vertebra_core.tables.grades import grade, shape
from vertebra_core.volume import Volume

WINDOW_HU, LEVEL_HU = 1400.0, 350.0
"""Bone window: lung and fat nearly black, marrow grey, cortex and endplates bright but not burnt out."""

DPI = 100
TEXT_PX = 19
LEGEND_PX = 17
SMALL_PX = 15
ROW_PX = 25
"""Least distance of two rows of numbers."""

MARGIN, HEAD, FOOT, LABELS, GAP = 30, 104, 96, 92, 24
"""Outer margin; title and column heads above the images; legend below; column of levels; gap between the halves."""

COLUMNS = (("hₐ", 62), ("hₘ", 132), ("hₚ", 202), ("G", 280))
"""Columns of numbers: head, and right edge in pixels from the straightened image."""

GRADE_COLUMN, NUMBERS = 304, 530
"""Left edge of the grade column and width of all columns, pixels."""

TALLEST_PX, LEAST_SCALE, MOST_SCALE = 1500.0, 3.5, 5.0
"""Pixels a millimetre: as many as give an image of `TALLEST_PX`, within bounds (a vertebra of 20 mm: 70 to 100)."""

SHOWN_MM = (-34.0, 46.0)
"""What is shown of the straightened slice before and behind the line: body, spurs, canal and spinous processes."""


@dataclass(frozen=True)
class Panel:
    """Where an image lies in the figure: maps millimetres (across, along) to pixels (right, down)."""

    left: float
    top: float
    across_mm: tuple[float, float]
    along_mm: tuple[float, float]
    scale: float

    @property
    def width(self) -> float:
        """Width of the image, pixels."""
        return (self.across_mm[1] - self.across_mm[0]) * self.scale

    @property
    def height(self) -> float:
        """Height of the image, pixels."""
        return abs(self.along_mm[1] - self.along_mm[0]) * self.scale

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Left, right, bottom, top for imshow, pixels."""
        return self.left, self.left + self.width, self.top + self.height, self.top

    def px(self, points: Float[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n 2"]:
        """Pixels of points (across, along) mm; `along_mm` runs from the top of the image downward."""
        down = np.sign(self.along_mm[1] - self.along_mm[0])
        start = np.array([self.across_mm[0], self.along_mm[0]])
        return np.array([self.left, self.top]) + (points - start) * np.array([1.0, down]) * self.scale


@dataclass(frozen=True)
class Line:
    """What is printed and drawn for one vertebra."""

    name: str
    colour: str
    values: tuple[str, ...]
    verdict: str
    measured: bool
    deformed: bool


def draw_study(result: StudyResult, volume: Volume, grading: GradingSettings, title: str = "") -> bytes:
    """Draw a study as PNG.

    Parameters
    ----------
    result : StudyResult
    volume : Volume
        The CT that was measured.
    grading : GradingSettings
    title : str
        The pseudonymous study key; nothing else about the patient may be printed on a picture.

    Returns
    -------
    bytes
        A PNG file, about 1700 pixels high, the same bytes for the same study.
    """
    canvas = study_figure(result, volume, grading, title).canvas
    assert isinstance(canvas, FigureCanvasAgg)
    canvas.draw()
    return png_bytes(Image.fromarray(np.asarray(canvas.buffer_rgba())))


def study_figure(result: StudyResult, volume: Volume, grading: GradingSettings, title: str = "") -> Figure:
    """The figure that `draw_study` writes; parameters as there."""
    scale = float(np.clip(TALLEST_PX / result.curve.length, LEAST_SCALE, MOST_SCALE))
    projection = project_sagittal(volume, result.curve)
    straight = Panel(MARGIN + LABELS, HEAD, SHOWN_MM, (0.0, result.curve.length), scale)
    beside = straight.left + straight.width + NUMBERS + GAP
    original = Panel(beside, HEAD, projection.y_mm, projection.z_mm, scale)
    width = original.left + original.width + MARGIN
    height = HEAD + max(straight.height, original.height) + FOOT
    figure, axes = _sheet(width, height)
    lines = [line_of(result, i, grading) for i in range(len(result.points))]
    _draw_straightened(axes, straight, result, lines)
    _draw_original(axes, original, projection, result, lines)
    _draw_numbers(axes, straight, result, lines)
    _draw_title(axes, title, straight, original)
    _draw_summary(axes, width - MARGIN, result, lines)
    _draw_legend(axes, height, width, grading)
    return figure


def _sheet(width: float, height: float) -> tuple[Figure, Axes]:
    """A dark figure with one axes whose unit is the pixel, origin at the top left."""
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor=PAPER)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    axes.set_autoscale_on(False)
    axes.set(xlim=(0, width), ylim=(height, 0))
    return figure, axes


def line_of(result: StudyResult, i: int, grading: GradingSettings) -> Line:
    """What is printed of vertebra `i`; without numbers where the scan cuts it or a height is missing."""
    name = result.levels[i] or f"#{i + 1}"
    heights = [float(h[i]) for h in (result.sizes.ha_mm, result.sizes.hm_mm, result.sizes.hp_mm)]
    g = float(result.sizes.g[i])
    grade_name = grade(g, grading) if result.complete[i] and np.isfinite(g) else None
    if grade_name is None:
        verdict = "not measured" if result.complete[i] else "at the edge of the scan"
        return Line(name, UNMEASURED_COLOUR, (), verdict, measured=False, deformed=False)
    form = shape(heights[0], heights[1], heights[2], grade_name)
    verdict = f"{grade_name} {form}" if form else grade_name
    values = (*[f"{h:.1f}" for h in heights], printed_g(g, grading))
    return Line(name, GRADE_COLOURS[grade_name], values, verdict, measured=True, deformed=form is not None)


def printed_g(g: float, grading: GradingSettings) -> str:
    """G to two decimals, or to as many as keep the printed number on its side of the bounds of the grades.

    Examples
    --------
    >>> printed_g(0.8134, GradingSettings()), printed_g(0.8034, GradingSettings())
    ('0.81', '0.803')
    """
    for digits in range(2, 17):
        text = f"{g:.{digits}f}"
        if grade(float(text), grading) == grade(g, grading):
            return text
    return repr(g)


def _image(axes: Axes, panel: Panel, hu: np.ndarray) -> None:
    """Show HU in the bone window, NaN as `OUTSIDE`."""
    grey = colormaps["gray"].with_extremes(bad=OUTSIDE)
    low, high = LEVEL_HU - WINDOW_HU / 2, LEVEL_HU + WINDOW_HU / 2
    axes.imshow(
        np.ma.masked_invalid(hu), grey, vmin=low, vmax=high, extent=panel.extent, aspect="auto", interpolation="bicubic"
    )


def _clip(axes: Axes, panel: Panel, others: set[Artist]) -> None:
    """Let nothing that was drawn since `others` reach beyond the panel."""
    frame = Rectangle((panel.left, panel.top), panel.width, panel.height, transform=axes.transData)
    for artist in set(axes.get_children()) - others:
        artist.set_clip_path(frame)


def _draw_straightened(axes: Axes, panel: Panel, result: StudyResult, lines: list[Line]) -> None:
    spine, others = result.spine, set(axes.get_children())
    hu = np.where(spine.valid, spine.mid_sagittal, np.nan)
    first = spine.origin_mm - spine.pixel_mm / 2
    last = first + np.array(hu.shape[::-1]) * spine.pixel_mm
    left, top = panel.px(first)
    _image(axes, Panel(left, top, (first[0], last[0]), (first[1], last[1]), panel.scale), hu)
    for points, line in zip(spine.straight_from_patient(result.points), lines, strict=True):
        six = panel.px(points)
        style = "-" if line.measured else (0, (4, 3))
        for plate in (six[0::2], six[1::2]):
            axes.plot(*plate.T, color=line.colour, lw=0.9, alpha=0.75, ls=style)
        for height in zip(six[0::2], six[1::2], strict=True):
            axes.plot(*np.stack(height).T, color=line.colour, lw=1.6, ls=style, solid_capstyle="butt")
        axes.plot(*six.T, "o", color=line.colour, ms=0.9 * panel.scale, mec=PAPER, mew=0.8)
    _clip(axes, panel, others)
    _orientation(axes, panel)
    _scale_bar(axes, panel, 20.0)


def _draw_original(
    axes: Axes, panel: Panel, projection: SagittalProjection, result: StudyResult, lines: list[Line]
) -> None:
    others = set(axes.get_children())
    _image(axes, panel, projection.hu)
    course = panel.px(result.curve.position(np.arange(0.0, result.curve.length, 1.0))[:, 1:])
    axes.plot(*course.T, color=CURVE_COLOUR, lw=1.3, alpha=0.9, ls=(0, (6, 3)))
    for points, line in zip(result.points, lines, strict=True):
        outline = panel.px(points[[0, 2, 4, 5, 3, 1], 1:])
        style = "-" if line.measured else (0, (3, 2))
        fill = 0.32 if line.deformed else 0.12 if line.measured else 0.0
        axes.add_patch(Polygon(outline, facecolor=line.colour, alpha=fill, lw=0))
        axes.add_patch(Polygon(outline, fill=False, edgecolor=line.colour, lw=1.4, ls=style))
        halo = [withStroke(linewidth=2.5, foreground=PAPER)]
        front = outline[[0, 5]].mean(0)
        label = {"color": line.colour, "size": _pt(SMALL_PX), "path_effects": halo, "clip_on": True}
        axes.text(front[0] - 9, front[1], line.name, ha="right", va="center", **label)
    _clip(axes, panel, others)
    _orientation(axes, panel)
    _scale_bar(axes, panel, 50.0)


def _draw_numbers(axes: Axes, panel: Panel, result: StudyResult, lines: list[Line]) -> None:
    """Level left of the straightened image, heights, G and grade right of it, each row beside its vertebra."""
    right = panel.left + panel.width
    for head, x in COLUMNS:
        axes.text(right + x, panel.top - 10, head, color=INK, size=_pt(TEXT_PX), ha="right", va="bottom")
    axes.text(right + GRADE_COLUMN, panel.top - 10, "grade", color=INK, size=_pt(TEXT_PX), va="bottom")
    axes.text(right + COLUMNS[2][1], panel.top - 36, "heights, mm", color=FAINT, size=_pt(SMALL_PX), ha="right",
              va="bottom")  # fmt: skip
    centres = panel.px(result.spine.straight_from_patient(result.points).mean(1))[:, 1]
    centres = np.clip(centres, panel.top, panel.top + panel.height)
    for centre, row, line in zip(centres, spread(centres, ROW_PX), lines, strict=True):
        text = {"size": _pt(TEXT_PX), "va": "center_baseline", "weight": "bold" if line.deformed else "normal"}
        axes.text(panel.left - 16, row, line.name, color=line.colour, ha="right", **{**text, "weight": "bold"})
        axes.plot([panel.left - 10, panel.left - 1], [row, centre], color=line.colour, lw=1.0)
        for value, (head, x) in zip(line.values, COLUMNS, strict=False):
            axes.text(right + x, row, value, color=line.colour if head == "G" else INK, ha="right", **text)
        axes.text(right + GRADE_COLUMN, row, line.verdict, color=line.colour, **text)


def spread(places: Float[np.ndarray, "k"], gap: float) -> Float[np.ndarray, "k"]:
    """Move ascending places apart until no two are closer than `gap`, as little as possible (least squares).

    Examples
    --------
    >>> spread(np.array([0.0, 4.0, 30.0]), 10.0).tolist()
    [-3.0, 7.0, 30.0]
    """
    if not len(places):
        return places
    steps = np.arange(len(places)) * gap
    return np.asarray(isotonic_regression(places - steps).x) + steps


def _orientation(axes: Axes, panel: Panel) -> None:
    """Letters at the edges: A anterior, P posterior, as on a viewing station."""
    halo = [withStroke(linewidth=3, foreground=PAPER)]
    text = {"color": INK, "size": _pt(TEXT_PX), "va": "center", "path_effects": halo}
    middle = panel.top + 18
    axes.text(panel.left + 10, middle, "A", ha="left", **text)
    axes.text(panel.left + panel.width - 10, middle, "P", ha="right", **text)


def _scale_bar(axes: Axes, panel: Panel, length_mm: float) -> None:
    right, low = panel.left + panel.width - 14, panel.top + panel.height - 16
    left = right - length_mm * panel.scale
    halo = [withStroke(linewidth=4, foreground=PAPER)]
    axes.plot([left, left, right, right], [low - 6, low, low, low - 6], color=INK, lw=1.6, path_effects=halo)
    axes.text((left + right) / 2, low - 8, f"{length_mm:.0f} mm", color=INK, size=_pt(SMALL_PX), ha="center",
              va="bottom", path_effects=halo)  # fmt: skip


def _draw_title(axes: Axes, title: str, straight: Panel, original: Panel) -> None:
    axes.text(MARGIN, 34, title, color=INK, size=_pt(22), weight="bold", va="center")
    axes.text(straight.left, straight.top - 10, "straightened mid-sagittal slice", color=FAINT, size=_pt(SMALL_PX),
              va="bottom")  # fmt: skip
    note = f"original CT from the side, mean of {SLAB_MM:.0f} mm about the spine"
    axes.text(original.left, original.top - 10, note, color=FAINT, size=_pt(SMALL_PX), va="bottom")


def _draw_summary(axes: Axes, right: float, result: StudyResult, lines: list[Line]) -> None:
    """The lowest G of the study, in the colour of its grade, at the top right."""
    measured = [i for i, line in enumerate(lines) if line.measured]
    if not measured:
        axes.text(right, 34, "no vertebra measured", color=FAINT, size=_pt(TEXT_PX), ha="right", va="center")
        return
    worst = min(measured, key=lambda i: result.sizes.g[i])
    line = lines[worst]
    text = f"{len(measured)} vertebrae measured    lowest G {line.values[-1]} at {line.name}, {line.verdict}"
    axes.text(right, 34, text, color=line.colour, size=_pt(TEXT_PX), ha="right", va="center")


def _draw_legend(axes: Axes, height: float, width: float, grading: GradingSettings) -> None:
    low, middle, deep = grading.mild, grading.moderate, grading.severe
    bounds = (f"G > {low:.2f}", f"G ≤ {low:.2f}", f"G ≤ {middle:.2f}", f"G ≤ {deep:.2f}")
    x, y = float(MARGIN), height - FOOT / 2
    for (name, colour), bound in zip(GRADE_COLOURS.items(), bounds, strict=True):
        axes.add_patch(Rectangle((x, y - 9), 18, 18, facecolor=colour, lw=0))
        axes.text(x + 27, y, f"{name}, {bound}", color=INK, size=_pt(LEGEND_PX), va="center")
        x += 27 + LEGEND_PX * 0.6 * (len(name) + len(bound) + 5)
    axes.add_patch(Rectangle((x, y - 9), 18, 18, fill=False, edgecolor=UNMEASURED_COLOUR, lw=1.2, ls=(0, (3, 2))))
    axes.text(x + 27, y, "at the edge, or not measured", color=INK, size=_pt(LEGEND_PX), va="center")
    note = f"G = min/max of hₐ, hₘ, hₚ    window {WINDOW_HU:.0f}, level {LEVEL_HU:.0f} HU"
    axes.text(width - MARGIN, y, note, color=FAINT, size=_pt(SMALL_PX), ha="right", va="center")


def _pt(pixels: float) -> float:
    """Font size in points of text that is so many pixels high."""
    return pixels * 72 / DPI
