"""The accuracy studies: marching through masks against hand numbers, bars, rows, and seeds that no training uses."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.accuracy.mask_way import (
    GRID_MM,
    STEP_COLUMNS,
    STEPS_MM,
    body_mask,
    by_masks,
    errors_of,
    march,
    mask_heights,
    slice_heights,
    stepped_points,
)
from benchmarks.accuracy.phantoms import HELD_OUT_SEED, Bar, held_out, narrowed
from benchmarks.accuracy.records import comparison, kept, measured
from benchmarks.accuracy.robustness import ROWS, failures, line
from vertebra_core.measure import measure_vertebrae
from vertebra_core.phantom.anatomy import random_patient
from vertebra_core.phantom.patient import PLAIN
from vertebra_core.phantom.scanner import axial_scan
from vertebra_core.truth import Truth
from vertebra_core.volume import Volume

UP = np.array([0.0, 1.0])
UPWARD = np.array([0.0, 0.0, 1.0])


def box(high: int = 16) -> np.ndarray:
    """A section [y, z] of a mask: 20 voxels deep, ``high`` voxels high."""
    section = np.zeros((40, 40), bool)
    section[10:30, 12 : 12 + high] = True
    return section


def test_a_ray_counts_whole_voxels_up_and_down():
    assert march(box(), np.array([20.0, 15.0]), UP) == 16 * GRID_MM
    assert march(box(), np.array([5.0, 15.0]), UP) == 0.0
    assert march(np.ones((3, 3), bool), np.array([1.0, 1.0]), UP) == 3 * GRID_MM


def test_a_wedge_is_lower_in_front_by_what_its_voxels_say():
    section = np.zeros((40, 40), bool)
    for y in range(20):  # from 10 voxels in front to 19.5 behind
        section[10 + y, 10 : 20 + round(y / 2 + 1e-9)] = True
    front, middle, back = slice_heights(section, UP) / GRID_MM
    # 15, 50 and 85 % of a depth of 19 steps: y = 3, 9 or 10, and 16 behind the front.
    assert (front, back) == (12.0, 18.0)
    assert middle in (14.0, 15.0)


def test_heights_follow_a_leaning_axis():
    lean = np.deg2rad(20)
    up = np.array([-np.sin(lean), np.cos(lean)])
    y, z = np.mgrid[:60, :60] - 30.0
    along, across = y * up[0] + z * up[1], y * up[1] - z * up[0]
    heights = slice_heights((np.abs(along) <= 8) & (np.abs(across) <= 10), up)
    assert heights == pytest.approx(16 * GRID_MM, abs=GRID_MM)


def test_the_slice_of_the_largest_spread_is_kept():
    mask = np.zeros((40, 40, 40), bool)
    mask[5:35, 10:30, 12:28] = True
    assert mask_heights(mask, UPWARD).tolist() == [24.0, 24.0, 24.0]
    mask[19:23, 10:15, 24:28] = False  # a dent of 6 mm in front, in the middle only
    assert mask_heights(mask, UPWARD).tolist() == [18.0, 24.0, 24.0]
    assert np.isnan(mask_heights(np.zeros((4, 4, 4), bool), UPWARD)).all()


def test_masks_of_a_phantom_are_as_large_as_its_bodies():
    phantom = random_patient(np.random.default_rng(3), PLAIN)
    vertebra = next(v for v in phantom.column.vertebrae if v.level == "L2")
    b = vertebra.body
    volume = body_mask(vertebra).sum() * GRID_MM**3
    assert volume == pytest.approx(0.8 * 4 * b.half_width * b.half_depth * (b.ha + b.hm + b.hp) / 3, rel=0.15)
    heights = by_masks(phantom)["L2"]
    true = measure_vertebrae(vertebra.keypoints[None])
    assert np.abs(heights - [true.ha_mm[0], true.hm_mm[0], true.hp_mm[0]]).max() < 3.5
    assert np.allclose(heights % GRID_MM, 0)


def test_errors_by_hand():
    true = np.array([[25.0, 25.0, 25.0], [20.0, 25.0, 25.0], [25.0, 25.0, 25.0]])
    found = np.array([[26.0, 25.0, 25.0], [20.0, 25.0, 25.0], [25.0, 25.0, 18.0]])
    figures = errors_of(true, np.vstack([found[:2], found[2:]]))
    assert figures["ha bias"] == pytest.approx(1 / 3)
    assert figures["hp bias"] == pytest.approx(-7 / 3)
    assert figures["g bias"] == pytest.approx((25 / 26 - 1 + 0 + 18 / 25 - 1) / 3)
    assert (figures["intact"], figures["intact called fractured"]) == (2, 0.5)


def test_the_stepped_columns_hold_every_height_once():
    columns = [measure_vertebrae(stepped_points(j, np.random.default_rng(j))) for j in range(STEP_COLUMNS)]
    heights = np.concatenate([sizes.ha_mm for sizes in columns])
    assert np.allclose(np.sort(heights), STEPS_MM)
    assert len(STEPS_MM) == 101
    assert np.concatenate([sizes.g for sizes in columns]) == pytest.approx(0.93)


def test_held_out_phantoms_are_drawn_alike_twice_and_not_as_training_draws():
    phantom, scan = held_out(4)
    again, other = held_out(4), held_out(5)
    assert np.array_equal(phantom.truth.points, again[0].truth.points)
    assert scan.shape == again[1].shape
    assert not np.array_equal(phantom.truth.points[0], other[0].truth.points[0])
    assert HELD_OUT_SEED[1] != 1000
    # As training draws: by its seed, 1000 and a number.
    trained = [random_patient(np.random.default_rng([seed, 1000, 4])).truth.points[0] for seed in (0, 20)]
    assert not any(np.allclose(phantom.truth.points[0], one) for one in trained)


def test_a_narrow_field_keeps_the_back():
    scan = axial_scan(np.array([-200.0, -200, 0]), np.array([400, 400, 4]), np.array([1.0, 1, 2]))
    narrow = narrowed(scan, 300.0)
    assert narrow.shape == (2, 300, 300)
    assert narrow.patient_from_voxel[:3, 3].tolist() == [-150.0, -100.0, 0.0]
    assert narrowed(scan, 999.0).shape == scan.shape


@pytest.mark.parametrize(
    ("value", "bound", "lower", "met"), [(0.5, 0.6, True, True), (0.5, 0.6, False, False), (None, 0.6, True, False)]
)
def test_a_bar_is_met_or_not(value, bound, lower, met):
    bar = Bar("x", value, bound, lower)
    assert bar.met is met
    assert ("not reached" in bar.row()) is not met


def record(shift_mm: float = 0.0, reason: str | None = None) -> dict:
    """What a study of three vertebrae would leave, read too high by ``shift_mm``."""
    points = np.zeros((3, 6, 3))
    points[..., 1] = [-15, -15, 0, 0, 15, 15]
    points[..., 2] = np.array([12, -12] * 3) - 30.0 * np.arange(3)[:, None]
    heights = np.full((3, 3), 24.0 + shift_mm)
    marked = [{"level": f"T{k + 7}", "complete": True, "keypoints": six.tolist()} for k, six in enumerate(points)]
    found = points[: 0 if reason else 3]
    return {
        "truth": {"vertebrae": marked}, "spacing_mm": 1.0, "reason": reason, "points": found.tolist(),
        "complete": [True] * len(found), "heights": heights[: len(found)].tolist(), "g": [1.0] * len(found),
        "levels": [], "standard_errors": None,
    }  # fmt: skip


def test_a_record_is_compared_with_its_truth_and_a_refused_one_misses_all():
    one = comparison("a", record(0.5))
    assert len(one.matching.pairs) == 3
    refused = line(ROWS[0], [record(0.5), record(reason="no spine")])
    assert refused["recall"] == 0.5
    assert refused["height_mae_mm"] == pytest.approx(0.5)
    assert refused["fails"] == ["recall", "refused"]
    assert failures({"recall": 0.99, "precision": 1.0, "refused": 0.0}) == []


def test_a_record_is_made_once(tmp_path):
    made = []
    for _ in range(2):
        assert kept(tmp_path / "a" / "0.json", lambda: made.append(1) or {"n": 1}) == {"n": 1}
    assert made == [1]


def test_air_is_refused_and_recorded_so():
    from vertebra_core.models import load_models

    air = Volume(np.full((40, 40, 40), -1000, np.int16), np.diag([3.0, 3, 3, 1]))
    truth = Truth("", "phantom", np.zeros((0, 6, 3)), np.zeros(0, bool), ())
    assert measured(air, truth, load_models())["reason"]


def test_every_row_of_the_table_can_be_drawn():
    assert len({row.name for row in ROWS}) == len(ROWS)
    for row in ROWS:
        assert replace(PLAIN, **row.options) is not None
