"""What a report says of G beyond prevalence: its spread by level, the shares at every bound, and shapes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float, Int

from vertebra_core.epidemiology.analysis import Analysis
from vertebra_core.epidemiology.by_vertebra import by_code
from vertebra_core.epidemiology.cases import Cases
from vertebra_core.epidemiology.clusters import clustered_estimate
from vertebra_core.epidemiology.intervals import Estimate, share_of
from vertebra_core.epidemiology.noise import THRESHOLDS
from vertebra_core.epidemiology.strata import place_in
from vertebra_core.settings import GradingSettings
from vertebra_core.tables.columns import LEVELS, SHAPES
from vertebra_core.tables.grades import reaches

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
FEWEST_FOR_QUANTILES = 20
"""Vertebrae of a level below which the 5th percentile is the smallest value, and no spread is drawn."""


@dataclass(frozen=True)
class Spread:
    """Quantiles of G at one level, at `QUANTILES`; None where there are too few vertebrae."""

    level: str
    n: int
    quantiles: tuple[float, ...] | None


@dataclass(frozen=True)
class Apparent:
    """Shares with G <= `threshold` as read, of patients and of vertebrae."""

    threshold: float
    patients: Estimate
    vertebrae: Estimate


@dataclass(frozen=True)
class Shapes:
    """Vertebrae of the index studies with a grade, by shape.

    Parameters
    ----------
    grade : str
    counts : dict
        Shape -> vertebrae; None where a small cell is hidden.
    """

    grade: str
    counts: dict[str, int | None]


def quantiles_of(
    values: Float[np.ndarray, "rows"], group: Int[np.ndarray, "rows"], n_groups: int, at: Sequence[float]
) -> list[list[float] | None]:
    """Quantiles of the values of each group (linear interpolation); None for an empty group.

    Examples
    --------
    >>> quantiles_of(np.array([0.9, 0.5, 0.7, 0.8]), np.array([0, 0, 0, 2]), 3, (0.0, 0.5))
    [[0.5, 0.7], None, [0.8, 0.8]]
    """
    rows, ends = by_code(group, n_groups)
    parts = (values[rows[ends[i] : ends[i + 1]]] for i in range(n_groups))
    return [np.quantile(part, at).tolist() if len(part) else None for part in parts]


def spread_by_level(cases: Cases) -> tuple[Spread, ...]:
    """Spread of G at each level that occurs, in index studies."""
    known = cases.level >= 0
    level, ratio = cases.level[known].astype(int), cases.ratio[known]
    counts = np.bincount(level, minlength=len(LEVELS))
    found = quantiles_of(ratio, level, len(LEVELS), QUANTILES)
    return tuple(
        Spread(name, int(n), tuple(one) if one is not None and n >= FEWEST_FOR_QUANTILES else None)
        for name, n, one in zip(LEVELS, counts, found, strict=True)
        if n
    )


def apparent_curve(cases: Cases, analysis: Analysis) -> tuple[Apparent, ...]:
    """Shares at every threshold of the noise correction, as read: patients with enough vertebrae, and all vertebrae."""
    n_judged, worst = cases.per_patient()
    worst = worst[n_judged >= max(analysis.min_vertebrae, 1)]
    there = n_judged > 0
    points = []
    for threshold in THRESHOLDS:
        below = np.bincount(cases.patient[reaches(cases.ratio, threshold)], minlength=len(n_judged))
        patients = share_of(int(reaches(worst, threshold).sum()), len(worst), analysis.interval)
        vertebrae = clustered_estimate(below[there], n_judged[there], analysis.vertebra_interval)
        points.append(Apparent(threshold, patients, vertebrae))
    return tuple(points)


def shapes(vertebrae: pa.Table, people: pa.Table, grading: GradingSettings) -> tuple[Shapes, ...]:
    """Shapes of the deformed vertebrae of index studies, by grade from mild to severe.

    Parameters
    ----------
    vertebrae : pa.Table
        Columns study_key, g and shape, graded with the same bounds.
    people : pa.Table
        The index studies.
    """
    deformed = vertebrae.select(["study_key", "g", "shape"]).filter(pc.field("shape").is_valid())
    deformed = deformed.filter(pa.array(place_in(deformed["study_key"], people["study_key"].combine_chunks()) >= 0))
    g = deformed["g"].to_numpy()
    number = sum(reaches(g, bound).astype(int) for bound in (grading.mild, grading.moderate, grading.severe))
    code = pc.call_function("index_in", [deformed["shape"]], pc.SetLookupOptions(pa.array(SHAPES))).to_numpy()
    answer = []
    for i, grade in enumerate(("mild", "moderate", "severe"), start=1):
        counts = np.bincount(code[number == i], minlength=len(SHAPES))
        answer.append(Shapes(grade, dict(zip(SHAPES, counts.tolist(), strict=True))))
    return tuple(answer)
