"""Intraclass correlation with its form named, and intervals."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from vertebra_core.statistics.influence import CONFIDENCE, known

IccForm = Literal["ICC(1,1)", "ICC(2,1)", "ICC(3,1)"]
"""Shrout and Fleiss 1979: one-way; two-way random, absolute agreement; two-way mixed, consistency. Of single values."""


@dataclass(frozen=True)
class Icc:
    """An intraclass correlation of single measurements.

    Parameters
    ----------
    value, low, high : float or None
        None where it is not defined; the interval takes things measured for independent.
    n : int
        Things measured.
    """

    form: IccForm
    value: float | None
    low: float | None
    high: float | None
    n: int


def icc(values: Float[np.ndarray, "n k"], form: IccForm = "ICC(2,1)") -> Icc:
    """Of n things, each measured by the same k ways.

    Notes
    -----
    Mean squares of the analysis of variance; intervals of Shrout and Fleiss 1979 and, for ICC(2,1), of McGraw and Wong
    1996, as R's psych::ICC. ICC(2,1) falls with any difference of the ways, also a constant one: how far one may stand
    in for the other. ICC(3,1) is blind to a constant difference.
    """
    from scipy.stats import f

    values = np.asarray(values, float)
    n, k = values.shape
    if n < 2 or k < 2:
        return Icc(form, None, None, None, n)
    rows, columns, mean = values.mean(1), values.mean(0), values.mean()
    between = k * ((rows - mean) ** 2).sum() / (n - 1)
    within = ((values - rows[:, None]) ** 2).sum() / (n * (k - 1))
    ways = n * ((columns - mean) ** 2).sum() / (k - 1)
    residual = ((values - rows[:, None] - columns + mean) ** 2).sum() / ((n - 1) * (k - 1))
    upper = (1 + CONFIDENCE) / 2

    def ratio(noise: float, df: int) -> Icc:
        """A form that rests on one F ratio alone."""
        if not between + (k - 1) * noise > 0:
            return Icc(form, None, None, None, n)
        value = (between - noise) / (between + (k - 1) * noise)
        if noise <= 0:
            return Icc(form, float(value), None, None, n)
        low, high = between / noise / f.ppf(upper, n - 1, df), between / noise * f.ppf(upper, df, n - 1)
        return Icc(form, float(value), float((low - 1) / (low + k - 1)), float((high - 1) / (high + k - 1)), n)

    if form == "ICC(1,1)":
        return ratio(within, n * (k - 1))
    if form == "ICC(3,1)":
        return ratio(residual, (n - 1) * (k - 1))
    total = between + (k - 1) * residual + k * (ways - residual) / n
    if not total > 0:
        return Icc(form, None, None, None, n)
    value = float((between - residual) / total)
    if residual <= 0 or value >= 1:
        return Icc(form, value, None, None, n)
    return Icc(form, value, *_interval_of_agreement(value, between, ways, residual, n, k), n)


def _interval_of_agreement(value: float, between: float, ways: float, residual: float, n: int, k: int):
    """McGraw and Wong 1996, table 7, case 2A: degrees of freedom by Satterthwaite."""
    from scipy.stats import f

    a, b = k * value / (n * (1 - value)), 1 + k * value * (n - 1) / (n * (1 - value))
    parts = (a * ways) ** 2 / (k - 1) + (b * residual) ** 2 / ((n - 1) * (k - 1))
    df = (a * ways + b * residual) ** 2 / parts
    upper = (1 + CONFIDENCE) / 2
    one, other = f.ppf(upper, n - 1, df), f.ppf(upper, df, n - 1)
    rest = k * ways + (k * n - k - n) * residual
    low = n * (between - one * residual) / (one * rest + n * between)
    high = n * (other * between - residual) / (rest + n * other * between)
    return known(float(low)), known(float(high))
