"""Prevalence of vertebral fractures: who is counted, in which groups, with which intervals.

Denominators hold only what was measured: a NULL is neither a fracture nor a normal vertebra. Age and sex that the
header does not give form a group of their own and are never filled in.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int

from vertebra_core.epidemiology.analysis import Analysis, Flow, Group, Prevalence, Trend
from vertebra_core.epidemiology.by_patient import band_codes, patient_groups, standard_bands
from vertebra_core.epidemiology.by_vertebra import cluster_counts, coverage_by_level, vertebra_groups
from vertebra_core.epidemiology.cases import Cases, Tables, cases_of, of_age
from vertebra_core.epidemiology.intervals import BinomialMethod, Estimate, share_of
from vertebra_core.epidemiology.selection import index_studies
from vertebra_core.epidemiology.strata import NOT_KNOWN, stratum_of
from vertebra_core.epidemiology.trends import cochran_armitage, logistic_slope
from vertebra_core.tables.columns import GRADES

TREND_STEPS = {"age_band": "an age band", "year": "a year"}
"""Strata with an order, over which a trend makes sense, and what a step is."""


def prevalence(tables: Tables, analysis: Analysis) -> Prevalence:
    """Prevalence by patient (smallest ratio of the index study) and by vertebra (all judged ones of index studies).

    By level alone the share by level is also given weighted by inverse coverage; `Tables.levels_in_view` is needed.

    Raises
    ------
    EmptyBand
        An age band of the standard is empty in a group, and they may not be joined; or nobody has an age.
    """
    return prevalence_of(gather(tables, analysis), analysis, tables.levels_in_view)


@dataclass(frozen=True)
class Gathered:
    """The index studies and vertebrae that an analysis counts; the same for all its groups.

    Parameters
    ----------
    n_patients, with_measurement, age_unknown : int
        As in `Flow`.
    cases : Cases
        Within the ages studied.
    n_judged, worst : array [people]
        Judged vertebrae of each patient and the smallest ratio among them.
    """

    n_patients: int
    with_measurement: int
    age_unknown: int
    cases: Cases
    n_judged: Int[np.ndarray, "people"]
    worst: Float[np.ndarray, "people"]


def gather(tables: Tables, analysis: Analysis) -> Gathered:
    """Choose the index studies and take their vertebrae; `by`, bounds, intervals and standard play no part."""
    everyone = index_studies(tables.studies, tables.patients, analysis.index_rule)
    within = of_age(everyone, analysis.youngest, analysis.oldest)
    cases = cases_of(tables.vertebrae, everyone.filter(within), analysis.definition)
    aged = analysis.youngest is not None or analysis.oldest is not None
    unknown = everyone["age_years"].null_count if aged else 0
    return Gathered(tables.patients.num_rows, len(everyone), unknown, cases, *cases.per_patient())


def prevalence_of(gathered: Gathered, analysis: Analysis, levels: pa.Table | None = None) -> Prevalence:
    """The same as `prevalence`, of what was gathered with this index rule, definition and ages.

    Parameters
    ----------
    gathered : Gathered
    analysis : Analysis
    levels : pa.Table, optional
        ``levels_in_view``; needed by level only.
    """
    cases, n_judged, worst = gathered.cases, gathered.n_judged, gathered.worst
    enough = n_judged >= max(analysis.min_vertebrae, 1)
    people, worst = cases.people.filter(enough), worst[enough]
    bands = standard_bands(people, analysis)
    flow = Flow(
        patients=gathered.n_patients,
        with_measurement=gathered.with_measurement,
        of_age=len(cases.people),
        age_unknown=gathered.age_unknown,
        analysed=len(people),
        vertebrae=int(n_judged.sum()),
        not_judged=len(cases.ratio) - int(n_judged.sum()),
        without_age=people["age_years"].null_count,
        without_sex=people["sex"].null_count,
        outside_standard=None if bands is None else int((band_codes(people, analysis, bands) < 0).sum()),
    )
    by = analysis.by
    return Prevalence(
        flow,
        analysis.min_vertebrae,
        by,
        () if "level" in by else patient_groups(people, worst, analysis, bands),
        vertebra_groups(cases, analysis),
        bands,
        _trend(cases, enough, analysis) if len(by) == 1 and by[0] in TREND_STEPS else None,
        coverage_by_level(cases, levels, analysis.grading) if by == ("level",) and levels is not None else None,
        cases.references,
    )


def _trend(cases: Cases, enough: np.ndarray, analysis: Analysis) -> Trend:
    """Trend of at least moderate; the score is the year, or the number of the age band."""
    (over,) = analysis.by
    stratum = stratum_of(cases.people, over)
    known = np.array([label != NOT_KNOWN for label in stratum.labels], bool)[stratum.codes]
    score = np.array(
        [float(label) if over == "year" and label != NOT_KNOWN else i for i, label in enumerate(stratum.labels)]
    )
    counts = cluster_counts(cases, cases.patient, len(cases.people), analysis)
    n, k = counts.n, counts.k["moderate"]
    size, of = len(stratum.labels), known & enough
    positive = np.bincount(stratum.codes[of & (k > 0)], minlength=size)
    people = np.bincount(stratum.codes[of], minlength=size)
    there = known & (n > 0)
    return Trend(
        over,
        TREND_STEPS[over],
        cochran_armitage(positive, people, score),
        logistic_slope(positive, people, score),
        logistic_slope(k[there], n[there], score[stratum.codes[there]], clustered=True),
    )


def by_grade(group: Group, method: BinomialMethod = "wilson") -> dict[str, Estimate]:
    """Share of each grade in a group, from the shares of "at least" a grade; unknown where one of these is hidden.

    Examples
    --------
    >>> three = {"moderate": share_of(2, 10), "severe": share_of(1, 10), "mild": share_of(5, 10)}
    >>> {name: one.count for name, one in by_grade(Group("all", {}, 10, **three)).items()}
    {'normal': 5, 'mild': 3, 'moderate': 1, 'severe': 1}
    """
    n = group.mild.n
    at_least = (n, group.mild.count, group.moderate.count, group.severe.count, 0)
    known = [count for count in at_least if count is not None]
    if n is None or len(known) < len(at_least):
        return {name: Estimate(None, n, None, None, None) for name in GRADES}
    return {name: share_of(known[i] - known[i + 1], n, method) for i, name in enumerate(GRADES)}
