"""Two screenings of the same studies beside each other: two cohorts, two snapshots, two versions of the networks.

Nothing is taken for true: differences are second minus first. docs/evaluation.md says what each number is.
"""

import numpy as np
import pyarrow as pa

from vertebra_core.epidemiology.analysis import BOUNDS, Analysis
from vertebra_core.epidemiology.cases import HEIGHTS, Tables, cases_of, of_age
from vertebra_core.epidemiology.compare_answer import (
    Change,
    CohortComparison,
    GradeChanges,
    GroupChange,
    PairedVertebrae,
    PatientChanges,
    StudyChanges,
    VertebraChanges,
)
from vertebra_core.epidemiology.compare_matching import Match, Matched, match_vertebrae
from vertebra_core.epidemiology.selection import STUDY_COLUMNS, index_studies
from vertebra_core.epidemiology.strata import cross, encode, level_codes, level_stratum, place_in, stratum_of
from vertebra_core.errors import WrongUse
from vertebra_core.settings import GradingSettings
from vertebra_core.statistics.bland_altman import limits_of_agreement
from vertebra_core.statistics.influence import clustered_se, half_width, known, renumbered
from vertebra_core.statistics.kappa import WEIGHTS, weighted_kappa
from vertebra_core.statistics.paired import paired_shares
from vertebra_core.tables.columns import GRADES
from vertebra_core.tables.grades import reaches

COMPARED_STUDIES = (*STUDY_COLUMNS, "series_key", "input_digest", "reason")
"""Columns of `studies` that a comparison reads."""
MEASURED = ("ok", "partial")


def compare_cohorts(
    first: Tables, second: Tables, analysis: Analysis, match: Match = "place", largest: int = 10
) -> CohortComparison:
    """Compare two cohorts with the same keys.

    Parameters
    ----------
    first, second : Tables
        `studies` with `COMPARED_STUDIES`, `vertebrae` with `vertebra_core.epidemiology.compare_matching.COLUMNS`.
    analysis : Analysis
        Bounds, strata, index rule, ages, and how many vertebrae a patient needs; by Genant's index.
    match : str
        Vertebrae by "place" or by "level".
    largest : int
        How many of the largest changes are listed.

    Raises
    ------
    WrongUse
        No study in common.
    """
    studies = _studies(first.studies, second.studies)
    if not studies.both:
        raise WrongUse("the two have no study in common: other archives, or keys made with other pseudonym secrets")
    pairs = match_vertebrae(first.vertebrae, second.vertebrae, _measured_in_both(first, second), match)
    one, other = pairs.values_of(first.vertebrae, second.vertebrae)
    has = np.isfinite(one).all(1), np.isfinite(other).all(1)
    of = has[0] & has[1]
    one, other, rows = one[of], other[of], pairs.first[of]
    patient = encode(first.vertebrae["patient_key"].take(pa.array(rows))).codes
    away = other - one
    grades = _grades(one[:, 3], analysis.grading), _grades(other[:, 3], analysis.grading)
    return CohortComparison(
        studies,
        _vertebrae(first.vertebrae, second.vertebrae, pairs, int(of.sum()), int((has[0] != has[1]).sum())),
        {name: limits_of_agreement(away[:, i], patient) for i, name in enumerate((*HEIGHTS, "g"))},
        _grade_changes(*grades, patient),
        _patients(first, second, analysis),
        {
            bound: _shares(reaches(one[:, 3], at), reaches(other[:, 3], at), patient)
            for bound, at in ((bound, getattr(analysis.grading, bound)) for bound in BOUNDS)
        },
        _by_group(first, rows, away, grades, patient, analysis) if analysis.by else (),
        _largest(
            _looked_at(first.vertebrae, rows),
            _looked_at(second.vertebrae, pairs.second[of]),
            one,
            other,
            grades,
            largest,
        ),
        np.stack([one, other], axis=-1),
    )


def reasons_to_differ(comparison: CohortComparison, tolerance_mm: float) -> list[str]:
    """What makes two cohorts differ; nothing where heights agree within the tolerance and all else is equal."""
    studies, vertebrae = comparison.studies, comparison.vertebrae
    height = max((comparison.differences[name].largest or 0.0 for name in HEIGHTS), default=0.0)
    found = {
        "studies in one only": len(studies.only_first) + len(studies.only_second),
        "studies that ended otherwise": len(studies.changed),
        "vertebrae without a partner": vertebrae.only_first + vertebrae.only_second,
        "vertebrae measured in one only": vertebrae.measured_in_one,
        "levels named otherwise": vertebrae.other_level + vertebrae.one_level,
        "grades": comparison.grades.changed,
    }
    reasons = [f"{count} {what}" for what, count in found.items() if count]
    if height > tolerance_mm:
        reasons.append(f"heights up to {height:.3g} mm apart")
    return reasons


def _studies(first: pa.Table, second: pa.Table) -> StudyChanges:
    place = place_in(first["study_key"], second["study_key"].combine_chunks())
    mine = np.flatnonzero(place >= 0)
    one, other = first.take(pa.array(mine)), second.take(pa.array(place[mine]))
    theirs_only = np.setdiff1d(np.arange(second.num_rows), place[mine])
    ends = _ends(one), _ends(other)
    keys = one["study_key"].to_pylist()
    changed = tuple((key, a, b) for key, a, b in zip(keys, *ends, strict=True) if a != b)
    counts: dict[str, int] = {}
    for _, a, b in changed:
        counts[f"{a} -> {b}"] = counts.get(f"{a} -> {b}", 0) + 1
    return StudyChanges(
        first.num_rows,
        second.num_rows,
        len(mine),
        tuple(first["study_key"].take(pa.array(np.flatnonzero(place < 0))).to_pylist()),
        tuple(second["study_key"].take(pa.array(theirs_only)).to_pylist()),
        dict(sorted(counts.items(), key=lambda item: -item[1])),
        changed,
        *(_unequal(one[name], other[name]) for name in ("input_digest", "series_key")),
    )


def _ends(studies: pa.Table) -> list[str]:
    """Status with its reason."""
    pairs = zip(studies["status"].to_pylist(), studies["reason"].to_pylist(), strict=True)
    return [status if reason is None else f"{status}: {reason}" for status, reason in pairs]


def _unequal(one: pa.ChunkedArray, other: pa.ChunkedArray) -> int:
    return sum(a != b for a, b in zip(one.to_pylist(), other.to_pylist(), strict=True))


def _measured_in_both(first: Tables, second: Tables) -> pa.Array:
    """Keys of the studies that both have measured."""
    measured = [
        [
            key
            for key, status in zip(
                tables.studies["study_key"].to_pylist(), tables.studies["status"].to_pylist(), strict=True
            )
            if status in MEASURED
        ]
        for tables in (first, second)
    ]
    return pa.array(sorted(set(measured[0]) & set(measured[1])), pa.string())


def _vertebrae(first: pa.Table, second: pa.Table, pairs: Matched, measured: int, in_one: int) -> VertebraChanges:
    one, other = (level_codes(table["level"])[rows] for table, rows in ((first, pairs.first), (second, pairs.second)))
    named = (one >= 0).astype(int) + (other >= 0)
    return VertebraChanges(
        pairs.n_first,
        pairs.n_second,
        len(one),
        measured,
        in_one,
        pairs.n_first - len(one),
        pairs.n_second - len(one),
        int(((one == other) & (named == 2)).sum()),
        int(((one != other) & (named == 2)).sum()),
        int((named == 1).sum()),
        known(pairs.apart_mm.max(initial=0.0)) if len(one) else None,
    )


def _grades(g: np.ndarray, grading: GradingSettings) -> np.ndarray:
    """Grade 0 to 3 of measured vertebrae."""
    bounds = (grading.mild, grading.moderate, grading.severe)
    return np.sum([reaches(g, bound) for bound in bounds], axis=0, dtype=int)


def _grade_changes(one: np.ndarray, other: np.ndarray, patient: np.ndarray) -> GradeChanges:
    size = len(GRADES)
    table = np.bincount(one * size + other, minlength=size**2).reshape(size, size)
    return GradeChanges(
        tuple(map(tuple, table.tolist())),
        known(float((one == other).mean())) if len(one) else None,
        {name: weighted_kappa(one, other, size, name, patient) for name in WEIGHTS},
    )


def _shares(one: np.ndarray, other: np.ndarray, patient: np.ndarray) -> PairedVertebrae:
    n, clusters = len(one), renumbered(patient)[1]
    if not n:
        return PairedVertebrae(0, 0, 0, None, None, None)
    away = other.astype(float) - one
    difference = float(away.mean())
    half = half_width(clustered_se((away - difference) / n, patient), clusters)
    return PairedVertebrae(
        int(one.sum()), int(other.sum()), n, difference, known(difference - half), known(difference + half)
    )


def _patients(first: Tables, second: Tables, analysis: Analysis) -> PatientChanges:
    """Each patient by the index study of each cohort."""
    sides = [_worst_of(tables, analysis) for tables in (first, second)]
    (keys, worst, index), (other_keys, other_worst, other_index) = sides
    common, mine, theirs = np.intersect1d(keys, other_keys, return_indices=True)
    shares = {
        bound: paired_shares(reaches(worst[mine], at), reaches(other_worst[theirs], at))
        for bound, at in ((bound, getattr(analysis.grading, bound)) for bound in BOUNDS)
    }
    moved = int((index[mine] != other_index[theirs]).sum())
    return PatientChanges(len(common), len(keys) - len(common), len(other_keys) - len(common), moved, shares)


def _worst_of(tables: Tables, analysis: Analysis) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Key, smallest G and index study of each patient who counts."""
    people = index_studies(tables.studies, tables.patients, analysis.index_rule)
    cases = cases_of(tables.vertebrae, people.filter(of_age(people, analysis.youngest, analysis.oldest)))
    n, worst = cases.per_patient()
    enough = n >= max(analysis.min_vertebrae, 1)
    keys, index = (
        cases.people[name].to_numpy(zero_copy_only=False).astype(str)[enough] for name in ("patient_key", "study_key")
    )
    return keys, worst[enough], index


def _by_group(first: Tables, rows, away, grades, patient, analysis: Analysis) -> tuple[GroupChange, ...]:
    """Groups of the first cohort, in the order of printing."""
    of_study = place_in(first.vertebrae["study_key"], first.studies["study_key"].combine_chunks())[rows]
    strata = []
    for name in analysis.by:
        if name == "level":
            strata.append(level_stratum(level_codes(first.vertebrae["level"])[rows]))
        else:
            own = stratum_of(first.studies, name)
            strata.append(type(own)(own.labels, own.codes[of_study]))
    grouping = cross(strata)
    found = []
    for number, labels in enumerate(grouping.names):
        of = grouping.codes == number
        found.append(
            GroupChange(
                ", ".join(labels),
                limits_of_agreement(away[of, 3], patient[of]),
                limits_of_agreement(away[of, :3].ravel(), np.repeat(patient[of], 3)),
                int((grades[0][of] != grades[1][of]).sum()),
            )
        )
    return tuple(found)


def _looked_at(vertebrae: pa.Table, rows: np.ndarray) -> pa.Table:
    return vertebrae.select(["study_key", "patient_key", "level", "vertebra_index"]).take(pa.array(rows))


def _largest(first: pa.Table, second: pa.Table, one, other, grades, n: int) -> tuple[Change, ...]:
    """The vertebrae whose G changed most, none that did not."""
    change = np.abs(other[:, 3] - one[:, 3])
    order = np.argsort(-change, kind="stable")[:n]
    order = order[change[order] > 0]
    mine, theirs = (table.take(pa.array(order)).to_pylist() for table in (first, second))
    return tuple(
        Change(
            a["study_key"],
            a["patient_key"],
            a["level"],
            b["level"],
            a["vertebra_index"],
            b["vertebra_index"],
            float(one[i, 3]),
            float(other[i, 3]),
            GRADES[grades[0][i]],
            GRADES[grades[1][i]],
            float(np.abs(other[i, :3] - one[i, :3]).max()),
        )
        for i, a, b in zip(order.tolist(), mine, theirs, strict=True)
    )
