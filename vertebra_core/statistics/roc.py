"""Area under the ROC curve with an interval, also with several things of one patient."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from vertebra_core.statistics.influence import CONFIDENCE, renumbered


@dataclass(frozen=True)
class RocArea:
    """Area under the ROC curve; None of one class.

    Parameters
    ----------
    value, se, low, high : float or None
    cases, controls : int
    """

    value: float | None
    se: float | None
    low: float | None
    high: float | None
    cases: int
    controls: int


def roc_area(
    case: Bool[np.ndarray, "n"], score: Float[np.ndarray, "n"], cluster: Int[np.ndarray, "n"] | None = None
) -> RocArea:
    """The share of (case, control) pairs in the right order, ties half.

    Parameters
    ----------
    case : array
    score : array
        Higher for cases.
    cluster : array, optional
        Number of the patient, who may have cases and controls.

    Notes
    -----
    Variance: DeLong, DeLong and Clarke-Pearson 1988; with clusters Obuchowski 1997, Biometrics 53:567, whose variance
    for one thing a patient is DeLong's but for the way degrees of freedom are counted. The interval is normal, cut at
    0 and 1, as R's pROC.

    Examples
    --------
    >>> roc_area(np.array([True, False, False]), np.array([0.9, 0.1, 0.9])).value
    0.75
    """
    from scipy.stats import norm

    case = np.asarray(case, bool)
    m, n = int(case.sum()), int((~case).sum())
    if not m or not n:
        return RocArea(None, None, None, None, m, n)
    above, below = _placements(np.asarray(score, float), case)
    value = float(above.mean())
    if m < 2 or n < 2:
        return RocArea(value, None, None, None, m, n)
    if cluster is None:
        variance = above.var(ddof=1) / m + below.var(ddof=1) / n
    else:
        variance = _clustered_variance(above, below, case, *renumbered(cluster))
    se = float(np.sqrt(max(variance, 0.0)))
    half = float(norm.ppf((1 + CONFIDENCE) / 2)) * se
    return RocArea(value, se, max(value - half, 0.0), min(value + half, 1.0), m, n)


def _placements(score: np.ndarray, case: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each case the share of controls below it, and of each control the share of cases above it; ties half."""
    from scipy.stats import rankdata

    ranks = rankdata(score)
    cases, controls = score[case], score[~case]
    above = (ranks[case] - rankdata(cases)) / len(controls)
    below = 1 - (ranks[~case] - rankdata(controls)) / len(cases)
    return above, below


def _clustered_variance(above: np.ndarray, below: np.ndarray, case: np.ndarray, number: np.ndarray, size: int) -> float:
    """Obuchowski 1997, equations 3 to 5."""
    m, n, area = len(above), len(below), above.mean()
    own_cases, own_controls = (np.bincount(number[of], minlength=size) for of in (case, ~case))
    of_cases = np.bincount(number[case], above, minlength=size) - own_cases * area
    of_controls = np.bincount(number[~case], below, minlength=size) - own_controls * area
    with_cases, with_controls = (int(np.count_nonzero(own)) for own in (own_cases, own_controls))

    def correction(k: int) -> float:
        return k / (k - 1) if k > 1 else float("inf")

    s_cases = correction(with_cases) * (of_cases**2).sum() / m**2
    s_controls = correction(with_controls) * (of_controls**2).sum() / n**2
    together = correction(size) * (of_cases * of_controls).sum() / (m * n)
    return float(s_cases + s_controls + 2 * together)
