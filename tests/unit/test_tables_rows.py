"""From the end of a study to rows."""

from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from made_studies import NORMAL, SERIES, WEDGE, column, outcome_of, result_of, truth_of

from vertebra_core.errors import Reason
from vertebra_core.evaluation.matching import truth_line
from vertebra_core.geometry import CentreLine
from vertebra_core.measure import measure_vertebrae
from vertebra_core.settings import GradingSettings
from vertebra_core.tables.angles import cobb_degrees, kyphosis_degrees
from vertebra_core.tables.columns import LEVELS
from vertebra_core.tables.outcome import Status
from vertebra_core.tables.rows import inventory_rows, outcome_rows, to_arrow

GRADING = GradingSettings()
LEVELS_OF_FOUR = ("T11", "T12", "L1", "L2")


def rows_of(heights, **parts) -> dict[str, list[dict]]:
    rows = outcome_rows(outcome_of(result=result_of(column(heights), **parts)), GRADING)
    return {name: to_arrow(name, some).to_pylist() for name, some in rows.items()}


def test_a_vertebra_row_holds_what_was_measured():
    row = rows_of([NORMAL, WEDGE])["vertebrae"][1]
    assert (row["vertebra_index"], row["ha_mm"], row["hm_mm"], row["hp_mm"]) == (1, 18.0, 25.0, 25.0)
    assert (row["g"], row["grade"], row["shape"]) == (0.72, "moderate", "wedge")
    assert (row["anterior_top_x_mm"], row["anterior_top_y_mm"], row["anterior_top_z_mm"]) == (0.0, -15.0, -21.0)
    assert row["depth_mm"] == pytest.approx(np.mean([np.hypot(30, 3.5)] * 2))
    assert row["curve_position_mm"] == pytest.approx(30 + 12)  # the line begins at the top of the first vertebra
    assert row["level"] is None
    assert row["level_confidence"] is None


def test_a_vertebra_cut_by_the_edge_has_no_heights():
    rows = rows_of([WEDGE, NORMAL, NORMAL], complete=[False, True, True])
    cut = rows["vertebrae"][0]
    assert {cut[name] for name in ("ha_mm", "hm_mm", "hp_mm", "g", "grade", "shape", "depth_mm")} == {None}
    assert (cut["flags"], cut["complete"], cut["anterior_top_y_mm"]) == ("cut_by_edge", False, -15.0)
    study = rows["studies"][0]
    assert (study["n_vertebrae"], study["n_incomplete"], study["min_g"], study["worst_grade"]) == (2, 1, 1.0, "normal")


def test_a_study_row_sums_up_its_vertebrae():
    study = rows_of([NORMAL, WEDGE, (20, 25, 25), (15, 25, 25)], levels=LEVELS_OF_FOUR)["studies"][0]
    assert (study["n_vertebrae"], study["level_first"], study["level_last"]) == (4, "T11", "L2")
    assert (study["min_g"], study["min_g_level"], study["min_g_vertebra_index"]) == (pytest.approx(0.6), "L2", 3)
    assert study["worst_grade"] == "severe"
    assert study["spinal_deformity_index"] == 0 + 2 + 1 + 3
    assert (study["age_years"], study["sex"], study["study_date"]) == (67.0, "F", date(2024, 3, 5))


def test_nothing_measured_is_null_and_not_normal():
    rows = rows_of([NORMAL], complete=[False])
    study = rows["studies"][0]
    assert study["n_vertebrae"] == 0
    assert {study[name] for name in ("min_g", "worst_grade", "spinal_deformity_index", "min_g_level")} == {None}


def test_a_refused_study_is_one_row_with_its_reason():
    rows = outcome_rows(outcome_of(reason=Reason.TOO_FEW_SLICES), GRADING)
    assert (rows["vertebrae"], rows["levels_in_view"]) == ([], [])
    study = to_arrow("studies", rows["studies"]).to_pylist()[0]
    assert (study["status"], study["reason"]) == ("not_evaluable", "too_few_slices")
    assert study["reason_detail"] == "2 slices, at least 8 expected"
    assert (study["n_vertebrae"], study["min_g"], study["cobb_deg"]) == (0, None, None)


def test_every_reason_and_status_fits_the_table():
    rows = []
    for i, reason in enumerate(Reason):
        outcome = replace(outcome_of(f"st{i}", reason=reason), status=list(Status)[i % 4])
        rows += outcome_rows(outcome, GRADING)["studies"]
    assert to_arrow("studies", rows).num_rows == len(Reason)


def test_levels_in_view_hold_named_levels_only():
    rows = rows_of([NORMAL, WEDGE, NORMAL], levels=[None, "L1", "L2"], complete=[True, True, False])["levels_in_view"]
    assert [(row["level"], row["level_number"], row["complete"], row["grade"]) for row in rows] == [
        ("L1", 21, True, "moderate"),
        ("L2", 22, False, None),
    ]
    assert [LEVELS.index(name) + 1 for name in ("C1", "T1", "T13", "L1", "L6")] == [1, 8, 20, 21, 26]


def test_header_values_that_are_absent_stay_null():
    bare = replace(SERIES, age_years=None, sex=None, study_date=None, kernel=None, contrast=None)
    study = outcome_rows(outcome_of(result=result_of(column([NORMAL])), series=bare), GRADING)["studies"][0]
    row = to_arrow("studies", [study]).to_pylist()[0]
    assert {row[name] for name in ("age_years", "sex", "study_date", "kernel", "contrast", "site")} == {None}


def test_stage_times_and_their_sum():
    outcome = outcome_of(result=result_of(column([NORMAL])), seconds={"read": 1.0, "curve": 2.0, "keypoints": 0.5})
    study = outcome_rows(outcome, GRADING, site="007")["studies"][0]
    assert (study["seconds_read"], study["seconds_straighten"], study["seconds_total"]) == (1.0, None, 3.5)
    assert study["site"] == "007"


def test_no_identifier_reaches_a_row():
    marked = replace(
        SERIES, patient_id="PLANTED1", study_uid="9.9.9.1", series_uid="9.9.9.2", archive="/planted", path="planted/x"
    )
    marked = replace(marked, files=("planted/x/1.dcm",))
    rows = outcome_rows(outcome_of(result=result_of(column([NORMAL])), series=marked), GRADING)
    keys = {"series_key": "se1", "study_key": "st1", "patient_key": "pt1"}
    everything = repr([*rows.values(), inventory_rows([marked], lambda _: keys)]).lower()
    assert "planted" not in everything
    assert "9.9.9" not in everything


def test_inventory_rows_say_what_was_decided():
    left = replace(SERIES, decision=Reason.LOCALIZER, series_uid="1.2.3.9", decision_detail="1 sagittal image")
    names = iter(["se1", "se2"])
    keys = lambda series: {"series_key": next(names), "study_key": "st1", "patient_key": "pt1"}  # noqa: E731
    rows = to_arrow("inventory", inventory_rows([SERIES, left], keys)).to_pylist()
    assert [(row["decision"], row["reason"]) for row in rows] == [("measure", None), ("leave", "localizer")]
    assert (rows[0]["n_files"], rows[0]["image_type"]) == (2, "ORIGINAL\\PRIMARY\\AXIAL")


def test_cobb_is_zero_on_a_straight_spine_and_the_bend_on_an_arc():
    straight = column([NORMAL] * 6)
    assert cobb_degrees(truth_line(straight), straight.mean(1)) == pytest.approx(0.0, abs=1e-9)
    angles = np.radians(np.linspace(-28, 28, 15))  # an arc in the coronal plane, seen from -20 to 20 degrees
    arc = 300 * np.stack([np.cos(angles) - 1, 0 * angles, -np.sin(angles)], 1)
    assert cobb_degrees(CentreLine(arc), arc[2:13]) == pytest.approx(40.0, abs=0.1)
    assert cobb_degrees(CentreLine(arc), arc[2:5]) is None


def turned(six: np.ndarray, degrees: float) -> np.ndarray:
    """A vertebra turned about its left-right axis; positive lowers its front."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    centre = six.mean(0)
    return (six - centre) @ np.array([[1, 0, 0], [0, c, s], [0, -s, c]]) + centre


def test_kyphosis_is_the_angle_between_t4_and_t12():
    points = column([NORMAL] * 9)
    levels = [f"T{i}" for i in range(4, 13)]
    points[0], points[-1] = turned(points[0], 23), turned(points[-1], -10)
    whole = np.ones(9, bool)
    assert kyphosis_degrees(points, whole, levels) == pytest.approx(33.0)
    assert kyphosis_degrees(points, whole, [None, *levels[1:]]) is None
    assert kyphosis_degrees(points, ~np.eye(9, dtype=bool)[0], levels) is None


def test_heights_of_rows_are_those_of_the_keypoints():
    points = column([NORMAL, WEDGE])
    sizes = measure_vertebrae(truth_of(points).points)
    rows = rows_of([NORMAL, WEDGE])["vertebrae"]
    assert [row["ha_mm"] for row in rows] == sizes.ha_mm.tolist()
