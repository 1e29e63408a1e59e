"""Draw docs/images/frames.png: ``python docs/figures.py``. The study pictures there are made by ``vertebra show``."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vertebra_core.geometry import CentreLine
from vertebra_core.report.palette import CURVE_COLOUR, FAINT, INK, PAPER

IMAGES = Path(__file__).parent / "images"
BONE, LEFT, BACK, DOWN = "#D9CDB8", "#C792EA", "#45AEF5", "#E67E14"
ARROW_MM = 26.0
BODY_MM, PITCH_MM, DEPTH_MM = 20.0, 26.0, 30.0


def spine() -> CentreLine:
    """Kyphosis above, lordosis below."""
    z = -np.linspace(0.0, 330.0, 24)
    return CentreLine(np.stack([0 * z, 26 * np.sin(-2 * np.pi * z / 420 - 0.4), z], 1))


def draw_bodies(axes: Axes, place) -> None:
    """Vertebral bodies as the map `place` from (v, s) to the panel shows them."""
    for centre in np.arange(PITCH_MM, 325.0, PITCH_MM):
        top, bottom = centre - BODY_MM / 2, centre + BODY_MM / 2
        edge = np.linspace(-DEPTH_MM / 2, DEPTH_MM / 2, 12)
        outline = np.r_[np.c_[edge, 0 * edge + top], np.c_[edge[::-1], 0 * edge + bottom]]
        axes.fill(*place(outline).T, facecolor=f"{BONE}38", edgecolor=f"{BONE}B0", lw=1.2)


def draw_arrows(axes: Axes, line: CentreLine, place, labelled: float) -> None:
    """v and s at some places of the line; u looks at the reader."""
    for s in (26.0, 104.0, 182.0, 260.0):
        start = place(np.array([[0.0, s]]))[0]
        for end, colour, text in (([ARROW_MM, s], BACK, "v"), ([0.0, s + ARROW_MM], DOWN, "s")):
            tip = place(np.array([end]))[0]
            axes.annotate(
                "", tip, start, arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 1.8, "mutation_scale": 13}
            )
            if s == labelled:
                axes.annotate(text, tip, (3, -9), textcoords="offset points", color=colour, size=13, style="italic")
        axes.plot(*start, "o", ms=8, mfc=PAPER, mec=LEFT, mew=1.6)
        axes.plot(*start, "o", ms=2.2, color=LEFT)
        if s == labelled:
            axes.annotate("u", start, (-15, 2), textcoords="offset points", color=LEFT, size=13, style="italic")


def frames_figure() -> Figure:
    """A curved spine and the same rolled out, side by side at one scale."""
    line = spine()
    figure = Figure(figsize=(8.2, 7.4), dpi=110, facecolor=PAPER)
    FigureCanvasAgg(figure)
    curved, flat = figure.subplots(1, 2, gridspec_kw={"width_ratios": [1.25, 1.0]})

    def in_patient(vs: np.ndarray) -> np.ndarray:
        return line.patient_from_straight(np.c_[0 * vs[:, 0], vs])[:, 1:]

    along = np.c_[np.zeros(400), np.linspace(0, line.length, 400)]
    panels = (
        (curved, in_patient, "patient: y to posterior, z to superior"),
        (flat, lambda vs: vs, "straightened: v to posterior, s downward"),
    )
    for axes, place, title in panels:
        draw_bodies(axes, place)
        axes.plot(*place(along).T, color=CURVE_COLOUR, lw=1.5, ls=(0, (6, 3)))
        draw_arrows(axes, line, place, 104.0)
        axes.set_title(title, color=INK, size=11)
        axes.set_aspect("equal")
        axes.set_facecolor(PAPER)
        axes.tick_params(colors=FAINT, labelsize=8)
        for side in axes.spines.values():
            side.set_color("#30353C")
    curved.set(xlim=(-75, 85), ylim=(-345, 15), xlabel="y, mm", ylabel="z, mm")
    flat.set(xlim=(-55, 65), ylim=(line.length + 8, -8), xlabel="v, mm", ylabel="s, mm")
    for axes in (curved, flat):
        axes.xaxis.label.set_color(FAINT)
        axes.yaxis.label.set_color(FAINT)
    figure.tight_layout()
    return figure


if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    frames_figure().savefig(IMAGES / "frames.png", facecolor=PAPER, metadata={"Software": None})
