"""How numbers are written in a report: always the same digits, and words where there is no number."""

NOT_CORRECTED = "not corrected"
"""Stands beside every share with G <= 0.80 that holds the noise of the heights (docs/noise.md)."""
HIDDEN = "hidden"
NO_NUMBER = "n/a"


def whole(value: int | None) -> str:
    """A count with thin spaces between thousands; a hidden one as a word.

    Examples
    --------
    >>> whole(1234567).replace("\\u202f", " "), whole(None)
    ('1 234 567', 'hidden')
    """
    return HIDDEN if value is None else f"{value:,}".replace(",", "\u202f")


def percent(share: float | None) -> str:
    """A share in per cent with one decimal.

    Examples
    --------
    >>> percent(0.0693).replace("\u00a0", " "), percent(None)
    ('6.9 %', 'n/a')
    """
    return NO_NUMBER if share is None else f"{100 * share:.1f}\u00a0%"


def interval(estimate) -> str:
    """A share with its interval, of anything that has `share`, `low` and `high`.

    Examples
    --------
    >>> from vertebra_core.epidemiology.intervals import share_of
    >>> interval(share_of(81, 263)).replace("\u00a0", " "), interval(None)
    ('30.8 % (25.5 to 36.6)', 'n/a')
    """
    if estimate is None or estimate.share is None:
        return NO_NUMBER
    return f"{percent(estimate.share)} ({100 * estimate.low:.1f} to {100 * estimate.high:.1f})"


def bound(value: float, name: str = "G") -> str:
    """A bound in signs that stay on one line.

    Examples
    --------
    >>> bound(0.74).replace("\u00a0", " ")
    'G ≤ 0.74'
    """
    return f"{name}\u00a0≤\u00a0{value:.2f}"


def decimals(value: float | None, digits: int = 2) -> str:
    """A number with so many decimals.

    Examples
    --------
    >>> decimals(0.8568, 3), decimals(None)
    ('0.857', 'n/a')
    """
    return NO_NUMBER if value is None else f"{value:.{digits}f}"
