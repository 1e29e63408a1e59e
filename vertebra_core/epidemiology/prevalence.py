"""Prevalence of vertebral fractures: counts and Wilson intervals, by patient and by vertebra.

Denominators hold only what was measured: a NULL is neither a fracture nor a normal vertebra. Age and sex that the
header does not give form a group of their own and are never filled in.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa

from vertebra_core.settings import GradingSettings
from vertebra_core.tables.columns import GRADES, LEVELS
from vertebra_core.tables.grades import reaches

By = Literal["sex", "age_band", "level", "site", "grade"]

MIN_VERTEBRAE = 7
"""A patient counts with at least this many measured vertebrae: more than half of T4 to L4. With fewer, a fracture
has less chance to be seen; the choice is a convention, so the command prints it and takes another."""
CONFIDENCE = 0.95
NOT_KNOWN = "not known"
ALL = "all"
OLDEST_BAND, YOUNGEST_BAND, BAND_YEARS = 90, 50, 10
"""Bands of ten years from 50 to 89 for display, with one open band at either end."""


@dataclass(frozen=True)
class Estimate:
    """`count` of `n` with a Wilson interval; the share and its limits are None where n is 0."""

    count: int
    n: int
    share: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Group:
    """Prevalence in one group.

    Parameters
    ----------
    moderate : Estimate
        G <= 0.74: the headline.
    severe : Estimate
        G <= 0.60.
    mild : Estimate
        G <= 0.80, not corrected for measurement noise, which at this bound multiplies the count: 18 % of all
        vertebrae that readers measured lie below it.
    """

    name: str
    moderate: Estimate
    severe: Estimate
    mild: Estimate


@dataclass(frozen=True)
class Flow:
    """Who was counted; each number is what is left of the one before, but for the last two.

    Parameters
    ----------
    patients, with_measurement, analysed : int
        Patients met; with an index study; with enough measured vertebrae in it.
    vertebrae : int
        Measured vertebrae of all index studies.
    without_age, without_sex : int
        Of the analysed patients.
    """

    patients: int
    with_measurement: int
    analysed: int
    vertebrae: int
    without_age: int
    without_sex: int


@dataclass(frozen=True)
class Prevalence:
    """The answer: the flow of patients and the groups of both units."""

    flow: Flow
    min_vertebrae: int
    by: By | None
    patients: tuple[Group, ...]
    vertebrae: tuple[Group, ...]


def wilson(count: int, n: int) -> Estimate:
    """Share with Wilson's 95 % interval.

    Examples
    --------
    >>> round(wilson(81, 263).low, 6), round(wilson(81, 263).high, 6)
    (0.255289, 0.36621)
    """
    from statsmodels.stats.proportion import proportion_confint

    if n == 0:
        return Estimate(count, n, None, None, None)
    limits = proportion_confint(count, n, alpha=1 - CONFIDENCE, method="wilson")
    low, high = np.array(limits, float).tolist()
    return Estimate(count, n, count / n, low, high)


def age_band(age_years: float | None) -> str:
    """Ten-year band of an age in completed years.

    Examples
    --------
    >>> age_band(49.9), age_band(50), age_band(69.99), age_band(93), age_band(None)
    ('under 50', '50-59', '60-69', '90 and over', 'not known')
    """
    if age_years is None or not np.isfinite(age_years):
        return NOT_KNOWN
    if age_years < YOUNGEST_BAND:
        return f"under {YOUNGEST_BAND}"
    if age_years >= OLDEST_BAND:
        return f"{OLDEST_BAND} and over"
    start = int(age_years // BAND_YEARS * BAND_YEARS)
    return f"{start}-{start + BAND_YEARS - 1}"


def prevalence(
    patients: pa.Table,
    vertebrae: pa.Table,
    grading: GradingSettings,
    by: By | None = None,
    min_vertebrae: int = MIN_VERTEBRAE,
) -> Prevalence:
    """Prevalence by patient (smallest G of the index study) and by vertebra (all measured ones of index studies).

    Parameters
    ----------
    patients, vertebrae : pa.Table
        Of one snapshot.
    grading : GradingSettings
        Bounds on G; grades are given anew from G.
    by : str, optional
        Group by this; "grade" gives the distribution over grades, "level" exists for vertebrae only.
    min_vertebrae : int
        Measured vertebrae that a patient needs in the index study.
    """
    everyone = _people(patients)
    measured = everyone.filter(everyone["index_study_key"].is_valid())
    analysed = measured.filter(measured["n_vertebrae"].to_numpy() >= min_vertebrae)
    bones = _bones(vertebrae, measured)
    flow = Flow(
        patients=len(everyone),
        with_measurement=len(measured),
        analysed=len(analysed),
        vertebrae=len(bones),
        without_age=analysed["age_band"].to_pylist().count(NOT_KNOWN),
        without_sex=analysed["sex"].to_pylist().count(NOT_KNOWN),
    )
    by_patient = () if by == "level" else _groups(analysed, by, grading)
    return Prevalence(flow, min_vertebrae, by, by_patient, _groups(bones, by, grading))


def _people(patients: pa.Table) -> pa.Table:
    """What is needed of each patient; `g` is the smallest G, an unknown group has a name of its own."""
    bands = pa.array([age_band(age) for age in patients["age_years"].to_pylist()], pa.string())
    columns = {name: patients[name] for name in ("index_study_key", "n_vertebrae")}
    groups = {"age_band": bands, **{name: patients[name].fill_null(NOT_KNOWN) for name in ("sex", "site")}}
    return pa.table({**columns, "g": patients["min_g"], **groups})


def _bones(vertebrae: pa.Table, measured: pa.Table) -> pa.Table:
    """Measured vertebrae of the index studies, with the groups of their patients."""
    level = vertebrae["level"].fill_null(NOT_KNOWN)
    bones = pa.table({"study_key": vertebrae["study_key"], "level": level, "g": vertebrae["g"]})
    about = measured.select(["index_study_key", "age_band", "sex", "site"])
    return bones.filter(bones["g"].is_valid()).join(about, "study_key", "index_study_key", join_type="inner")


def _groups(cases: pa.Table, by: By | None, grading: GradingSettings) -> tuple[Group, ...]:
    g = cases["g"].to_numpy().astype(float)
    everything = (_group(ALL, g, grading),)
    if by is None or by == "grade":
        return everything
    names = np.array(cases[by].to_pylist(), object)
    return (*(_group(name, g[names == name], grading) for name in sorted(set(names), key=_order)), *everything)


def _order(name: str) -> tuple:
    """Levels from the top down, other names by alphabet, "under" first and "not known" last."""
    place = LEVELS.index(name) if name in LEVELS else -1
    return name == NOT_KNOWN, not name.startswith("under"), place, name


def _group(name: str, g: np.ndarray, grading: GradingSettings) -> Group:
    moderate, severe, mild = (
        wilson(int(reaches(g, bound).sum()), len(g)) for bound in (grading.moderate, grading.severe, grading.mild)
    )
    return Group(name, moderate, severe, mild)


def by_grade(group: Group) -> dict[str, Estimate]:
    """Share of each grade in a group, from the shares of "at least" a grade.

    Examples
    --------
    >>> group = Group("all", moderate=wilson(2, 10), severe=wilson(1, 10), mild=wilson(5, 10))
    >>> {name: estimate.count for name, estimate in by_grade(group).items()}
    {'normal': 5, 'mild': 3, 'moderate': 1, 'severe': 1}
    """
    n = group.mild.n
    at_least = (n, group.mild.count, group.moderate.count, group.severe.count, 0)
    return {name: wilson(at_least[i] - at_least[i + 1], n) for i, name in enumerate(GRADES)}
