"""Genant grades and shapes. Given when rows are written or read, so that re-grading never needs new inference."""

import math

import numpy as np
from jaxtyping import Bool, Float

from vertebra_core.settings import GradingSettings
from vertebra_core.tables.columns import GRADES, SHAPES

FLOATING_ERROR = 1e-9
"""Bounds are inclusive: G may exceed one by this much and still reach it. 20/25 or 14.8/20 in float64 are off by
1e-16 at most, and lengths recomputed from coordinates by 1e-13; a true difference of G is never below 1e-6."""


def reaches(g: Float[np.ndarray, "*n"], bound: float) -> Bool[np.ndarray, "*n"]:
    """True where G <= `bound`, the bound included; NaN never reaches one.

    Examples
    --------
    >>> reaches(np.array([20 / 25, 0.8 + 1e-6, np.nan]), 0.8).tolist()
    [True, False, False]
    """
    return np.asarray(g) <= bound + FLOATING_ERROR


def grade(g: float | None, grading: GradingSettings) -> str | None:
    """Genant grade of one vertebra; None where G was not measured, which is not "normal".

    Nothing is rounded: G = 0.8004 is normal, although it prints as 0.80.

    Examples
    --------
    >>> [grade(g, GradingSettings()) for g in (0.8004, 20 / 25, 18.5 / 25, 15 / 25, None)]
    ['normal', 'mild', 'moderate', 'severe', None]
    """
    if g is None or math.isnan(g):
        return None
    bounds = (grading.mild, grading.moderate, grading.severe)
    return GRADES[sum(bool(reaches(np.array(g), bound)) for bound in bounds)]


def grade_number(name: str | None) -> int:
    """Semiquantitative grade 0 to 3; 0 where nothing was measured, for sums over what is in view."""
    return 0 if name is None else GRADES.index(name)


def shape(ha_mm: float, hm_mm: float, hp_mm: float, grade_name: str | None) -> str | None:
    """Shape of a graded vertebra by its smallest height; None for a normal or unmeasured one.

    Equal smallest heights: wedge before biconcave before crush, the order from front to back.

    Examples
    --------
    >>> shape(18.0, 25.0, 25.0, "moderate"), shape(25.0, 25.0, 25.0, "normal")
    ('wedge', None)
    """
    if grade_name is None or grade_name == GRADES[0]:
        return None
    heights = (ha_mm, hm_mm, hp_mm)
    smallest = min(heights)
    return next(name for name, height in zip(SHAPES, heights, strict=True) if height <= smallest + FLOATING_ERROR)
