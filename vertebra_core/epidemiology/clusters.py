"""Shares of vertebrae: those of one patient resemble each other, so patients are the sampling unit.

Every function takes, by patient, the number of vertebrae n [patients] and the number of positive ones k [patients].
The share is sum(k) / sum(n).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int

from vertebra_core.epidemiology.intervals import CONFIDENCE, Estimate

ClusteredMethod = Literal["auto", "logit", "beta", "bootstrap", "gee"]

FEW_PATIENTS = 40
"""With fewer the beta interval is taken: the percentile bootstrap, and at small shares the logit interval, rest on
too few patients with a fracture."""
BOOTSTRAP_DRAWS, BOOTSTRAP_SEED = 10_000, 2026
GEE_MOST_PATIENTS = 5_000
"""Exchangeable GEE loops over patients: 5000 take about ten seconds, a million half an hour. The linearised interval
needs no such limit and differs little."""


@dataclass(frozen=True)
class Clustered:
    """A share of vertebrae.

    Parameters
    ----------
    share, se : float
        The standard error is linearised: sqrt(K / (K - 1) sum((k - p n)^2)) / sum(n) over K patients.
    low, high : float
    method : str
    n_patients : int
    design_effect : float or None
        Variance over that of as many independent vertebrae; None where the share is 0 or 1.
    """

    share: float
    se: float
    low: float
    high: float
    method: str
    n_patients: int
    design_effect: float | None


def linearised_se(k: Int[np.ndarray, "patients"], n: Int[np.ndarray, "patients"]) -> float:
    """Standard error of sum(k) / sum(n) with patients as clusters; infinite for a single patient.

    Notes
    -----
    Taylor linearisation of a ratio (Woodruff 1971), as R's survey::svymean gives it.
    """
    p, patients = k.sum() / n.sum(), len(n)
    if patients < 2:
        return float("inf")
    return float(np.sqrt(patients / (patients - 1) * ((k - p * n) ** 2).sum()) / n.sum())


def clustered_share(
    k: Int[np.ndarray, "patients"], n: Int[np.ndarray, "patients"], method: ClusteredMethod = "auto"
) -> Clustered:
    """Share of vertebrae with an interval that knows of patients.

    Parameters
    ----------
    k, n : array
        Positive and all vertebrae of each patient; every n is positive.
    method : str
        "auto": "logit" from `FEW_PATIENTS` on, else "beta", which also serves where no vertebra or every one is
        positive. "bootstrap" resamples patients. "gee" is an exchangeable model.

    Raises
    ------
    ValueError
        No vertebra, or more patients than `GEE_MOST_PATIENTS` for "gee".
    """
    k, n = np.asarray(k, float), np.asarray(n, float)
    if not n.sum():
        raise ValueError("no vertebra")
    share, se = float(k.sum() / n.sum()), linearised_se(k, n)
    flat = share in (0.0, 1.0) or not 0 < se < np.inf
    if method == "auto" or flat:
        method = "beta" if flat or len(n) < FEW_PATIENTS else "logit"
    match method:
        case "logit":
            low, high = logit_interval(share, se, len(n) - 1)
        case "beta":
            low, high = beta_interval(share, se, len(n), n.sum())
        case "bootstrap":
            low, high = bootstrap_interval(k, n)
        case "gee":
            low, high = _gee_interval(k, n)
    deff = None if flat else se**2 / (share * (1 - share) / n.sum())
    return Clustered(share, se, low, high, method, len(n), deff)


def clustered_estimate(
    k: Int[np.ndarray, "patients"], n: Int[np.ndarray, "patients"], method: ClusteredMethod = "auto"
) -> Estimate:
    """The same as `Estimate` of vertebrae; empty without any."""
    count, total = int(np.sum(k)), int(np.sum(n))
    if not total:
        return Estimate(count, total, None, None, None)
    one = clustered_share(k, n, method)
    return Estimate(count, total, one.share, one.low, one.high)


def logit_interval(share: float, se: float, df: int) -> tuple[float, float]:
    """Interval that is symmetric on the logit scale, with Student's t (as R's svyciprop, method "logit")."""
    from scipy.special import expit, logit
    from scipy.stats import t

    half = t.ppf((1 + CONFIDENCE) / 2, df) * se / (share * (1 - share))
    low, high = expit(logit(share) + np.array([-half, half])).tolist()
    return low, high


def beta_interval(share: float, se: float, n_patients: int, n_vertebrae: float) -> tuple[float, float]:
    """Clopper-Pearson on the effective number of vertebrae, reduced for its own uncertainty.

    Where no vertebra (or every one) is positive, the design effect is not known; each patient then counts as one
    vertebra, which is the widest that clustering can make it.

    Notes
    -----
    Korn and Graubard 1998, Survey Methodology 24:193, as R's svyciprop (method "beta"):
    n_eff = p (1 - p) / se^2 (t(n - 1) / t(K - 1))^2.
    """
    from scipy.stats import t

    from vertebra_core.epidemiology.intervals import binomial_interval

    if share in (0.0, 1.0) or not 0 < se < np.inf:
        return binomial_interval(share * n_patients, n_patients, "clopper-pearson")
    upper = (1 + CONFIDENCE) / 2
    ratio = float(t.ppf(upper, n_vertebrae - 1) / t.ppf(upper, n_patients - 1))
    n_effective = min(share * (1 - share) / se**2 * ratio**2, n_vertebrae)
    return binomial_interval(share * n_effective, n_effective, "clopper-pearson")


def bootstrap_interval(
    k: Int[np.ndarray, "patients"],
    n: Int[np.ndarray, "patients"],
    draws: int = BOOTSTRAP_DRAWS,
    seed: int = BOOTSTRAP_SEED,
) -> tuple[float, float]:
    """Percentile bootstrap over patients.

    Patients with equal k and n are interchangeable, so that how often each such pair is drawn is multinomial; a
    million patients then cost no more than a hundred.
    """
    pairs, counts = np.unique(np.stack([k, n]), axis=1, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(len(n), counts / len(n), size=draws)
    shares = (drawn @ pairs[0]) / (drawn @ pairs[1])
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(shares, [tail, 1 - tail]).tolist()
    return low, high


@dataclass(frozen=True)
class GeeShare:
    """Generalised estimating equations for a share: on the logit scale, with the robust standard error.

    Parameters
    ----------
    beta, se : float
    alpha : float or None
        Correlation of two vertebrae of one patient; None for independent working structure.
    """

    beta: float
    se: float
    alpha: float | None


def gee_share(k: Int[np.ndarray, "patients"], n: Int[np.ndarray, "patients"], exchangeable: bool = True) -> GeeShare:
    """GEE of Liang and Zeger 1986 with an intercept only (statsmodels).

    Raises
    ------
    ValueError
        More patients than `GEE_MOST_PATIENTS`.
    """
    import statsmodels.api as sm

    k, n = np.asarray(k, int), np.asarray(n, int)
    if len(n) > GEE_MOST_PATIENTS:
        raise ValueError(f"GEE is offered up to {GEE_MOST_PATIENTS} patients, here are {len(n)}; use logit")
    groups = np.repeat(np.arange(len(n)), n)
    first = np.repeat(np.cumsum(n) - n, n)
    positive = (np.arange(n.sum()) - first < np.repeat(k, n)).astype(float)
    structure = sm.cov_struct.Exchangeable() if exchangeable else sm.cov_struct.Independence()
    model = sm.GEE(positive, np.ones((n.sum(), 1)), groups, family=sm.families.Binomial(), cov_struct=structure)
    fit = model.fit()
    alpha = float(structure.dep_params) if exchangeable else None  # type: ignore[arg-type]
    return GeeShare(float(fit.params[0]), float(fit.bse[0]), alpha)  # type: ignore[union-attr]


def _gee_interval(k: np.ndarray, n: np.ndarray) -> tuple[float, float]:
    from scipy.special import expit
    from scipy.stats import norm

    fit = gee_share(k, n)
    half = norm.ppf((1 + CONFIDENCE) / 2) * fit.se
    low, high = expit(fit.beta + np.array([-half, half])).tolist()
    return low, high
