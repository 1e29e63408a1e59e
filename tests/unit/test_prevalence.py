"""Counts, denominators and intervals of the prevalence."""

from dataclasses import replace

import pyarrow as pa
import pytest
from made_studies import NORMAL, SERIES, WEDGE, column, outcome_of, result_of

from vertebra_core.epidemiology.prevalence import by_grade, prevalence, wilson
from vertebra_core.errors import Reason
from vertebra_core.settings import GradingSettings
from vertebra_core.tables.patients import patient_table
from vertebra_core.tables.rows import outcome_rows, to_arrow

GRADING = GradingSettings()
MILD, SEVERE = (20.0, 25.0, 25.0), (15.0, 25.0, 25.0)


def study(number: int, patient: int, heights, levels=None, complete=None, **header):
    result = result_of(column(heights), complete, levels) if heights else None
    reason = None if heights else Reason.NO_SPINE
    return outcome_of(f"st{number}", f"pt{patient}", result, reason, replace(SERIES, **header))


def tables_of(*outcomes) -> tuple[pa.Table, pa.Table]:
    rows = [outcome_rows(outcome, GRADING) for outcome in outcomes]
    studies = to_arrow("studies", [row for one in rows for row in one["studies"]])
    return patient_table(studies), to_arrow("vertebrae", [row for one in rows for row in one["vertebrae"]])


@pytest.fixture(scope="module")
def cohort() -> tuple[pa.Table, pa.Table]:
    seven = [NORMAL] * 6
    return tables_of(
        study(1, 1, [*seven, WEDGE], sex="F", age_years=71.0),
        study(2, 2, [*seven, NORMAL], sex="F", age_years=55.0),
        study(3, 3, [*seven, MILD], sex="M", age_years=None),
        study(4, 4, [*seven, SEVERE], sex=None, age_years=93.0),
        study(5, 5, [WEDGE, WEDGE], sex="M", age_years=60.0),  # too few vertebrae
        study(6, 6, None, sex="F", age_years=80.0),  # not evaluable
        study(7, 2, [*seven, SEVERE], sex="F", age_years=56.0, study_date="2025-01-01"),  # a later study of patient 2
    )


def test_the_flow_adds_up(cohort):
    flow = prevalence(*cohort, GRADING).flow
    assert (flow.patients, flow.with_measurement, flow.analysed, flow.vertebrae) == (6, 5, 4, 4 * 7 + 2)
    assert (flow.without_age, flow.without_sex) == (1, 1)


def test_patients_and_vertebrae_are_counted_once_by_the_index_study(cohort):
    answer = prevalence(*cohort, GRADING)
    (patients,), (vertebrae,) = answer.patients, answer.vertebrae
    assert [(e.count, e.n) for e in (patients.moderate, patients.severe, patients.mild)] == [(2, 4), (1, 4), (3, 4)]
    assert [(e.count, e.n) for e in (vertebrae.moderate, vertebrae.severe, vertebrae.mild)] == [
        (4, 30),
        (1, 30),
        (5, 30),
    ]


def test_the_number_of_vertebrae_needed_is_a_choice(cohort):
    assert prevalence(*cohort, GRADING, min_vertebrae=2).patients[0].moderate.n == 5
    assert prevalence(*cohort, GRADING, min_vertebrae=8).patients[0].moderate == wilson(0, 0)


def test_unknown_sex_and_age_are_groups_of_their_own(cohort):
    by_sex = {group.name: group.moderate for group in prevalence(*cohort, GRADING, by="sex").patients}
    assert {name: (e.count, e.n) for name, e in by_sex.items()} == {
        "F": (1, 2), "M": (0, 1), "not known": (1, 1), "all": (2, 4),
    }  # fmt: skip
    bands = [group.name for group in prevalence(*cohort, GRADING, by="age_band").patients]
    assert bands == ["50-59", "70-79", "90 and over", "not known", "all"]


@pytest.mark.parametrize("by", ["sex", "age_band", "site"])
def test_groups_add_up_to_all(cohort, by):
    answer = prevalence(*cohort, GRADING, by=by)
    for *groups, everything in (answer.patients, answer.vertebrae):
        for name in ("moderate", "severe", "mild"):
            parts = [getattr(group, name) for group in groups]
            assert sum(part.n for part in parts) == getattr(everything, name).n
            assert sum(part.count for part in parts) == getattr(everything, name).count


def test_null_is_neither_fractured_nor_normal():
    """A cut wedge and a vertebra without a height leave numerator and denominator alike."""
    tables = tables_of(study(1, 1, [WEDGE, NORMAL, (0, 25, 25), NORMAL], complete=[False, True, True, True]))
    (vertebrae,) = prevalence(*tables, GRADING).vertebrae
    assert (vertebrae.moderate.count, vertebrae.moderate.n, vertebrae.mild.n) == (0, 2, 2)


def test_by_level_counts_vertebrae_from_the_top_down():
    tables = tables_of(study(1, 1, [NORMAL, WEDGE, NORMAL, NORMAL], levels=["T12", "L1", "L2", None]))
    answer = prevalence(*tables, GRADING, by="level", min_vertebrae=1)
    assert answer.patients == ()
    names = [(group.name, group.moderate.count, group.moderate.n) for group in answer.vertebrae]
    assert names == [("T12", 0, 1), ("L1", 1, 1), ("L2", 0, 1), ("not known", 0, 1), ("all", 1, 4)]


def test_by_grade_is_a_distribution(cohort):
    grades = by_grade(prevalence(*cohort, GRADING, by="grade").patients[-1])
    assert {name: one.count for name, one in grades.items()} == {"normal": 1, "mild": 1, "moderate": 1, "severe": 1}


def test_other_bounds_regrade_without_new_rows(cohort):
    lower = GradingSettings(mild=0.74, moderate=0.60, severe=0.40)
    assert prevalence(*cohort, lower).patients[0].moderate.count == 1


def test_an_empty_cohort_has_no_prevalence():
    answer = prevalence(*tables_of(), GRADING, by="sex")
    (group,) = answer.patients
    assert (group.moderate.n, group.moderate.share, group.moderate.low) == (0, None, None)
