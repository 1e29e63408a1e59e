"""Limits of agreement of two measurements of the same thing, also with several things of one patient."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from vertebra_core.statistics.influence import clustered_se, half_width, known, renumbered

Z_95 = 1.96
"""Half width of the limits in standard deviations (Bland and Altman, Lancet 1986;327:307-310)."""


@dataclass(frozen=True)
class Limits:
    """Differences of two measurements (second minus first); None where there are too few.

    Parameters
    ----------
    n, clusters : int
        Differences, and patients they come from.
    bias, bias_low, bias_high : float or None
        Mean, with its interval.
    sd : float or None
        Of a difference of any patient: what varies between and within patients together.
    low, high : float or None
        Limits of agreement, bias -+ 1.96 sd.
    low_interval, high_interval : tuple of float or None
        Of the two limits.
    largest : float or None
        Of the absolute differences.
    """

    n: int
    clusters: int
    bias: float | None = None
    bias_low: float | None = None
    bias_high: float | None = None
    sd: float | None = None
    low: float | None = None
    high: float | None = None
    low_interval: tuple[float, float] | None = None
    high_interval: tuple[float, float] | None = None
    largest: float | None = None


def limits_of_agreement(difference: Float[np.ndarray, "n"], cluster: Int[np.ndarray, "n"] | None = None) -> Limits:
    """Bias and limits of agreement with intervals.

    Parameters
    ----------
    difference : array
        Without NaN.
    cluster : array, optional
        Number of the patient of each; without it each is a patient of its own.

    Notes
    -----
    One difference per patient: Bland and Altman 1986, whose interval of a limit is +- t sd sqrt(3 / n). Several: the
    true value varies, so that the variance of a difference is the sum of a part between and one within patients, by
    analysis of variance (Bland and Altman 2007, J Biopharm Stat 17:571, section 3); the interval of the bias is that
    of a mean of clusters, and that of the limits adds the influence of each patient on the SD (delta method).

    Examples
    --------
    >>> one = limits_of_agreement(np.array([1.0, 3.0]))
    >>> one.bias, round(one.sd, 3), round(one.low, 3), round(one.high, 3)
    (2.0, 1.414, -0.772, 4.772)
    """
    difference = np.asarray(difference, float)
    n = len(difference)
    numbers, clusters = (np.arange(n), n) if cluster is None else renumbered(cluster)
    if not n:
        return Limits(0, 0)
    bias, largest = float(difference.mean()), float(np.abs(difference).max())
    if n < 2:
        return Limits(n, clusters, bias, largest=largest)
    single = clusters == n
    sd = float(difference.std(ddof=1)) if single else _sd_of_components(difference, numbers, clusters)
    if clusters < 2:
        return Limits(n, clusters, bias, sd=sd, low=bias - Z_95 * sd, high=bias + Z_95 * sd, largest=largest)
    half = half_width(clustered_se((difference - bias) / n, numbers), clusters)
    if single:
        low_half = high_half = half_width(sd * float(np.sqrt(3 / n)), n)
    else:
        on_bias, on_sd = (difference - bias) / n, _influence_on_sd(difference, bias, sd)
        low_half, high_half = (
            half_width(clustered_se(on_bias + sign * Z_95 * on_sd, numbers), clusters) for sign in (-1, 1)
        )
    low, high = bias - Z_95 * sd, bias + Z_95 * sd
    return Limits(
        n,
        clusters,
        bias,
        known(bias - half),
        known(bias + half),
        sd,
        low,
        high,
        (low - low_half, low + low_half),
        (high - high_half, high + high_half),
        largest,
    )


def _sd_of_components(difference: np.ndarray, numbers: np.ndarray, clusters: int) -> float:
    """SD of a difference of any patient, from the variance between and within patients (one-way ANOVA)."""
    n = len(difference)
    size = np.bincount(numbers, minlength=clusters)
    mean = np.bincount(numbers, difference, minlength=clusters) / size
    within = float(((difference - mean[numbers]) ** 2).sum() / (n - clusters)) if n > clusters else 0.0
    if clusters < 2:
        return float(np.sqrt(within))
    between = float((size * (mean - difference.mean()) ** 2).sum() / (clusters - 1))
    typical = (n - (size**2).sum() / n) / (clusters - 1)
    return float(np.sqrt(within + max((between - within) / typical, 0.0)))


def _influence_on_sd(difference: np.ndarray, bias: float, sd: float) -> np.ndarray:
    """Of each difference on the SD, as if all were alike; they add up to 0."""
    if sd <= 0:
        return np.zeros(len(difference))
    squared = (difference - bias) ** 2
    return (squared - squared.mean()) / (2 * sd * len(difference))
