"""Intervals of the agreement between readers, with CTs as the units: vertebrae of one CT resemble each other."""

from dataclasses import dataclass

import numpy as np

from vertebra_core.evaluation.readings import Readings
from vertebra_core.settings import GradingSettings
from vertebra_core.statistics.bland_altman import Z_95
from vertebra_core.statistics.influence import CONFIDENCE, clustered_se, half_width, known, renumbered
from vertebra_core.statistics.kappa import WEIGHTS, weighted_kappa
from vertebra_core.statistics.roc import roc_area
from vertebra_core.tables.columns import GRADES
from vertebra_core.tables.grades import reaches


@dataclass(frozen=True)
class Interval:
    """A figure of `vertebra_core.evaluation.agreement.Agreement` with its limits; None where they are not defined."""

    value: float | None
    low: float | None
    high: float | None


def reader_intervals(
    readings: Readings, grading: GradingSettings | None = None, resamples: int = 1000, seed: int = 0
) -> dict[str, Interval]:
    """Limits of agreement, ICC, kappa and ROC areas of readers with 95 % intervals.

    Parameters
    ----------
    readings : Readings
        With at least one matched pair.
    grading : GradingSettings, optional
    resamples : int
        Of CTs, behind the interval of the ICC; 0 for none.
    seed : int
    """
    grading = grading or GradingSettings()
    bounds = (grading.mild, grading.moderate, grading.severe)
    a, b = readings.pairs.T
    one, other = readings.g[np.r_[a, b]], readings.g[np.r_[b, a]]
    series = readings.series[np.r_[a, b]]
    grades = [np.sum([reaches(g, bound) for bound in bounds], axis=0, dtype=int) for g in (one, other)]
    found = {"limits of agreement of G, -+": _limits(readings.g[a] - readings.g[b], readings.series[a])}
    found["ICC(1,1) of G"] = _icc(readings, resamples, seed)
    for name in WEIGHTS:
        kappa = weighted_kappa(grades[0], grades[1], len(GRADES), name, series)
        found[f"kappa, {name}"] = Interval(kappa.value, kappa.low, kappa.high)
    for bound in bounds:
        case, called = reaches(one, bound), reaches(other, bound)
        kappa = weighted_kappa(case.astype(int), called.astype(int), 2, "plain", series)
        area = roc_area(case, -other, series)
        found[f"kappa, G <= {bound:.2f}"] = Interval(kappa.value, kappa.low, kappa.high)
        found[f"ROC AUC, one other reader, G <= {bound:.2f}"] = Interval(area.value, area.low, area.high)
    return found


def _limits(difference: np.ndarray, series: np.ndarray) -> Interval:
    """1.96 times the root mean square: the order of two readers has no meaning."""
    squared, clusters = difference**2, renumbered(series)[1]
    value = Z_95 * float(np.sqrt(squared.mean()))
    if not value:
        return Interval(value, None, None)
    influence = Z_95**2 * (squared - squared.mean()) / (2 * value * len(squared))
    half = half_width(clustered_se(influence, series), clusters)
    return Interval(value, known(value - half), known(value + half))


def _icc(readings: Readings, resamples: int, seed: int) -> Interval:
    """One-way, from sums by CT: a bootstrap over CTs then needs no reading twice."""
    several = readings.n_of_vertebra > 1
    mine = several[readings.vertebra]
    n, g = readings.n_of_vertebra, readings.g[mine]
    mean = readings.mean(readings.g)
    series_of = np.zeros(len(n), int)
    series_of[readings.vertebra] = readings.series
    own, size = renumbered(series_of[several]) if several.any() else (np.zeros(0, int), 0)
    if size < 1:
        return Interval(None, None, None)
    within = np.bincount(readings.vertebra[mine], (g - mean[readings.vertebra[mine]]) ** 2, minlength=len(n))[several]
    n, mean = n[several].astype(float), mean[several]
    parts = (np.ones(len(n)), n, n**2, within, n * mean, n * mean**2)
    sums = np.stack([np.bincount(own, part, minlength=size) for part in parts], 1)
    value = _icc_of(sums.sum(0))
    if size < 2 or resamples < 1 or value is None:
        return Interval(value, None, None)
    drawn = np.random.default_rng(seed).multinomial(size, np.full(size, 1 / size), size=resamples) @ sums
    values = [one for one in map(_icc_of, drawn) if one is not None]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(values, [tail, 1 - tail]).tolist()
    return Interval(value, low, high)


def _icc_of(sums: np.ndarray) -> float | None:
    """ICC(1,1) (Shrout and Fleiss 1979) with the mean group size for groups of unequal size."""
    vertebrae, n, squares, within, total, total_squared = sums.tolist()
    if vertebrae < 2 or n <= vertebrae:
        return None
    between = (total_squared - total**2 / n) / (vertebrae - 1)
    inside = within / (n - vertebrae)
    size = (n - squares / n) / (vertebrae - 1)
    spread = between + (size - 1) * inside
    return (between - inside) / spread if spread else None
