"""The difference of two shares of the same people."""

from dataclasses import dataclass

import numpy as np

from vertebra_core.statistics.influence import CONFIDENCE


@dataclass(frozen=True)
class PairedShares:
    """Positive by the first and by the second of two looks at the same n people.

    Parameters
    ----------
    both, only_first, only_second, neither : int
    difference, low, high : float or None
        Share of the second minus share of the first, with its interval; None without people.
    p : float or None
        Exact McNemar test; 1 where nobody changed.
    """

    both: int
    only_first: int
    only_second: int
    neither: int
    difference: float | None
    low: float | None
    high: float | None
    p: float | None

    @property
    def n(self) -> int:
        """People."""
        return self.both + self.only_first + self.only_second + self.neither


def paired_shares(first: np.ndarray, second: np.ndarray) -> PairedShares:
    """Compare two looks at the same independent people, both bool [n].

    Notes
    -----
    Interval: Newcombe 1998, Stat Med 17:2635, method 10 (Wilson's limits, put together with the correlation of the two
    looks); it has a width where nobody changed. Test: exact McNemar (binomial on those who changed).

    Examples
    --------
    >>> one = paired_shares(np.array([True] * 14 + [False] * 27), np.array([True] * 19 + [False] * 22))
    >>> one.only_second, round(one.difference, 3)
    (5, 0.122)
    """
    from scipy.stats import binomtest
    from statsmodels.stats.proportion import proportion_confint

    first, second = np.asarray(first, bool), np.asarray(second, bool)
    both, only_first = int((first & second).sum()), int((first & ~second).sum())
    only_second = int((~first & second).sum())
    n = len(first)
    counts = both, only_first, only_second, n - both - only_first - only_second
    if not n:
        return PairedShares(*counts, None, None, None, None)
    p1, p2 = first.mean(), second.mean()
    (low1, high1), (low2, high2) = (
        proportion_confint(int(count), n, alpha=1 - CONFIDENCE, method="wilson")
        for count in (first.sum(), second.sum())
    )
    phi = _correlation(*counts)
    below = _put_together(p2 - low2, high1 - p1, phi)
    above = _put_together(high2 - p2, p1 - low1, phi)
    difference = (only_second - only_first) / n
    changed = only_first + only_second
    p = float(binomtest(only_second, changed).pvalue) if changed else 1.0
    return PairedShares(*counts, difference, difference - below, difference + above, p)


def _correlation(a: int, b: int, c: int, d: int) -> float:
    """Of the two looks, drawn towards 0 by Newcombe's continuity correction."""
    product = float(a + b) * (c + d) * (a + c) * (b + d)
    if not product:
        return 0.0
    surplus = float(a) * d - float(b) * c
    n = a + b + c + d
    if surplus > 0:
        surplus = max(surplus - n / 2, 0.0)
    return surplus / product**0.5


def _put_together(one: float, other: float, phi: float) -> float:
    return float(np.sqrt(max(one**2 - 2 * phi * one * other + other**2, 0.0)))
