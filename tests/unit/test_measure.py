"""Heights and G from keypoints (equation 1), and what is not measurable (case N6)."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from vertebra_core.measure import KEYPOINT_NAMES, POSTERIOR_BOTTOM, genant_index, measure_vertebrae
from vertebra_core.settings import GradingSettings, MeasureSettings
from vertebra_core.tables.grades import grade, shape

NAN = float("nan")


def body(ha, hm, hp, depth=30.0) -> np.ndarray:
    """Six keypoints [6, 3] of a body with these heights, standing upright at the origin."""
    points = [[0.0, y, z] for y, h in ((0, ha), (depth / 2, hm), (depth, hp)) for z in (h / 2, -h / 2)]
    return np.array(points)


@pytest.mark.parametrize(
    ("heights", "g", "grade_name", "form"),
    [
        ((25, 25, 18), 0.72, "moderate", "crush"),
        ((18, 25, 25), 0.72, "moderate", "wedge"),
        ((25, 18, 25), 0.72, "moderate", "biconcave"),
        ((25, 25, 25), 1.0, "normal", None),
        ((0, 25, 25), NAN, None, None),
        ((NAN, 25, 25), NAN, None, None),
        ((20, 25, 25), 0.80, "mild", "wedge"),
        ((18.5, 25, 25), 0.74, "moderate", "wedge"),
        ((15, 25, 25), 0.60, "severe", "wedge"),
    ],
)
def test_which_g(heights, g, grade_name, form):
    """min/max of three heights, bounds inclusive, no rounding before grading (case N6)."""
    sizes = measure_vertebrae(body(*heights)[None])
    assert_allclose(sizes.g, [g], rtol=1e-12)
    grading = GradingSettings()
    assert grade(float(sizes.g[0]), grading) == grade_name
    assert shape(float(sizes.ha_mm[0]), float(sizes.hm_mm[0]), float(sizes.hp_mm[0]), grade_name) == form


@given(st.floats(10, 40), st.sampled_from([0.80, 0.74, 0.60]), st.integers(0, 2), st.integers(0, 2**32 - 1))
def test_a_vertebra_exactly_on_a_bound_has_its_grade_wherever_it_lies(tallest, bound, which, seed):
    """Floating error of coordinates does not lift a vertebra over an inclusive bound."""
    heights = [tallest] * 3
    heights[which] = tallest * bound
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    points = body(*heights) @ turn + rng.uniform(-500, 500, 3)
    g = float(measure_vertebrae(points[None]).g[0])
    expected = {0.80: "mild", 0.74: "moderate", 0.60: "severe"}[bound]
    assert grade(g, GradingSettings()) == expected


@given(st.lists(st.floats(1, 60), min_size=3, max_size=3), st.integers(0, 2**32 - 1))
def test_sizes_do_not_change_when_a_patient_is_turned_or_moved(heights, seed):
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    moved = measure_vertebrae((body(*heights) @ turn + rng.uniform(-900, 900, 3))[None])
    still = measure_vertebrae(body(*heights)[None])
    for name in ("ha_mm", "hm_mm", "hp_mm", "g", "depth_mm"):
        assert_allclose(getattr(moved, name), getattr(still, name), rtol=1e-9)


@given(st.lists(st.floats(1, 60), min_size=3, max_size=3), st.floats(0.1, 10))
def test_g_does_not_depend_on_size_and_lies_in_its_range(heights, scale):
    g = genant_index(np.array(heights))
    assert 0 < g <= 1
    assert_allclose(genant_index(np.array(heights) * scale), g)
    assert_allclose(genant_index(np.array(heights[::-1])), g)


def test_each_height_belongs_to_its_keypoints():
    sizes = measure_vertebrae(body(18, 21, 25)[None])
    assert_allclose([sizes.ha_mm[0], sizes.hm_mm[0], sizes.hp_mm[0]], [18, 21, 25])
    assert KEYPOINT_NAMES[POSTERIOR_BOTTOM] == "posterior_bottom"
    assert len(KEYPOINT_NAMES) == 6


def test_depth_is_the_mean_length_of_the_endplates():
    points = body(20, 20, 20)
    points[4, 1] += 4.0  # the upper endplate 4 mm longer, horizontal
    assert_allclose(measure_vertebrae(points[None]).depth_mm, [32.0])


@pytest.mark.parametrize("bad", [0.0, -3.0, NAN, float("inf")])
def test_one_unusable_height_leaves_no_index_and_harms_no_other_vertebra(bad):
    g = genant_index(np.array([[20.0, 25.0, 25.0], [bad, 25.0, 25.0], [25.0, 25.0, bad], [25.0, 25.0, 20.0]]))
    assert_array_equal(np.isnan(g), [False, True, True, False])
    assert_allclose(g[[0, 3]], 0.8)


def test_no_vertebrae_have_no_sizes():
    sizes = measure_vertebrae(np.zeros((0, 6, 3)))
    assert all(len(getattr(sizes, name)) == 0 for name in ("ha_mm", "hm_mm", "hp_mm", "g", "depth_mm"))


def test_standard_errors_are_shares_of_the_heights_times_their_calibration():
    errors = np.array([[0.01, 0.02, 0.03, 0.004]])
    sizes = measure_vertebrae(body(20, 18, 22)[None], errors, 1.0, MeasureSettings(2.0, 3.0))
    assert_allclose([sizes.ha_se_mm[0], sizes.hm_se_mm[0], sizes.hp_se_mm[0]], [0.4, 0.72, 1.32])
    assert_allclose(sizes.g_se, [0.012])
    assert np.isnan(measure_vertebrae(body(20, 18, 22)[None]).g_se).all()
    # Slices of 4.6 mm, 3 mm above sharp ones: 0.1 mm and 0.003 for each.
    blurred = measure_vertebrae(body(20, 18, 22)[None], errors, 4.6, MeasureSettings(2.0, 3.0, 1.6, 0.1, 0.003))
    assert_allclose(blurred.ha_se_mm, [0.5])
    assert_allclose(blurred.g_se, [0.015])
