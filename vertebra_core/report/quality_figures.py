"""The figures of shape and quality: shapes by grade, how studies ended, G over the years."""

import math

from vertebra_core.report.contents import Contents
from vertebra_core.report.drawing import ROW, WIDTH, Figure, Scale, Table, dot, line, path, rect, text
from vertebra_core.report.quality import DRIFT_G, FEWEST_STUDIES_A_YEAR
from vertebra_core.report.words import HIDDEN, NOT_CORRECTED, decimals, percent, whole
from vertebra_core.tables.columns import SHAPES

MOST_LINES = 5
"""Scanners whose years are drawn; all are in the table."""
MOST_ENDINGS = 14
"""Ways to end that are drawn, without the good one; all are in the table."""


def shapes_figure(contents: Contents) -> Figure:
    """One bar for each grade, parted by shape."""
    marks = [text("tick", WIDTH, 14, "vertebrae", "end")]
    scale, rows = Scale(0.0, 1.0, 80.0, WIDTH - 62), []
    for i, one in enumerate(reversed(contents.shapes)):
        known = [n for n in one.counts.values() if n is not None]
        total = sum(known) if len(known) == len(SHAPES) else None
        y, at = 36 + 30 * i, scale.start
        marks += [text("label", 0, y + 4, one.grade), text("tick", WIDTH, y + 4, whole(total), "end")]
        for shape, n in one.counts.items():
            if n and total:
                width = scale(n / total) - scale.start
                marks.append(rect(f"bar {shape}", at, y - 9, width, 18))
                at += width
        if total is None:
            marks.append(text("tick", scale.start + 6, y + 4, HIDDEN))
        words = f"{one.grade}, {NOT_CORRECTED}" if one.grade == "mild" else one.grade
        shares = [
            whole(n) + (f" ({percent(n / total)})" if n is not None and total else "") for n in one.counts.values()
        ]
        rows.append((words, whole(total), *shares))
    bottom = 30 + 30 * len(contents.shapes)
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        marks.append(text("tick", scale(tick), bottom + 12, f"{100 * tick:.0f}", "middle"))
    marks.append(text("tick", (scale.start + scale.end) / 2, bottom + 32, "% of the vertebrae of the grade", "middle"))
    title = "Shape of deformed vertebrae, by grade"
    table = Table(title, ("grade", "vertebrae", *SHAPES), tuple(rows))
    described = "Bars from severe to mild, parted into wedge, biconcave and crush; mild is not corrected for noise."
    legend = tuple((f"bar {shape}", shape) for shape in SHAPES)
    return Figure("shapes", title, described, bottom + 40, tuple(marks), table, legend)


def endings_figure(contents: Contents) -> Figure:
    """Why studies were not measured whole."""
    odd = [one for one in contents.quality.endings if one.reason is not None]
    shown = [one for one in odd if one.n is not None][:MOST_ENDINGS]
    scale = Scale(0.0, float(max((one.n or 0 for one in shown), default=1)), 164.0, WIDTH - 62)
    marks = []
    for i, one in enumerate(shown):
        y = 14 + ROW * i
        marks += [text("label", 0, y + 4, (one.reason or "").replace("_", " "))]
        marks += [rect(f"bar {one.status}", scale.start, y - 8, max(scale(one.n or 0) - scale.start, 1.5), 16)]
        marks += [text("tick", WIDTH, y + 4, whole(one.n), "end")]
    rows = tuple(
        (one.status.replace("_", " "), (one.reason or "").replace("_", " "), whole(one.n), one.sentence)
        for one in contents.quality.endings
    )
    title = "Studies by how they ended"
    table = Table(title, ("status", "reason", "studies", "what it means"), rows, text=(0, 1, 3))
    described = f"{len(odd)} reasons why a study was not measured, or not whole."
    statuses = dict.fromkeys(one.status for one in shown)
    legend = tuple((f"bar {status}", status.replace("_", " ")) for status in statuses)
    return Figure("endings", title, described, 14 + ROW * max(len(shown), 1), tuple(marks), table, legend)


def drift_figure(contents: Contents) -> Figure:
    """Median G of each scanner by year; years that moved are marked."""
    years = contents.quality.years
    judged = [one for one in years if one.median_g is not None]
    names = list(dict.fromkeys(one.scanner for one in judged))[:MOST_LINES]
    drawn = [one for one in judged if one.scanner in names]
    labels = sorted({one.year for one in drawn})
    values = [one.median_g for one in drawn if one.median_g is not None]
    low = math.floor(min(values, default=0.8) / DRIFT_G - 0.5) * DRIFT_G
    high = math.ceil(max(values, default=0.9) / DRIFT_G + 0.5) * DRIFT_G
    up = Scale(low, high, 200.0, 16.0)
    across = Scale(0, max(len(labels) - 1, 1), 58.0, WIDTH - 20)
    steps, marks = round((high - low) / DRIFT_G), []
    every = max(1, -(-steps // 6))
    for i in range(0, steps + 1, every):
        value = low + i * DRIFT_G
        marks += [line("grid", across.start, up(value), across.end, up(value))]
        marks += [text("tick", 48, up(value) + 5, f"{value:.2f}", "end")]
    marks += [text("tick", across(i), 220, label, "middle") for i, label in enumerate(labels)]
    marks.append(text("tick", (across.start + across.end) / 2, 240, "year of the study; median G", "middle"))
    for number, name in enumerate(names):
        points = [
            (across(labels.index(one.year)), up(one.median_g or 0.0), one.moved) for one in drawn if one.scanner == name
        ]
        marks.append(path(f"series s{number}", [(x, y) for x, y, _ in points]))
        for x, y, moved in points:
            marks.append(dot(f"series-dot s{number}{' moved' if moved else ''}", x, y, 6.0 if moved else 4.0))

    def median(value: float | None) -> str:
        """The median, or why there is none."""
        return "too few studies" if value is None else decimals(value, 3)

    rows = tuple(
        (one.scanner, one.year, whole(one.studies), median(one.median_g), "moved" if one.moved else "") for one in years
    )
    title = "Median G by scanner and year"
    table = Table(title, ("scanner", "year", "studies measured", "median G", "remark"), rows, text=(0, 1, 4))
    moved = sum(one.moved for one in years)
    described = (
        f"{moved} of {len(judged)} scanner years lie more than {DRIFT_G} from the scanner's own median; "
        f"years with fewer than {FEWEST_STUDIES_A_YEAR} studies are not judged."
    )
    legend = tuple((f"key s{number}", name) for number, name in enumerate(names))
    return Figure("drift", title, described, 248, tuple(marks), table, legend)
