"""Standard errors of estimates whose rows come in clusters: the vertebrae of one patient resemble each other.

An estimate is a function of the rows; the influence of a row is how much the estimate moves if the row counts a little
more. Influences are added up by patient, and their squares give the variance (delta method; Woodruff 1971). It takes a
million patients as easily as ten, and with one row per patient it is the ordinary large-sample standard error.
"""

import numpy as np
from jaxtyping import Float, Int

CONFIDENCE = 0.95
"""Of every interval of this package."""


def clustered_se(influence: Float[np.ndarray, "rows"], cluster: Int[np.ndarray, "rows"] | None = None) -> float:
    """Standard error of an estimate; NaN for a single cluster.

    Parameters
    ----------
    influence : array
        Of each row on the estimate, already divided by the number of rows; they add up to 0.
    cluster : array, optional
        Number of the patient; without it every row is one of its own.

    Examples
    --------
    >>> values = np.array([1.0, 2.0, 4.0])
    >>> round(clustered_se((values - values.mean()) / 3), 6), round(float(values.std(ddof=1)) / 3**0.5, 6)
    (0.881917, 0.881917)
    """
    if cluster is None:
        sums = np.asarray(influence, float)
    else:
        numbers, size = renumbered(cluster)
        sums = np.bincount(numbers, influence, minlength=size)
    k = len(sums)
    return float(np.sqrt(k / (k - 1) * (sums @ sums))) if k > 1 else float("nan")


def renumbered(cluster: Int[np.ndarray, "rows"]) -> tuple[Int[np.ndarray, "rows"], int]:
    """Clusters numbered from 0 without gaps, and how many there are."""
    distinct, numbers = np.unique(cluster, return_inverse=True)
    return numbers, len(distinct)


def half_width(se: float, clusters: int) -> float:
    """Half of an interval of `CONFIDENCE`, with Student's t on clusters - 1 degrees of freedom; NaN below two."""
    from scipy.stats import t

    return float(t.ppf((1 + CONFIDENCE) / 2, clusters - 1)) * se if clusters > 1 else float("nan")


def known(value: float) -> float | None:
    """None in place of NaN: a number that is not defined.

    Examples
    --------
    >>> known(float("nan")), known(0.5)
    (None, 0.5)
    """
    return float(value) if np.isfinite(value) else None
