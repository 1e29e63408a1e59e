"""Trends of a share over ordered groups (age bands, years): for patients and, with patients as clusters, vertebrae."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from vertebra_core.epidemiology.intervals import CONFIDENCE

FEW_CLUSTERS = 10
"""Patients that must stand elsewhere than at the commonest score before a clustered slope is given: the residuals of
fewer are fitted away, and the sandwich then says that the slope is certain. A convention."""


@dataclass(frozen=True)
class CochranArmitage:
    """Cochran-Armitage test for a linear trend: chi squared with one degree of freedom, its signed root, p."""

    chi2: float
    z: float
    p: float


@dataclass(frozen=True)
class Slope:
    """Logistic slope per step of the score.

    Parameters
    ----------
    beta, se : float
        Change of the log odds, and its standard error.
    odds_ratio, low, high : float
        exp(beta) with its interval.
    p : float
        Wald's test.
    method : str
    """

    beta: float
    se: float
    odds_ratio: float
    low: float
    high: float
    p: float
    method: str


def cochran_armitage(
    counts: Int[np.ndarray, "groups"], ns: Int[np.ndarray, "groups"], scores: Float[np.ndarray, "groups"]
) -> CochranArmitage | None:
    """Test for a trend among independent patients, as R's prop.trend.test; None where there is nothing to test.

    Notes
    -----
    Armitage 1955, Biometrics 11:375, with the variance p (1 - p) sum(n (s - mean s)^2). statsmodels'
    ``test_ordinal_association`` divides by N - 1 in place of N, which makes its chi squared (N - 1) / N times this.
    """
    from scipy.stats import chi2 as chi_squared

    counts, ns, scores = (np.asarray(values, float) for values in (counts, ns, scores))
    if not ns.sum():
        return None
    p = counts.sum() / ns.sum()
    off = scores - (ns @ scores) / ns.sum()
    variance = p * (1 - p) * (ns @ off**2)
    if variance <= 0:
        return None
    z = float((counts - p * ns) @ off / np.sqrt(variance))
    return CochranArmitage(z**2, z, float(chi_squared.sf(z**2, 1)))


def logistic_slope(
    counts: Int[np.ndarray, "groups"],
    ns: Int[np.ndarray, "groups"],
    scores: Float[np.ndarray, "groups"],
    clustered: bool = False,
) -> Slope | None:
    """Logistic regression of a share on a score; None where it has no finite maximum or too few clusters.

    Parameters
    ----------
    counts, ns, scores : array
        One row per group of independent patients, or, for vertebrae, one row per patient.
    clustered : bool
        Rows are patients with their vertebrae: the standard error is then the sandwich over rows, which is GEE with
        an independent working structure (Liang and Zeger 1986), for the score is the same for all vertebrae of a
        patient. It takes a million patients in a second.
    """
    import statsmodels.api as sm
    from scipy.stats import norm

    counts, ns, scores = (np.asarray(values, float) for values in (counts, ns, scores))
    counts, ns, scores = (values[ns > 0] for values in (counts, ns, scores))
    commonest = np.unique(scores, return_counts=True)[1].max(initial=0)
    if clustered and len(scores) - commonest < FEW_CLUSTERS:
        return None
    if len(np.unique(scores)) < 2 or _separated(counts, ns, scores):
        return None
    model = sm.GLM(np.stack([counts, ns - counts], 1), sm.add_constant(scores), family=sm.families.Binomial())
    fit = model.fit(cov_type="HC0" if clustered else "nonrobust")
    beta, se = float(fit.params[1]), float(fit.bse[1])
    half = norm.ppf((1 + CONFIDENCE) / 2) * se
    ratio, low, high = np.exp(beta + np.array([0.0, -half, half])).tolist()
    method = "GEE, independent working structure" if clustered else "logistic regression"
    return Slope(beta, se, ratio, low, high, float(2 * norm.sf(abs(beta) / se)), method)


def _separated(counts: np.ndarray, ns: np.ndarray, scores: np.ndarray) -> bool:
    """True where the scores of positives and negatives do not overlap: the slope would be infinite."""
    positive, negative = scores[counts > 0], scores[counts < ns]
    if not len(positive) or not len(negative):
        return True
    return positive.min() >= negative.max() or negative.min() >= positive.max()
