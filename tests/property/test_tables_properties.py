"""Grades order as G does; the patient table equals a plain loop; nothing is lost between rows and Arrow."""

from dataclasses import replace
from datetime import date

from hypothesis import given, settings
from hypothesis import strategies as st
from made_studies import SERIES, column, outcome_of, result_of

from vertebra_core.errors import Reason
from vertebra_core.settings import GradingSettings
from vertebra_core.tables.columns import GRADES
from vertebra_core.tables.grades import grade, grade_number, shape
from vertebra_core.tables.patients import patient_table
from vertebra_core.tables.regrade import regrade_vertebrae
from vertebra_core.tables.rows import outcome_rows, to_arrow
from vertebra_core.tables.schema import arrow_schema

GRADING = GradingSettings()
height = st.floats(5, 40)


@given(st.floats(0.01, 1.0), st.floats(0.01, 1.0))
def test_a_smaller_g_is_never_a_milder_grade(one, other):
    low, high = sorted((one, other))
    assert grade_number(grade(low, GRADING)) >= grade_number(grade(high, GRADING))


@given(height, height, height, st.sampled_from(GRADES[1:]))
def test_the_shape_names_the_smallest_height(ha, hm, hp, name):
    by_shape = {"wedge": ha, "biconcave": hm, "crush": hp}
    assert by_shape[shape(ha, hm, hp, name)] <= min(ha, hm, hp) + 1e-9


@st.composite
def study_rows(draw):
    """Rows of `studies` with few distinct values, so that every kind of tie occurs."""
    rows = []
    for i in range(draw(st.integers(0, 8))):
        day = draw(st.sampled_from([None, "2020-01-01", "2021-01-01"]))
        spacing = draw(st.sampled_from([None, 1.0, 2.0]))
        n = draw(st.integers(0, 2))
        series = replace(SERIES, study_date=day, slice_spacing_mm=spacing)
        result = result_of(column([(24, 24, 24)] * n)) if n else None
        outcome = outcome_of(
            f"st{i}", draw(st.sampled_from(["pt1", "pt2"])), result, None if n else Reason.NO_SPINE, series
        )
        rows += outcome_rows(outcome, GRADING)["studies"]
    return draw(st.permutations(rows))


def plain_index_study(rows):
    def place(row):
        spacing = row["slice_spacing_mm"]
        return (
            row["study_date"] or date.max,
            float("inf") if spacing is None else spacing,
            -row["n_vertebrae"],
            row["study_key"],
        )

    measured = [row for row in rows if row["n_vertebrae"] > 0]
    return min(measured, key=place)["study_key"] if measured else None


@given(study_rows())
@settings(deadline=None, max_examples=60)
def test_the_patient_table_equals_a_plain_loop(rows):
    patients = patient_table(to_arrow("studies", rows)).to_pylist()
    by_patient = {row["patient_key"]: [one for one in rows if one["patient_key"] == row["patient_key"]] for row in rows}
    assert {row["patient_key"]: row["index_study_key"] for row in patients} == {
        patient: plain_index_study(some) for patient, some in by_patient.items()
    }
    assert sum(row["n_studies"] for row in patients) == len(rows)


@given(st.lists(st.tuples(st.one_of(st.just(0.0), height), height, height), min_size=1, max_size=4), st.data())
@settings(deadline=None, max_examples=40)
def test_nothing_is_lost_between_rows_and_arrow(heights, data):
    k = len(heights)
    complete = data.draw(st.lists(st.booleans(), min_size=k, max_size=k))
    rows = outcome_rows(outcome_of(result=result_of(column(heights), complete)), GRADING)
    back = to_arrow("vertebrae", rows["vertebrae"]).to_pylist()
    table = to_arrow("vertebrae", rows["vertebrae"])
    assert regrade_vertebrae(table, GRADING).equals(table)  # the fast path over whole tables agrees with the slow one
    for row, again in zip(rows["vertebrae"], back, strict=True):
        assert list(again) == arrow_schema("vertebrae").names
        for name in ("ha_mm", "hm_mm", "hp_mm", "g", "grade", "shape", "flags", "complete"):
            assert row[name] == again[name]
        measured = again["g"] is not None
        assert measured == (again["grade"] is not None) == (again["flags"] is None)
