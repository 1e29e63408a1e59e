"""Hiding small cells before an answer is passed on: few people in a group may be recognised.

A cell is hidden where fewer than `SMALL_CELL` people are in it, or fewer than that many (but some) are fractured. Where
that hides one group only, it could be had by subtraction from all; the next smallest is then hidden too. Differences
between the columns of one group are not protected.
"""

from dataclasses import replace

from vertebra_core.epidemiology.analysis import BOUNDS, Group, Prevalence
from vertebra_core.epidemiology.coverage import LevelCoverage
from vertebra_core.epidemiology.intervals import Estimate

SMALL_CELL = 5
"""The usual threshold of statistical offices and of RECORD-type reports: cells below five are not shown."""


def hide_small(answer: Prevalence, below: int = SMALL_CELL) -> Prevalence:
    """The answer without small cells.

    Parameters
    ----------
    below : int
        Smallest number of people that is shown.
    """
    coverage = answer.coverage
    if coverage is not None:
        coverage = replace(coverage, levels=tuple(_level(level, below) for level in coverage.levels))
    return replace(
        answer,
        patients=_groups(answer.patients, below),
        vertebrae=_groups(answer.vertebrae, below),
        coverage=coverage,
    )


def hide_small_grades(grades: dict[str, Estimate], below: int = SMALL_CELL) -> dict[str, Estimate]:
    """A distribution over grades without small cells.

    Parameters
    ----------
    grades : dict
        From `vertebra_core.epidemiology.prevalence.by_grade`; they add up to everybody.
    below : int
        Smallest number of people that is shown.
    """
    names = list(grades)
    hidden = {i for i, name in enumerate(names) if is_small(grades[name].count, grades[name].n, below)}
    hidden |= _next_smallest([grades[name] for name in names], hidden)
    shown = {name: one for i, (name, one) in enumerate(grades.items()) if i not in hidden}
    return {name: shown.get(name, Estimate(None, grades[name].n, None, None, None)) for name in names}


def _next_smallest(cells: list[Estimate], hidden: set[int]) -> set[int]:
    """What must go with a single hidden part of a known whole."""
    rest = [i for i in range(len(cells)) if i not in hidden]
    if len(hidden) != 1 or not rest:
        return set()
    return {min(rest, key=lambda i: (cells[i].count or 0, cells[i].n or 0))}


def is_small(count: int | None, n: int | None, below: int) -> bool:
    """True for a cell that is hidden.

    Examples
    --------
    >>> is_small(0, 20, 5), is_small(4, 20, 5), is_small(0, 4, 5)
    (False, True, True)
    """
    return count is None or n is None or 0 < n < below or 0 < count < below


def _groups(groups: tuple[Group, ...], below: int) -> tuple[Group, ...]:
    for bound in BOUNDS:
        cells = [getattr(group, bound) for group in groups]
        hidden = {i for i, cell in enumerate(cells) if is_small(cell.count, group_size(groups[i], cell), below)}
        parts = {i for i in hidden if i < len(cells) - 1}
        hidden |= _next_smallest(cells[:-1], parts)
        few = any(group_size(groups[i], cells[i]) < below for i in hidden)  # then their numbers could be had likewise
        groups = tuple(_without(group, bound, few) if i in hidden else group for i, group in enumerate(groups))
    return groups


def group_size(group: Group, cell: Estimate) -> int:
    """People behind a cell: vertebrae of one patient are one person; 0 where that is hidden already."""
    return 0 if cell.n is None or group.n_patients is None else min(cell.n, group.n_patients)


def _without(group: Group, bound: str, few: bool) -> Group:
    cell = getattr(group, bound)
    standardised = {name: one for name, one in group.standardised.items() if name != bound}
    corrected = None if bound == "moderate" else group.corrected
    hidden = {bound: Estimate(None, None if few else cell.n, None, None, None)}
    n_patients = None if few else group.n_patients
    return replace(group, n_patients=n_patients, **hidden, standardised=standardised, corrected=corrected)  # type: ignore[arg-type]


def _level(level: LevelCoverage, below: int) -> LevelCoverage:
    if not is_small(level.moderate, level.judged, below):
        return level
    return replace(level, in_view=None, judged=None, moderate=None, weighted=None)
