"""One row per patient by the index study: the earliest one with a measured vertebra."""

from dataclasses import replace

import pytest
from made_studies import NORMAL, SERIES, WEDGE, column, outcome_of, result_of

from vertebra_core.errors import Reason
from vertebra_core.settings import GradingSettings
from vertebra_core.tables.patients import patient_table
from vertebra_core.tables.rows import outcome_rows, to_arrow


def study(key, patient, heights=(NORMAL,), **header):
    result = result_of(column(heights)) if heights else None
    reason = None if heights else Reason.NO_SPINE
    return outcome_of(key, patient, result, reason, replace(SERIES, **header))


def patients_of(*outcomes):
    rows = [row for outcome in outcomes for row in outcome_rows(outcome, GradingSettings())["studies"]]
    return {row["patient_key"]: row for row in patient_table(to_arrow("studies", rows)).to_pylist()}


def test_the_earliest_evaluable_study_counts_and_never_the_worst():
    patients = patients_of(
        study("st3", "pt1", [NORMAL, WEDGE], study_date="2024-05-01", age_years=71.0),
        study("st1", "pt1", None, study_date="2020-01-01"),
        study("st2", "pt1", [NORMAL] * 3, study_date="2022-02-02", age_years=69.0),
    )
    row = patients["pt1"]
    assert (row["index_study_key"], row["n_vertebrae"], row["worst_grade"]) == ("st2", 3, "normal")
    assert (row["n_studies"], row["n_evaluable_studies"], row["age_years"]) == (3, 2, 69.0)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"study_date": "2024-01-01"}, {"study_date": None}),
        ({"slice_spacing_mm": 1.0}, {"slice_spacing_mm": 3.0}),
        ({"slice_spacing_mm": 1.0}, {"slice_spacing_mm": None}),
        ({"heights": [NORMAL] * 4}, {"heights": [NORMAL] * 3}),
    ],
)
def test_ties_are_broken_as_stated_whatever_the_order_of_rows(one, other):
    for first, second in ((one, other), (other, one)):
        chosen = "st1" if first is one else "st2"
        patients = patients_of(study("st1", "pt1", **first), study("st2", "pt1", **second))
        assert patients["pt1"]["index_study_key"] == chosen


def test_equal_studies_go_by_key():
    assert patients_of(study("st2", "pt1"), study("st1", "pt1"))["pt1"]["index_study_key"] == "st1"


def test_a_patient_never_measured_keeps_a_row_of_nulls():
    patients = patients_of(study("st1", "pt1", None), study("st2", "pt2"))
    row = patients["pt1"]
    assert (row["n_studies"], row["n_evaluable_studies"], row["n_vertebrae"]) == (1, 0, 0)
    assert {row[name] for name in ("index_study_key", "min_g", "worst_grade", "age_years", "sex")} == {None}
    assert patients["pt2"]["index_study_key"] == "st2"


def test_no_studies_make_no_patients():
    assert patient_table(to_arrow("studies", [])).num_rows == 0
