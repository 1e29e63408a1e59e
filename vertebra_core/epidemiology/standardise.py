"""Direct age standardisation of a share, with its interval.

The standardised share is sum(w_i p_i) over age bands i, with the weights w of a standard population, truncated to the
ages studied and renormalised to add to 1. A band without people has no p: it is joined with a neighbour, or refused;
it is never left out, which would move its weight to other ages in silence.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from vertebra_core.epidemiology.intervals import CONFIDENCE, binomial_interval
from vertebra_core.epidemiology.standard_populations import StandardPopulation

StandardisedMethod = Literal["wilson", "clopper-pearson", "gamma", "tiwari"]


class EmptyBand(ValueError):
    """An age band of the standard without people, and bands may not be joined."""


@dataclass(frozen=True)
class AgeBands:
    """Bands in force: ages studied, after joining those that were empty in some group.

    Parameters
    ----------
    names : tuple of str
    weights : tuple of float
        Of the standard, renormalised over these bands.
    share_of_standard : float
        Which share of the whole standard these ages hold.
    joined : tuple of str
        Names of those that had to be made from more than one band.
    band_of : tuple of int
        Number of the band in force for each band of the standard; -1 outside the ages studied.
    """

    names: tuple[str, ...]
    weights: tuple[float, ...]
    share_of_standard: float
    joined: tuple[str, ...]
    band_of: tuple[int, ...]


@dataclass(frozen=True)
class Standardised:
    """A standardised share.

    Parameters
    ----------
    n : int
        People in the bands; those without age are not among them.
    n_effective : float or None
        Size of a simple sample with the same variance; None where the share is 0 or 1.
    counts, ns : tuple of int
        By band.
    """

    n: int
    share: float | None
    low: float | None
    high: float | None
    method: StandardisedMethod
    n_effective: float | None
    counts: tuple[int, ...]
    ns: tuple[int, ...]


def studied_bands(standard: StandardPopulation, ns: Int[np.ndarray, "groups bands"], collapse: bool = True) -> AgeBands:
    """The bands that are standardised to: from the first to the last that has people, none of them empty in a group.

    All groups get the same bands, so that their standardised shares can be compared.

    Parameters
    ----------
    standard : StandardPopulation
    ns : array
        People of each group in each band of the standard; groups without anybody are passed over.
    collapse : bool
        Join a band that is empty in some group with the next younger one (the first with the next older one).

    Raises
    ------
    EmptyBand
        A band is empty in some group and `collapse` is false, or nobody is in any band.
    """
    inside = np.array(standard.weights) > 0
    ns = np.where(inside, np.asarray(ns), 0)
    ns = ns[ns.sum(1) > 0]
    occupied = np.flatnonzero(ns.sum(0))
    if not len(occupied):
        raise EmptyBand("nobody has an age within the standard population")
    names = standard.band_names()
    studied = [band for band in range(occupied[0], occupied[-1] + 1) if inside[band]]
    members = _members(ns, studied)
    if not collapse and len(members) < len(studied):
        without = next(names[band] for band in studied if (ns[:, band] == 0).any())
        raise EmptyBand(f"a group has nobody aged {without}: join bands, or study other ages")
    total = float(sum(standard.weights))
    held = np.array([sum(standard.weights[band] for band in group) for group in members], float)
    own = tuple(_joined_name(names, group) for group in members)
    number = {band: i for i, group in enumerate(members) for band in group}
    return AgeBands(
        own,
        tuple((held / held.sum()).tolist()),
        float(held.sum()) / total,
        tuple(name for name, group in zip(own, members, strict=True) if len(group) > 1),
        tuple(number.get(band, -1) for band in range(len(names))),
    )


def _members(ns: np.ndarray, studied: Sequence[int]) -> list[list[int]]:
    """Bands that stand together: an empty one with the one before; an empty first one with those after."""
    members: list[list[int]] = []
    for band in studied:
        last_is_empty = bool(members) and bool((ns[:, members[-1]].sum(1) == 0).any())
        if members and (last_is_empty or (ns[:, band] == 0).any()):
            members[-1].append(band)
        else:
            members.append([band])
    return members


def _joined_name(names: Sequence[str], group: Sequence[int]) -> str:
    first, last = names[group[0]], names[group[-1]]
    if len(group) == 1:
        return first
    start = first.partition("-")[0]
    return f"{start}+" if last.endswith("+") else f"{start}-{last.partition('-')[2]}"


def standardise(
    counts: Int[np.ndarray, "bands"],
    ns: Int[np.ndarray, "bands"],
    weights: Float[np.ndarray, "bands"],
    method: StandardisedMethod = "wilson",
) -> Standardised:
    """Standardised share of one group.

    Parameters
    ----------
    counts, ns : array
        By band; every n is positive.
    weights : array
        Of the standard; renormalised here.
    method : str
        "wilson", the default: binomial variance V = sum(w^2 p (1 - p) / n), and Wilson's interval on the effective
        number P (1 - P) / V. "clopper-pearson": the exact interval on that number (Korn and Graubard 1998). "gamma":
        Fay and Feuer 1997, for counts that are Poisson: right for rare events, too wide for a prevalence. "tiwari":
        the same lower limit with the upper one of Tiwari, Clegg and Zou 2006, which is narrower.

    Raises
    ------
    EmptyBand
        A band without people.

    Examples
    --------
    >>> one = standardise(np.array([19, 27, 41]), np.array([812, 905, 1010]), np.array([7000, 6500, 6000]))
    >>> round(one.share, 5), round(one.low, 5), round(one.high, 5)
    (0.03083, 0.02501, 0.03797)
    """
    counts, ns, weights = (np.asarray(values, float) for values in (counts, ns, weights))
    if (ns <= 0).any():
        raise EmptyBand("an age band without people cannot be standardised")
    weights = weights / weights.sum()
    shares = counts / ns
    share = float(weights @ shares)
    n_effective = _effective(counts, ns, weights)
    if method in ("gamma", "tiwari"):
        low, high = gamma_interval(counts, weights / ns, tiwari=method == "tiwari")
    else:
        # Where nobody (or everybody) is a case the variance is 0; the smallest n over its weight then bounds it.
        n = float((ns[weights > 0] / weights[weights > 0]).min()) if n_effective is None else n_effective
        low, high = binomial_interval(share * n, n, "wilson" if method == "wilson" else "clopper-pearson")
    whole = [tuple(int(value) for value in values) for values in (counts, ns)]
    return Standardised(int(ns.sum()), share, low, high, method, n_effective, *whole)


def _effective(counts: np.ndarray, ns: np.ndarray, weights: np.ndarray) -> float | None:
    share = float(weights @ (counts / ns))
    variance = float((weights**2 * counts * (ns - counts) / ns**3).sum())
    return share * (1 - share) / variance if variance > 0 else None


def gamma_interval(
    counts: Float[np.ndarray, "bands"], factors: Float[np.ndarray, "bands"], tiwari: bool = False
) -> tuple[float, float]:
    """Interval of sum(factors * counts) for Poisson counts.

    Parameters
    ----------
    counts, factors : array
        A factor is the weight of the band over its number of people.
    tiwari : bool
        Upper limit after Tiwari, Clegg and Zou 2006 (mean factor and mean squared factor in place of the largest).

    Notes
    -----
    Fay and Feuer 1997, Statistics in Medicine 16:791: with y = sum(f x), v = sum(f^2 x), f_m = max(f) the limits are
    v / 2y chi2(a/2; 2y^2/v) and (v + f_m^2) / 2(y + f_m) chi2(1 - a/2; 2 (y + f_m)^2 / (v + f_m^2)).
    """
    from scipy.stats import chi2

    y, v = float(factors @ counts), float(factors**2 @ counts)
    tail = (1 - CONFIDENCE) / 2
    more, more_v = (factors.mean(), (factors**2).mean()) if tiwari else (factors.max(), factors.max() ** 2)
    low = 0.0 if y == 0 else float(v / (2 * y) * chi2.ppf(tail, 2 * y**2 / v))
    y, v = y + float(more), v + float(more_v)
    return low, float(v / (2 * y) * chi2.ppf(1 - tail, 2 * y**2 / v))
