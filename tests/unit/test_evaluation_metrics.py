"""Tables 1 and 2 by hand."""

import numpy as np
import pytest
from made_studies import NORMAL, WEDGE, column, found_of, moved, truth_of

from vertebra_core.evaluation.evidence import compare, gather
from vertebra_core.evaluation.matching import NOTHING_FOUND
from vertebra_core.evaluation.metrics import (
    Share,
    Spread,
    classification,
    classifications,
    detection,
    error,
    errors,
    spread,
)
from vertebra_core.settings import GradingSettings

GRADING = GradingSettings()
FOUR = column([NORMAL, WEDGE, NORMAL, NORMAL])


def test_table_1_by_hand():
    """Four annotated, one of them G = 0.72. Found: two exact, the wedge 3 mm to the left, one missed, one false."""
    points = np.concatenate([FOUR[[0, 2]], moved(FOUR[1:2], x=3), moved(FOUR[2:3], z=-15)])
    table = detection(gather([compare("a", "a", truth_of(FOUR), found_of(points))]), GRADING)
    assert (table.recall, table.precision) == (Share(3, 4), Share(3, 4))
    assert table.recall_moderate == Share(1, 1)
    assert table.localization_mm.mean == pytest.approx((0 + 0 + 3 + 15) / 4)
    assert table.localization_moderate_mm == Spread(pytest.approx(3.0), None, 1)
    assert table.in_plane_mm.mean == pytest.approx(0.0, abs=1e-6)


def test_localisation_looks_for_complete_vertebrae_only():
    """A false find 16 mm below the third vertebra lies 14 mm above the fourth, which the scan cuts."""
    truth, found = truth_of(FOUR, [True, True, True, False]), found_of(moved(FOUR[2:3], z=-16))
    table = detection(gather([compare("a", "a", truth, found)]), GRADING)
    assert (table.precision, table.localization_mm.mean) == (Share(0, 1), pytest.approx(16.0))


def test_in_plane_distance_leaves_out_the_side():
    table = detection(gather([compare("a", "a", truth_of(FOUR), found_of(moved(FOUR, 3.0, 0.6, -0.8)))]), GRADING)
    assert table.localization_mm.mean == pytest.approx(np.sqrt(10.0))
    assert table.in_plane_mm.mean == pytest.approx(1.0, abs=1e-6)
    assert table.keypoint_mm == Spread(pytest.approx(1.0, abs=1e-6), pytest.approx(0.0, abs=1e-6), 24)


def test_a_refused_study_counts_as_missed_altogether():
    seen = compare("a", "a", truth_of(FOUR), found_of(FOUR))
    refused = compare("b", "b", truth_of(FOUR), NOTHING_FOUND)
    table = detection(gather([seen, refused]), GRADING)
    assert (table.recall, table.recall_moderate, table.precision) == (Share(4, 8), Share(1, 2), Share(4, 4))


def test_table_2_by_hand():
    """True 0.70 0.75 0.85 0.90 against 0.73 0.85 0.78 0.95: at 0.8 one of two cases, one of two normals right."""
    true_g, g = np.array([0.70, 0.75, 0.85, 0.90]), np.array([0.73, 0.85, 0.78, 0.95])
    mild = classification(true_g, g, 0.80, "vertebra")
    assert (mild.sensitivity, mild.specificity) == (Share(1, 2), Share(1, 2))
    assert mild.auc == 0.75  # pairs (case, normal) in the right order: 3 of 4
    moderate = classification(true_g, g, 0.74, "vertebra")
    assert (moderate.sensitivity, moderate.specificity, moderate.auc) == (Share(1, 1), Share(3, 3), 1.0)


def test_both_bounds_are_inclusive_on_both_sides():
    on_bound = np.array([18.5 / 25, 0.9])
    result = classification(on_bound, on_bound, 0.74, "vertebra")
    assert (result.sensitivity, result.specificity) == (Share(1, 1), Share(1, 1))


def test_one_class_has_no_auc_and_no_sensitivity():
    result = classification(np.array([0.9, 0.95]), np.array([0.9, 0.7]), 0.74, "patient")
    assert (result.auc, result.sensitivity.value, result.specificity) == (None, None, Share(1, 2))
    assert classification(np.zeros(0), np.zeros(0), 0.74, "patient").auc is None


def test_a_patient_is_the_smallest_g_over_all_studies():
    normal = column([NORMAL] * 4)
    comparisons = [
        compare("a1", "pt1", truth_of(normal), found_of(normal)),
        compare("a2", "pt1", truth_of(FOUR), found_of(FOUR)),
        compare("b", "pt2", truth_of(normal), found_of(FOUR)),
        compare("c", "pt3", truth_of(FOUR), NOTHING_FOUND),
    ]
    patient = {(one.unit, one.bound): one for one in classifications(gather(comparisons), GRADING)}[("patient", 0.74)]
    assert (patient.sensitivity, patient.specificity) == (Share(1, 1), Share(0, 1))


def test_strict_calls_normal_what_was_not_found():
    comparisons = [
        compare("a", "a", truth_of(FOUR), found_of(FOUR[[0, 2, 3]]), strict=strict) for strict in (False, True)
    ]
    lenient, strict = (classifications(gather([one]), GRADING) for one in comparisons)
    by_name = [{(one.unit, one.bound): one for one in table} for table in (lenient, strict)]
    assert by_name[0][("vertebra", 0.74)].sensitivity == Share(0, 0)
    assert by_name[1][("vertebra", 0.74)].sensitivity == Share(0, 1)
    assert by_name[1][("vertebra", 0.74)].auc == 0.5  # the missed wedge ties with the normals at G = 1
    gone = classifications(gather([compare("b", "b", truth_of(FOUR), NOTHING_FOUND, strict=True)]), GRADING)
    assert [one.sensitivity for one in gone] == [Share(0, 1)] * 4


def test_a_vertebra_outside_the_annotation_is_not_a_patient_s_fracture_unless_strict():
    truth, found = truth_of(FOUR[2:]), found_of(FOUR)
    for strict, specificity in ((False, Share(1, 1)), (True, Share(0, 1))):
        table = classifications(gather([compare("a", "a", truth, found, strict)]), GRADING)
        assert {one.specificity for one in table if one.unit == "patient"} == {specificity}


def test_errors_by_hand():
    """Anterior heights read 1 mm too large at one and 0.5 too small at another vertebra."""
    found = column([(25.0, 24, 24), (17.5, 25, 25), NORMAL, NORMAL])
    by_name = errors(gather([compare("a", "a", truth_of(FOUR), found_of(found))]))
    assert (by_name["ha_mm"].bias, by_name["ha_mm"].mae) == (pytest.approx(0.125), pytest.approx(0.375))
    assert by_name["ha_mm"].sd == pytest.approx(np.std([1, -0.5, 0, 0], ddof=1))
    assert by_name["hp_mm"].mae == pytest.approx(0.0)
    assert (by_name["heights_mm"].n, by_name["heights_mm"].mae) == (12, pytest.approx(0.125))
    assert by_name["g"].mae == pytest.approx((1 - 24 / 25 + 0.72 - 0.70) / 4)


def test_heights_that_were_not_published_are_no_error():
    found = found_of(FOUR, [True, False, True, True])
    assert errors(gather([compare("a", "a", truth_of(FOUR), found)]))["g"].n == 3


def test_nothing_is_not_zero():
    assert spread(np.zeros(0)) == Spread(None, None, 0)
    assert error(np.zeros(0)).mae is None
    table = detection(gather([]), GRADING)
    assert (table.recall.value, table.precision.value, table.localization_mm.mean) == (None, None, None)
