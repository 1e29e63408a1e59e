"""Case N6: which G, which grade, which shape; bounds inclusive, nothing rounded, floating error of no effect."""

import numpy as np
import pytest
from made_studies import column, outcome_of, result_of

from vertebra_core.measure import genant_index
from vertebra_core.settings import GradingSettings
from vertebra_core.tables.grades import FLOATING_ERROR, grade, reaches, shape
from vertebra_core.tables.rows import outcome_rows, to_arrow

GRADING = GradingSettings()

CASES = [
    ((25, 25, 18), 0.72, "moderate", "crush"),
    ((18, 25, 25), 0.72, "moderate", "wedge"),
    ((25, 18, 25), 0.72, "moderate", "biconcave"),
    ((25, 25, 25), 1.0, "normal", None),
    ((20, 25, 25), 0.80, "mild", "wedge"),
    ((18.5, 25, 25), 0.74, "moderate", "wedge"),
    ((15, 25, 25), 0.60, "severe", "wedge"),
]


@pytest.mark.parametrize(("heights", "g", "name", "form"), CASES)
def test_n6_from_heights_to_the_row(heights, g, name, form):
    """The whole way: keypoints with these heights, measured, as a row of `vertebrae`."""
    row = outcome_rows(outcome_of(result=result_of(column([heights]))), GRADING)["vertebrae"][0]
    assert row["g"] == pytest.approx(g, abs=1e-12)
    assert (row["grade"], row["shape"], row["flags"]) == (name, form, None)


def test_n6_a_height_of_zero_is_not_measurable():
    row = outcome_rows(outcome_of(result=result_of(column([(0, 25, 25)]))), GRADING)["vertebrae"][0]
    assert (row["ha_mm"], row["g"], row["grade"], row["shape"]) == (None, None, None, None)
    assert row["flags"] == "not_measurable"
    assert row["hp_mm"] == 25.0


def test_n6_a_missing_height_is_null():
    result = result_of(column([(25, 25, 25)]))
    result.sizes.ha_mm[0], result.sizes.g[0] = np.nan, genant_index(np.array([np.nan, 25, 25]))
    rows = outcome_rows(outcome_of(result=result), GRADING)
    row = to_arrow("vertebrae", rows["vertebrae"]).to_pylist()[0]
    assert (row["ha_mm"], row["g"], row["grade"], row["shape"]) == (None, None, None, None)
    assert rows["studies"][0]["worst_grade"] is None


def test_no_rounding_before_grading():
    assert [grade(g, GRADING) for g in (0.8049, 0.800001, 0.8)] == ["normal", "normal", "mild"]
    assert [grade(g, GRADING) for g in (0.740001, 0.74, 0.600001, 0.6)] == ["mild", "moderate", "moderate", "severe"]


@pytest.mark.parametrize("bound", [0.80, 0.74, 0.60])
def test_floating_error_does_not_change_a_grade(bound):
    """Heights taken between points far from the origin miss a G of exactly the bound by some ulp; all reach it."""
    rng = np.random.default_rng(7)
    tallest, ends = rng.uniform(12, 35, 500), rng.uniform(-900, 900, (500, 3))
    way = rng.normal(size=(500, 3))
    way /= np.linalg.norm(way, axis=1, keepdims=True)
    lengths = [np.linalg.norm(ends + h[:, None] * way - ends, axis=1) for h in (bound * tallest, tallest)]
    quotients = lengths[0] / lengths[1]
    assert (quotients > bound).sum() > 100, "without floating error this would test nothing"
    assert reaches(quotients, bound).all()
    assert not reaches(np.array([bound + 2 * FLOATING_ERROR]), bound).any()


def test_not_measured_is_not_normal():
    assert grade(None, GRADING) is None
    assert grade(float("nan"), GRADING) is None
    assert shape(18.0, 25.0, 25.0, None) is None


def test_equal_smallest_heights_take_the_first_from_the_front():
    assert shape(18.0, 18.0, 25.0, "moderate") == "wedge"
    assert shape(25.0, 18.0, 18.0, "moderate") == "biconcave"


def test_other_bounds_need_no_new_inference():
    strict = GradingSettings(mild=0.9, moderate=0.85, severe=0.75)
    assert [grade(0.87, GRADING), grade(0.87, strict)] == ["normal", "mild"]
