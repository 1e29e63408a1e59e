"""Which levels were in view, and shares by level that allow for it.

A scan shows some levels only. Of those who show a level, old people may be more than in the cohort; a share by level
then mixes the effect of the level with that of who was scanned there. Weighting every patient by one over the chance
that the level is assessed, given age and sex, gives back the mix of the whole cohort. What nobody shows it cannot
repair: the share of the cohort in such strata is reported.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from vertebra_core.epidemiology.clusters import beta_interval

MOST_WEIGHT = 10.0
"""Weights are capped here: a patient who speaks for more than ten others makes an estimate of himself. A convention."""


@dataclass(frozen=True)
class Weighted:
    """A weighted share.

    Parameters
    ----------
    share : float
    se : float or None
        None for a single patient.
    low, high : float
    n_effective : float
        Kish: sum(w)^2 / sum(w^2).
    """

    share: float
    se: float | None
    low: float
    high: float
    n_effective: float


@dataclass(frozen=True)
class LevelWeights:
    """Weights of the assessed vertebrae [rows].

    Parameters
    ----------
    by_cell : array [strata, levels]
        Stabilised: P(level assessed) / P(level assessed | stratum), capped at `MOST_WEIGHT`; 0 where nobody shows it.
    cell : array [rows]
        Place in the flat `by_cell` of each vertebra.
    capped : int
        Vertebrae whose weight was capped.
    never_seen : array
        By level: share of the cohort in strata in which nobody shows the level, for whom nothing can be said.
    """

    by_cell: Float[np.ndarray, "strata levels"]
    cell: Int[np.ndarray, "rows"]
    capped: int
    never_seen: Float[np.ndarray, "levels"]

    @property
    def weights(self) -> Float[np.ndarray, "rows"]:
        """Of each vertebra."""
        return self.by_cell.ravel()[self.cell]

    def count(self, rows: Bool[np.ndarray, "rows"] | None = None) -> Int[np.ndarray, "strata levels"]:
        """Vertebrae of each cell; `rows` says which are counted."""
        cell = self.cell if rows is None else self.cell[rows]
        return np.bincount(cell, minlength=self.by_cell.size).reshape(self.by_cell.shape)


def level_weights(
    level: Int[np.ndarray, "rows"],
    stratum_of_row: Int[np.ndarray, "rows"],
    stratum_of_patient: Int[np.ndarray, "patients"],
    n_levels: int,
    most: float = MOST_WEIGHT,
) -> LevelWeights:
    """Inverse-coverage weights.

    Parameters
    ----------
    level : array
        Level of each assessed vertebra, 0 to `n_levels` - 1; a patient has one vertebra of a level at most.
    stratum_of_row, stratum_of_patient : array
        Age and sex as a number; patients are all of the cohort, also those who show nothing here.
    most : float
        Cap of a weight.
    """
    n_strata = int(stratum_of_patient.max(initial=-1)) + 1
    patients = np.bincount(stratum_of_patient, minlength=n_strata)
    cell = stratum_of_row * n_levels + level
    seen = np.bincount(cell, minlength=n_strata * n_levels).reshape(n_strata, n_levels)
    chance = seen / np.maximum(patients, 1)[:, None]
    overall = seen.sum(0) / max(patients.sum(), 1)
    raw = np.divide(overall, chance, out=np.zeros_like(chance), where=chance > 0)
    absent = (patients[:, None] * (seen == 0)).sum(0) / max(patients.sum(), 1)
    return LevelWeights(np.minimum(raw, most), cell, int(seen[raw > most].sum()), absent)


def hajek(
    positive: Bool[np.ndarray, "rows"],
    weights: Float[np.ndarray, "rows"],
    patient: Int[np.ndarray, "rows"] | None = None,
    times: Int[np.ndarray, "rows"] | None = None,
) -> Weighted:
    """Weighted share sum(w y) / sum(w), with patients as clusters.

    Parameters
    ----------
    positive, weights : array
        Of the assessed vertebrae.
    patient : array, optional
        A position; without it each vertebra is a patient of its own.
    times : array, optional
        Instead of `patient`: how many vertebrae, of as many patients, each row stands for.

    Notes
    -----
    Hajek 1971. Variance by linearisation: K / (K - 1) sum over patients of (sum of w (y - p) / sum(w))^2, as R's
    survey::svymean. Interval of Korn and Graubard 1998.

    Examples
    --------
    >>> y = np.array([0, 1, 0, 0, 0, 1, 0, 1, 1, 0])
    >>> chance = np.array([0.95] * 3 + [0.6] * 4 + [0.3] * 3)
    >>> one = hajek(y, 1 / chance)
    >>> round(one.share, 6), round(one.se, 6), round(one.n_effective, 3)
    (0.473451, 0.184909, 8.227)
    """
    return mean_over_levels(positive, weights, np.zeros(len(weights), int), patient, times)


def mean_over_levels(
    positive: Bool[np.ndarray, "rows"],
    weights: Float[np.ndarray, "rows"],
    level: Int[np.ndarray, "rows"],
    patient: Int[np.ndarray, "rows"] | None = None,
    times: Int[np.ndarray, "rows"] | None = None,
) -> Weighted:
    """Mean of the weighted shares of the levels that occur, each level counting the same.

    So it does not depend on which levels are scanned often: the share of fractured vertebrae of a whole spine that
    has these levels.

    Parameters
    ----------
    positive, weights, level, patient, times : array
        As `hajek` takes them.
    """
    weights, times = np.asarray(weights, float), np.ones(1) if times is None else np.asarray(times, float)
    counted = weights * times
    total = np.bincount(level, counted)
    occurs = total > 0
    shares = np.divide(np.bincount(level, counted * positive), total, out=np.zeros_like(total), where=occurs)
    share = float(shares[occurs].mean())
    scale = np.divide(1, total * occurs.sum(), out=np.zeros_like(total), where=occurs)
    influence = weights * (positive - shares[level]) * scale[level]
    by_patient = influence if patient is None else np.bincount(patient, influence)
    n = len(weights) if len(times) != len(weights) else int(times.sum())
    k = n if patient is None else int(np.count_nonzero(np.bincount(patient)))
    squares = float((times * by_patient**2).sum())
    se = float(np.sqrt(k / (k - 1) * squares)) if k > 1 else float("inf")
    low, high = beta_interval(share, se, k, n)
    effective = float(counted.sum() ** 2 / (counted @ weights))
    return Weighted(share, se if k > 1 else None, low, high, effective)


@dataclass(frozen=True)
class LevelCoverage:
    """One level.

    Parameters
    ----------
    in_view : int or None
        Index studies that show the level, also where the edge of the scan cuts it.
    judged, moderate : int or None
        Of these, with a ratio; at least moderate. All three are None where a small cell is hidden.
    weighted : Weighted or None
        Share of at least moderate, weighted by inverse coverage; None where nothing was judged.
    never_seen : float
        Share of the cohort in strata in which nobody shows the level.
    """

    level: str
    in_view: int | None
    judged: int | None
    moderate: int | None
    weighted: Weighted | None
    never_seen: float


@dataclass(frozen=True)
class Coverage:
    """Coverage of all levels that occur.

    Parameters
    ----------
    n_patients : int
        Index studies.
    strata : tuple of str
        What coverage is taken to depend on.
    capped : int
        Vertebrae whose weight was capped.
    mean : Weighted or None
        Mean of the weighted shares over `mean_over`: each level counts the same.
    mean_over : tuple of str
        Levels of T4 to L4 that occur.
    """

    levels: tuple[LevelCoverage, ...]
    n_patients: int
    strata: tuple[str, ...]
    capped: int
    mean: Weighted | None
    mean_over: tuple[str, ...]
