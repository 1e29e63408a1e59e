"""Prevalence corrected for the sensitivity and specificity of the test (Rogan and Gladen 1978).

Sensitivity and specificity must belong to the same unit (patient or vertebra), definition and kind of patients as the
counts: they depend on the bound, on the levels in view and on how severe the fractures are.
"""

from dataclasses import dataclass

import numpy as np

from vertebra_core.epidemiology.intervals import CONFIDENCE, BinomialMethod, binomial_interval

NEGATIVE = (
    "the test is positive less often than its false positives alone would make it: the specificity is too low for "
    "these patients; reported as 0"
)
ABOVE_ONE = "the test is positive more often than its sensitivity allows: reported as 1"


@dataclass(frozen=True)
class Corrected:
    """A corrected prevalence.

    Parameters
    ----------
    apparent : float
        Share of positive tests.
    raw, raw_low, raw_high : float
        By formula; may lie outside 0 to 1.
    share, low, high : float
        The same, clipped to 0 to 1.
    method : str
    warning : str or None
        Set where `raw` lies outside 0 to 1.
    """

    apparent: float
    raw: float
    raw_low: float
    raw_high: float
    share: float
    low: float
    high: float
    method: str
    warning: str | None


def rogan_gladen(count: int, n: int, se: float, sp: float, interval: BinomialMethod = "wilson") -> Corrected:
    """Correct for a known sensitivity and specificity: (AP + Sp - 1) / (Se + Sp - 1).

    The limits of the apparent prevalence AP are transformed alike.

    Raises
    ------
    ValueError
        Not 0 < se, sp <= 1, a test no better than chance (se + sp <= 1), or n = 0.

    Examples
    --------
    >>> one = rogan_gladen(150, 1000, se=0.85, sp=0.95)
    >>> round(one.share, 4), round(one.low, 4), round(one.high, 4)
    (0.125, 0.099, 0.1543)
    """
    check_test(se, sp)
    _check_size(n)
    apparent = count / n
    low, high = binomial_interval(count, n, interval)
    raw, raw_low, raw_high = ((value + sp - 1) / (se + sp - 1) for value in (apparent, low, high))
    return _clipped(apparent, raw, raw_low, raw_high, f"Rogan-Gladen, {interval}")


def lang_reiczigel(apparent: float, n: float, se: float, n_se: int, sp: float, n_sp: int) -> Corrected:
    """Correct for a sensitivity estimated on `n_se` diseased and a specificity estimated on `n_sp` healthy people.

    Parameters
    ----------
    apparent : float
        Share of positive tests among `n`.

    Raises
    ------
    ValueError
        As `rogan_gladen`, or nobody in one of the validation samples.

    Notes
    -----
    Lang and Reiczigel 2014, Preventive Veterinary Medicine 113:13, with one case and one non-case added to both
    validation samples and z^2 people, half of them cases, to the survey. The last term under the root is (1 - P)^2;
    equation 4 of the article prints (1 + P)^2, a misprint (help page of R's asht::prevSeSp).

    Examples
    --------
    >>> one = lang_reiczigel(0.23, 1087, se=0.66, n_se=226, sp=0.90, n_sp=861)
    >>> round(one.share, 3), round(one.low, 3), round(one.high, 3)
    (0.232, 0.176, 0.293)
    """
    from scipy.stats import norm

    check_test(se, sp)
    _check_size(n)
    if min(n_se, n_sp) <= 0:
        raise ValueError("sensitivity and specificity need people they were estimated on")
    z2 = float(norm.ppf((1 + CONFIDENCE) / 2)) ** 2
    survey, n_survey = (apparent * n + z2 / 2) / (n + z2), n + z2
    found, n_found = (se * n_se + 1) / (n_se + 2), n_se + 2
    cleared, n_cleared = (sp * n_sp + 1) / (n_sp + 2), n_sp + 2
    gain = found + cleared - 1
    centre = (survey + cleared - 1) / gain
    of_se, of_sp = found * (1 - found) / n_found, cleared * (1 - cleared) / n_cleared
    shift = 2 * z2 * (centre * of_se - (1 - centre) * of_sp)
    variance = survey * (1 - survey) / n_survey + centre**2 * of_se + (1 - centre) ** 2 * of_sp
    half = float(np.sqrt(z2 * variance)) / gain
    raw = (apparent + sp - 1) / (se + sp - 1)
    return _clipped(apparent, raw, centre + shift - half, centre + shift + half, "Lang-Reiczigel")


def check_test(se: float, sp: float) -> None:
    """Accept a test that can be corrected for.

    Raises
    ------
    ValueError
        Not 0 < se, sp <= 1, or no better than chance.
    """
    if not (0 < se <= 1 and 0 < sp <= 1):
        raise ValueError(f"sensitivity and specificity lie between 0 and 1, got {se} and {sp}")
    if se + sp <= 1:
        raise ValueError(f"sensitivity {se} and specificity {sp}: a test no better than chance cannot be corrected")


def _check_size(n: float) -> None:
    if n <= 0:
        raise ValueError("nobody was tested")


def _clipped(apparent: float, raw: float, raw_low: float, raw_high: float, method: str) -> Corrected:
    share, low, high = (min(max(value, 0.0), 1.0) for value in (raw, raw_low, raw_high))
    warning = NEGATIVE if raw < 0 else ABOVE_ONE if raw > 1 else None
    return Corrected(apparent, raw, raw_low, raw_high, share, low, high, method, warning)
