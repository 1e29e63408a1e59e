"""The figures of prevalence: flow diagram, shares with intervals, levels, curves over the bounds."""

from collections.abc import Sequence

from vertebra_core.epidemiology.analysis import Group
from vertebra_core.epidemiology.intervals import Estimate
from vertebra_core.epidemiology.prevalence import by_grade
from vertebra_core.report.contents import Contents
from vertebra_core.report.drawing import (
    ROW,
    WIDTH,
    Figure,
    Mark,
    Scale,
    Table,
    dot,
    line,
    path,
    rect,
    share_axis,
    share_scale,
    text,
)
from vertebra_core.report.participants import Step
from vertebra_core.report.words import HIDDEN, NOT_CORRECTED, bound, decimals, interval, percent, whole
from vertebra_core.tables.columns import GRADES

BOX, BOX_HEIGHT, LEAVING_LEFT, LINE = 300.0, 50.0, 130.0, 19.0
"""Width and height of a box of the flow, left edge of those who leave, height of a line of text; units."""
COUNTS, LETTER = 62.0, 7.4
"""Room for numbers right of a plot; width of a letter of the names left of it, units."""


def flow_figure(identifier: str, title: str, steps: Sequence[Step]) -> Figure:
    """Boxes from the top down; who leaves stands to the right, between two boxes."""
    marks: list[Mark] = []
    top = 1.0
    for i, step in enumerate(steps):
        marks += [
            rect("box", 1, top, BOX, BOX_HEIGHT),
            text("strong", 14, top + 21, whole(step.n)),
            text("label", 14, top + 40, step.what),
        ]
        bottom = top + BOX_HEIGHT
        if i == len(steps) - 1:
            top = bottom
            break
        height = LINE * len(step.leaving) + 13
        middle, following = bottom + 12 + height / 2, bottom + height + 24
        marks += [
            line("arrow", 50, bottom, 50, following - 2),
            path("arrowhead", [(45, following - 9), (55, following - 9), (50, following - 1)], closed=True),
            line("arrow", 50, middle, LEAVING_LEFT - 2, middle),
            path("arrowhead", [(LEAVING_LEFT - 9, middle - 5), (LEAVING_LEFT - 9, middle + 5),
                               (LEAVING_LEFT - 1, middle)], closed=True),
            rect("box leaving", LEAVING_LEFT, bottom + 12, WIDTH - LEAVING_LEFT - 1, height),
        ]  # fmt: skip
        for j, (reason, n) in enumerate(step.leaving):
            marks.append(text("label", LEAVING_LEFT + 12, bottom + 32 + LINE * j, f"{whole(n)} {reason}"))
        top = following
    rows = []
    for step in steps:
        rows.append((step.what, whole(step.n), ""))
        rows += [("leave here", whole(n), reason) for reason, n in step.leaving]
    table = Table(title, ("step", "n", "reason"), tuple(rows), text=(0, 2))
    last = steps[-1]
    described = f"From {steps[0].n} {steps[0].what} to {last.n} {last.what}; all who leave are in the table."
    return Figure(identifier, title, described, top + 2, tuple(marks), table)


def age_and_sex_figure(contents: Contents) -> Figure:
    """Share of patients at least moderate, by sex and age."""
    answer = contents.by_age_and_sex
    rows = [(group.name, group.moderate) for group in answer.patients[:-1]]
    rows.append(("all", answer.patients[-1].moderate))
    title = f"Patients with {bound_of(contents)} by sex and age"
    return _forest("age-sex", title, rows, _groups_table(title, answer.patients, contents))


def definitions_figure(contents: Contents) -> Figure:
    """The same cohort by three definitions."""
    rows = [(one.name, one.patients.moderate) for one in contents.definitions]
    title = f"Patients at least moderate ({bound(contents.analysis.grading.moderate, 'ratio')}), by definition"
    cells = []
    for one in contents.definitions:
        agreement = one.agreement
        cells.append(
            (
                one.name,
                whole(one.patients.moderate.n),
                interval(one.patients.moderate),
                interval(one.vertebrae.moderate),
                whole(agreement.both),
                whole(agreement.only_this),
                whole(agreement.only_genant),
                whole(one.not_judged),
                decimals(agreement.kappa),
            )
        )
    columns = ("definition", "patients", "of patients", "of vertebrae", "vertebrae: both", "only this", "only genant",
               "not judged", "kappa with genant")  # fmt: skip
    return _forest("definitions", title, rows, Table(title, columns, tuple(cells)))


def standardised_figure(contents: Contents) -> Figure:
    """Standardised shares, everybody by each standard."""
    rows, cells = [], []
    for one in contents.standardised:
        share = one.group.standardised["moderate"]
        rows.append((f"{one.standard}, {one.group.name}", share))
        part = percent(one.share_of_standard)
        cells.append((one.standard, one.ages, one.group.name, whole(share.n), interval(share), part))
    title = f"Patients with {bound_of(contents)}, standardised by age"
    columns = ("standard", "ages", "group", "patients", "share (95 % CI)", "of the standard")
    return _forest("standardised", title, rows, Table(title, columns, tuple(cells), text=(0, 1, 2)))


def _forest(identifier: str, title: str, rows: Sequence[tuple[str, Estimate]], table: Table) -> Figure:
    """A dot with its interval in each row; the number of people to the right."""
    highest = max((one.high for _, one in rows if one.high is not None), default=0.1)
    left = LETTER * max((len(name) for name, _ in rows), default=0) + 12
    scale, ticks = share_scale(highest, left, WIDTH - COUNTS)
    bottom = 24 + ROW * len(rows)
    marks = [text("tick", WIDTH, 14, "patients", "end"), *share_axis(scale, ticks, 22, bottom, "% (95 % interval)")]
    for i, (name, one) in enumerate(rows):
        y = 36 + ROW * i
        marks += [text("label", 0, y + 4, name), text("tick", WIDTH, y + 4, whole(one.n), "end")]
        if one.share is None or one.low is None or one.high is None:
            marks.append(text("tick", scale.start + 6, y + 4, HIDDEN if one.n is None or one.n else "nobody"))
            continue
        marks += [line("whisker", scale(one.low), y, scale(one.high), y), dot("point", scale(one.share), y)]
    described = (
        f"{len(rows)} rows; the highest share is {percent(max((r.share or 0) for _, r in rows)) if rows else ''}."
    )
    return Figure(identifier, title, described, bottom + 42, tuple(marks), table)


def levels_figure(contents: Contents) -> Figure:
    """Bars of the share by grade at each level, with the number assessed."""
    groups = [group for group in contents.by_level.vertebrae[:-1] if group.strata["level"] != "not known"]
    top = max((group.mild.share or 0.0 for group in groups), default=0.1)
    scale, ticks = share_scale(top, 44.0, WIDTH - COUNTS)
    bottom = 24 + ROW * len(groups)
    marks = [text("tick", WIDTH, 14, "assessed", "end"), *share_axis(scale, ticks, 22, bottom, "% of those assessed")]
    for i, group in enumerate(groups):
        y = 36 + ROW * i
        marks += [text("label", 0, y + 4, group.name), text("tick", WIDTH, y + 4, whole(group.mild.n), "end")]
        at = scale.start
        for grade, share in reversed(list(by_grade(group).items())[1:]):
            if share.share:
                end = at + scale(share.share) - scale.start
                marks.append(rect(f"bar {grade}", at, y - 8, end - at, 16))
                at = end
        if group.moderate.share is None and group.mild.share is None:
            marks.append(text("tick", scale.start + 6, y + 4, HIDDEN))
    title = "Deformed vertebrae by level, of those that could be assessed"
    described = f"{len(groups)} levels from the top down; bars are shares of the vertebrae assessed at the level."
    return Figure(
        "levels", title, described, bottom + 42, tuple(marks), _levels_table(title, contents, groups), grade_legend()
    )


def grade_legend() -> tuple[tuple[str, str], ...]:
    """What the colours of the bars stand for; mild is never without its words."""
    words = {"mild": f"mild, {NOT_CORRECTED}"}
    return tuple((f"bar {grade}", words.get(grade, grade)) for grade in reversed(GRADES[1:]))


def spread_figure(contents: Contents) -> Figure:
    """Boxes of G at each level: 5th to 95th percentile, quartiles, median."""
    grading = contents.analysis.grading
    bounds = (grading.severe, grading.moderate, grading.mild)
    scale = Scale(0.5, 1.0, 44.0, WIDTH - COUNTS)
    bottom = 24 + ROW * len(contents.spread)
    marks = [text("tick", WIDTH, 14, "vertebrae", "end")]
    for tick in (0.5, 0.6, 0.7, 0.8, 0.9, 1.0):
        marks += [line("grid", scale(tick), 22, scale(tick), bottom)]
        marks += [text("tick", scale(tick), bottom + 16, f"{tick:.1f}", "middle")]
    marks += [line("bound", scale(one), 22, scale(one), bottom) for one in bounds]
    marks.append(text("tick", (scale.start + scale.end) / 2, bottom + 34, "G", "middle"))
    rows = []
    for i, one in enumerate(contents.spread):
        y = 36 + ROW * i
        marks += [text("label", 0, y + 4, one.level), text("tick", WIDTH, y + 4, whole(one.n), "end")]
        if one.quantiles is None:
            marks.append(text("tick", scale.start + 6, y + 4, "too few"))
            rows.append((one.level, whole(one.n), *[""] * 5))
            continue
        low, first, middle, third, high = map(scale, one.quantiles)
        marks += [line("whisker", low, y, high, y), rect("spread", first, y - 7, third - first, 14),
                  line("median", middle, y - 7, middle, y + 7)]  # fmt: skip
        rows.append((one.level, whole(one.n), *(decimals(value, 3) for value in one.quantiles)))
    title = "Genant index G by level"
    columns = ("level", "n", "5 %", "25 %", "median", "75 %", "95 %")
    dashed = ", ".join(f"{one:.2f}" for one in bounds)
    described = f"Median, quartiles and 5th to 95th percentile at each level; dashed lines at {dashed}."
    return Figure("spread", title, described, bottom + 42, tuple(marks), Table(title, columns, tuple(rows)))


def curve_figure(contents: Contents, unit: str) -> Figure:
    """Share with G <= t over t, as read and, where it was measured, without the noise."""
    shown = [(one.threshold, getattr(one, unit)) for one in contents.apparent]
    answer = None if contents.corrected is None else contents.corrected.answer
    corrected = [] if answer is None else [(one.threshold, one.corrected) for one in getattr(answer, unit)]
    as_read = [one for one in shown if one[1].share is not None]
    highest = max((one.high for _, one in (*as_read, *corrected)), default=0.1)
    across = Scale(0.70, 0.85, 46.0, WIDTH - 14)
    up, ticks = share_scale(highest, 250.0, 16.0)
    marks = []
    for tick in ticks:
        marks += [line("grid", across.start, up(tick), across.end, up(tick))]
        marks += [text("tick", 38, up(tick) + 5, f"{100 * tick:g}", "end")]
    for tick in (0.70, 0.74, 0.80, 0.85):
        marks += [line("bound" if tick in (0.74, 0.80) else "grid", across(tick), 16, across(tick), 250)]
        marks += [text("tick", across(tick), 268, f"{tick:.2f}", "middle")]
    marks.append(text("tick", (across.start + across.end) / 2, 288, f"share of {unit} with G ≤ t, %, over t", "middle"))
    for kind, points in (("apparent", as_read), ("corrected", corrected)):
        if points:
            upper = [(across(t), up(one.high)) for t, one in points]
            lower = [(across(t), up(one.low)) for t, one in reversed(points)]
            marks += [path(f"band {kind}", [*upper, *lower], closed=True)]
            marks += [path(f"curve {kind}", [(across(t), up(one.share)) for t, one in points])]
    title = f"Share of {unit} with G ≤ t"
    without = {f"{t:.2f}": one for t, one in corrected}
    rows = tuple(
        (f"{t:.2f}", interval(one), interval(without[f"{t:.2f}"]) if f"{t:.2f}" in without else NOT_CORRECTED)
        for t, one in shown
    )
    table = Table(title, ("t", "as read (95 % CI)", "without noise (95 % CI)"), rows)
    legend = [("key apparent", "as read" if corrected else f"as read, {NOT_CORRECTED} for noise")]
    legend += [("key corrected", "without the noise of the heights")] if corrected else []
    described = "The share rises with t" + ("; the corrected curve lies below." if corrected else ".")
    return Figure(f"curve-{unit}", title, described, 296, tuple(marks), table, tuple(legend))


def bound_of(contents: Contents) -> str:
    """The headline bound in signs."""
    return bound(contents.analysis.grading.moderate)


def _groups_table(title: str, groups: Sequence[Group], contents: Contents) -> Table:
    grading = contents.analysis.grading
    rows = []
    for group in groups:
        parts = tuple(group.strata.values()) or ("all", "all")
        cells = (whole(group.moderate.n), whole(group.moderate.count), interval(group.moderate))
        rows.append((*parts, *cells, interval(group.severe), interval(group.mild)))
    columns = ("sex", "age", "patients", "n", bound_of(contents), bound(grading.severe),
               f"{bound(grading.mild)}, {NOT_CORRECTED}")  # fmt: skip
    return Table(title, columns, tuple(rows), text=(0, 1))


def _levels_table(title: str, contents: Contents, groups: Sequence[Group]) -> Table:
    coverage = contents.by_level.coverage
    seen = {} if coverage is None else {one.level: one for one in coverage.levels}
    rows = []
    for group in groups:
        level = seen.get(group.name)
        rows.append(
            (
                group.name,
                whole(level.in_view if level else None),
                whole(group.moderate.n),
                whole(group.moderate.count),
                interval(group.moderate),
                interval(level.weighted if level else None),
                interval(group.severe),
                interval(group.mild),
            )
        )
    grading = contents.analysis.grading
    columns = ("level", "in view", "assessed", "n", bound_of(contents), "weighted by coverage",
               bound(grading.severe), f"{bound(grading.mild)}, {NOT_CORRECTED}")  # fmt: skip
    return Table(title, columns, tuple(rows))
