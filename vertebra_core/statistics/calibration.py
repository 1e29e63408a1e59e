"""Whether a stated probability comes true as often, and whether a stated error is as large as the real one."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from vertebra_core.statistics.influence import clustered_se, half_width, known, renumbered

BINS = 10
"""Of the curves: tenths of the sample."""
LEVELS = (0.5, 0.68, 0.8, 0.9, 0.95)
"""Nominal coverages that stated errors are held to."""


@dataclass(frozen=True)
class Bin:
    """A tenth of the sample: mean of what was stated and of what came true, and how many they are."""

    stated: float
    observed: float
    n: int


@dataclass(frozen=True)
class Calibration:
    """Stated probabilities beside what came true; None where a number is not defined.

    Parameters
    ----------
    brier : float or None
        Mean squared difference (Brier 1950).
    slope, slope_se : float or None
        Of logistic recalibration: 1 is right, below 1 too extreme (Cox 1958).
    in_the_large, in_the_large_se : float or None
        Intercept with the slope held at 1: 0 is right, above 0 too low.
    bins : tuple of Bin
    """

    n: int
    mean_stated: float | None
    mean_observed: float | None
    brier: float | None
    slope: float | None
    slope_se: float | None
    in_the_large: float | None
    in_the_large_se: float | None
    bins: tuple[Bin, ...]


def calibration(
    probability: Float[np.ndarray, "n"], happened: Bool[np.ndarray, "n"], cluster: Int[np.ndarray, "n"] | None = None
) -> Calibration:
    """Calibration of probabilities; the standard errors take patients as clusters where they are given."""
    p, y = np.asarray(probability, float), np.asarray(happened, float)
    n = len(p)
    if not n:
        return Calibration(0, None, None, None, None, None, None, None, ())
    slope, in_the_large = _recalibrated(p, y, cluster)
    return Calibration(
        n,
        float(p.mean()),
        float(y.mean()),
        float(((p - y) ** 2).mean()),
        *slope,
        *in_the_large,
        _bins(p, y),
    )


def _recalibrated(p: np.ndarray, y: np.ndarray, cluster: np.ndarray | None):
    """Slope, and intercept at a slope of 1, each with its standard error; None of one class or one probability."""
    import statsmodels.api as sm
    from scipy.special import logit
    from statsmodels.tools.sm_exceptions import PerfectSeparationError

    nothing = (None, None), (None, None)
    x = logit(np.clip(p, 1e-6, 1 - 1e-6))
    if y.min() == y.max():
        return nothing
    how: dict[str, Any] = (
        {"cov_type": "nonrobust"} if cluster is None else {"cov_type": "cluster", "cov_kwds": {"groups": cluster}}
    )
    try:
        alone = sm.GLM(y, np.ones((len(y), 1)), family=sm.families.Binomial(), offset=x).fit(**how)
        in_the_large = float(alone.params[0]), known(alone.bse[0])
        if np.ptp(x) == 0 or x[y > 0].min() > x[y == 0].max():
            return (None, None), in_the_large
        fit = sm.GLM(y, sm.add_constant(x), family=sm.families.Binomial()).fit(**how)
    except PerfectSeparationError:
        return nothing
    return (float(fit.params[1]), known(fit.bse[1])), in_the_large


def _bins(stated: np.ndarray, observed: np.ndarray) -> tuple[Bin, ...]:
    parts = np.array_split(np.argsort(stated, kind="stable"), min(BINS, len(stated)))
    return tuple(Bin(float(stated[of].mean()), float(observed[of].mean()), len(of)) for of in parts)


@dataclass(frozen=True)
class Coverage:
    """How often a stated interval holds the truth.

    Parameters
    ----------
    nominal : float
    share, low, high : float or None
        The interval takes patients as clusters.
    """

    nominal: float
    share: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class ErrorCalibration:
    """Stated standard errors beside real errors.

    Parameters
    ----------
    n : int
    scale : float or None
        Root mean square of error over stated error: 1 is right, above 1 the stated errors are too small.
    coverage : tuple of Coverage
        Of intervals of normal quantiles times the stated error.
    bins : tuple of Bin
        Tenths by stated error: its root mean square, and that of the real errors.
    """

    n: int
    scale: float | None
    coverage: tuple[Coverage, ...]
    bins: tuple[Bin, ...]


def error_calibration(
    error: Float[np.ndarray, "n"], stated: Float[np.ndarray, "n"], cluster: Int[np.ndarray, "n"] | None = None
) -> ErrorCalibration:
    """Hold stated standard errors against errors; rows without either, or with a stated error of 0, are left out."""
    from scipy.stats import norm

    error, stated = np.asarray(error, float), np.asarray(stated, float)
    of = np.isfinite(error) & (stated > 0)
    error, stated = error[of], stated[of]
    cluster = None if cluster is None else cluster[of]
    n = len(error)
    if not n:
        return ErrorCalibration(0, None, (), ())
    z = np.abs(error / stated)
    found = []
    for nominal in LEVELS:
        inside = (z <= norm.ppf((1 + nominal) / 2)).astype(float)
        share = float(inside.mean())
        clusters = n if cluster is None else renumbered(cluster)[1]
        half = half_width(clustered_se((inside - share) / n, cluster), clusters)
        found.append(Coverage(nominal, share, known(max(share - half, 0.0)), known(min(share + half, 1.0))))
    bins = tuple(Bin(one.stated**0.5, one.observed**0.5, one.n) for one in _bins(stated**2, error**2))
    return ErrorCalibration(n, float(np.sqrt((z**2).mean())), tuple(found), bins)
