"""A share with its interval: Wilson and Clopper-Pearson, also for an effective number of people.

Never Wald's interval, which falls below 0 and covers too rarely for small counts (Brown, Cai and DasGupta 2001).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

BinomialMethod = Literal["wilson", "clopper-pearson"]

CONFIDENCE = 0.95
"""Of every interval of this package."""
_STATSMODELS_NAME = {"wilson": "wilson", "clopper-pearson": "beta"}


@dataclass(frozen=True)
class Estimate:
    """A share: `count` of `n`, with an interval.

    Parameters
    ----------
    count : int or None
        None where a small cell is hidden.
    n : int or None
        None where so few people are hidden, too.
    share, low, high : float or None
        None where n is 0 or where a small cell is hidden.
    """

    count: int | None
    n: int | None
    share: float | None
    low: float | None
    high: float | None


def binomial_interval(count: float, n: float, method: BinomialMethod = "wilson") -> tuple[float, float]:
    """Interval of `count` of `n` independent people; both may be effective numbers, not whole.

    Parameters
    ----------
    count, n : float
        n > 0.
    method : str
        "wilson" (Wilson 1927, the default: its mean coverage is the nominal one) or "clopper-pearson" (1934, which
        never covers less and is wider). On an effective number the latter is the interval of Korn and Graubard 1998.

    Examples
    --------
    >>> [round(limit, 6) for limit in binomial_interval(81, 263)]
    [0.255289, 0.36621]
    """
    from statsmodels.stats.proportion import proportion_confint

    limits = proportion_confint(count, n, alpha=1 - CONFIDENCE, method=_STATSMODELS_NAME[method])
    low, high = np.array(limits, float).tolist()
    return max(low, 0.0), min(high, 1.0)


def share_of(count: int, n: int, method: BinomialMethod = "wilson") -> Estimate:
    """Share of independent people with its interval; without any there is neither."""
    if n == 0:
        return Estimate(count, n, None, None, None)
    return Estimate(count, n, count / n, *binomial_interval(count, n, method))
