"""The centre line and its two maps: exact inverses, true millimetres, no twist; on every shape of spine."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from vertebra_core.geometry import POSTERIOR, CentreLine, apply_affine, parallel_transport

EXACT_MM = 1e-6
SEEDS = st.integers(0, 2**32 - 1)


def wave(length, spacing, side, front, periods=(400.0, 300.0), phases=(0.3, 1.1)) -> CentreLine:
    """A spine that swings `side` mm to left and right and `front` mm to front and back, points `spacing` mm apart."""
    z = -np.linspace(0.0, length, max(4, round(length / spacing) + 1))
    x = side * np.sin(2 * np.pi * z / periods[0] + phases[0])
    y = front * np.sin(2 * np.pi * z / periods[1] + phases[1])
    return CentreLine(np.stack([x, y, z], 1))


@st.composite
def spines(draw) -> CentreLine:
    """Straight to strongly bent spines, 12 to 700 mm long, from points 2 to 35 mm apart."""
    bend = st.floats(0.0, 40.0)
    period, phase = st.floats(250.0, 700.0), st.floats(0.0, 6.3)
    return wave(
        draw(st.floats(12.0, 700.0)),
        draw(st.floats(2.0, 35.0)),
        draw(bend),
        draw(bend),
        (draw(period), draw(period)),
        (draw(phase), draw(phase)),
    )


STRAIGHT = wave(300.0, 20.0, 0.0, 0.0)
S_SHAPED = wave(450.0, 20.0, 25.0, 30.0)
SHORT = wave(12.0, 4.0, 0.0, 2.0)
LYING = CentreLine(np.stack([np.linspace(0, 100, 8), np.zeros(8), -np.linspace(0, 1, 8)], 1))
TO_THE_BACK = CentreLine(np.stack([np.zeros(8), np.linspace(0, 100, 8), np.zeros(8)], 1))
EVERY_KIND = pytest.mark.parametrize(
    "line", [STRAIGHT, S_SHAPED, SHORT, LYING, TO_THE_BACK], ids=["straight", "S", "short", "lying", "to the back"]
)


def tube(line: CentreLine, seed: int, n: int = 200) -> np.ndarray:
    """Random (u, v, s) where bodies and processes lie and 20 mm beyond both ends, within 0.9 of the least radius.

    In so thin a tube no two planes meet anywhere, so that every point has one foot on the line only.
    """
    rng = np.random.default_rng(seed)
    uvs = rng.uniform((-20.0, -48.0, -20.0), (20.0, 48.0, line.length + 20.0), (n, 3))
    bend = np.linalg.norm(line.curvature_vector(np.linspace(0.0, line.length, 500)), axis=1).max()
    return uvs[np.hypot(uvs[:, 0], uvs[:, 1]) * bend < 0.9]


@given(spines(), SEEDS)
@settings(max_examples=60, deadline=None)
def test_there_and_back_is_exact(line, seed):
    uvs = tube(line, seed)
    assert_allclose(line.straight_from_patient(line.patient_from_straight(uvs)), uvs, rtol=0, atol=EXACT_MM)


@given(spines(), SEEDS)
@settings(max_examples=60, deadline=None)
def test_back_and_there_is_exact(line, seed):
    points = line.patient_from_straight(tube(line, seed))
    assert_allclose(line.patient_from_straight(line.straight_from_patient(points)), points, rtol=0, atol=EXACT_MM)


@EVERY_KIND
def test_every_kind_of_line_maps_exactly_and_without_nan(line):
    uvs = tube(line, 7, 2000)
    points = line.patient_from_straight(uvs)
    assert np.isfinite(points).all()
    assert_allclose(line.straight_from_patient(points), uvs, rtol=0, atol=EXACT_MM)


@EVERY_KIND
def test_the_frame_is_orthonormal_and_exists_everywhere(line):
    """Left-handed, because s runs downward: left x posterior = up."""
    left, posterior, down = line.frame(np.linspace(-10.0, line.length + 10.0, 500))
    axes = np.stack([left, posterior, down], -1)
    assert_allclose(axes.transpose(0, 2, 1) @ axes, np.broadcast_to(np.eye(3), axes.shape), atol=1e-12)
    assert_allclose(np.linalg.det(axes), -1.0, atol=1e-12)


def test_on_a_straight_spine_the_frame_is_the_patients():
    left, posterior, down = STRAIGHT.frame(np.linspace(0.0, 300.0, 50))
    assert_allclose(left, np.broadcast_to([1.0, 0.0, 0.0], left.shape), atol=1e-12)
    assert_allclose(posterior, np.broadcast_to(POSTERIOR, posterior.shape), atol=1e-12)
    assert_allclose(down, np.broadcast_to([0.0, 0.0, -1.0], down.shape), atol=1e-12)


def test_on_a_straight_spine_the_maps_are_a_shift():
    points = np.array([[3.0, -20.0, -100.0], [0.0, 0.0, 0.0], [-5.0, 40.0, -310.0]])
    assert_allclose(STRAIGHT.straight_from_patient(points), points * [1.0, 1.0, -1.0], atol=1e-9)


@given(spines())
@settings(max_examples=60, deadline=None)
def test_a_millimetre_of_s_is_a_millimetre_of_the_line(line):
    s = np.linspace(0.0, line.length, 5001)
    steps = np.linalg.norm(np.diff(line.position(s), axis=0), axis=1)
    assert_allclose(steps, s[1], rtol=1e-4)


@given(spines())
@settings(max_examples=40, deadline=None)
def test_the_line_passes_through_its_points_and_begins_at_the_first(line):
    uvs = line.straight_from_patient(line.points)
    assert_allclose(uvs[:, :2], 0.0, atol=1e-9)
    assert_allclose(uvs[[0, -1], 2], [0.0, line.length], atol=1e-9)
    assert (np.diff(uvs[:, 2]) > 0).all()


@given(spines())
@settings(max_examples=40, deadline=None)
def test_posterior_is_posterior_on_average(line):
    """The one free turn of a transported frame is spent so that no other turn faces the patient's back better."""
    left, posterior, _ = line.frame(line._spline.x)
    assert abs((left @ POSTERIOR).sum()) < 0.01 * (posterior @ POSTERIOR).sum()


@given(spines())
@settings(max_examples=40, deadline=None)
def test_the_frame_does_not_twist_about_the_line(line):
    s = np.linspace(0.0, line.length, 2001)
    left, posterior, _ = line.frame(s)
    twist = (np.gradient(posterior, s, axis=0, edge_order=2) * left).sum(1)  # rad per mm
    assert np.abs(twist).max() * line.length < np.deg2rad(0.1)


def test_an_arc_is_mapped_as_an_arc():
    """Kyphosis of radius 150 mm in the sagittal plane, centre of curvature in front: a closed formula to compare."""
    radius = 150.0
    angle = np.linspace(-0.7, 0.7, 15)
    line = CentreLine(np.stack([np.zeros(15), radius * np.cos(angle), -radius * np.sin(angle)], 1))
    uvs = np.array([[5.0, -48.0, 40.0], [-8.0, 0.0, 105.0], [0.0, 45.0, 170.0]])
    at = -0.7 + uvs[:, 2] / radius
    away = radius + uvs[:, 1]
    expected = np.stack([uvs[:, 0], away * np.cos(at), -away * np.sin(at)], 1)
    assert_allclose(line.patient_from_straight(uvs), expected, atol=0.01)
    assert_allclose(line.curvature_vector(uvs[:, 2])[:, 1:] @ [1, 0], -np.cos(at) / radius, rtol=0.02)


def test_heights_along_an_arc_are_squeezed_in_front_so_sizes_are_taken_in_the_patient():
    angle = np.linspace(-0.7, 0.7, 15)
    line = CentreLine(np.stack([np.zeros(15), 150.0 * np.cos(angle), -150.0 * np.sin(angle)], 1))
    front, back = ([[0.0, v, 90.0], [0.0, v, 110.0]] for v in (-20.0, 20.0))
    real = [np.linalg.norm(np.diff(line.patient_from_straight(np.array(end)), axis=0)) for end in (front, back)]
    assert real[0] == pytest.approx(20.0 * 130 / 150, abs=0.05)
    assert real[1] == pytest.approx(20.0 * 170 / 150, abs=0.05)


def test_planes_that_cross_are_said_to_be_folded():
    angle = np.linspace(-0.7, 0.7, 15)
    line = CentreLine(np.stack([np.zeros(15), 60.0 * np.cos(angle), -60.0 * np.sin(angle)], 1))
    uvs = np.array([[0.0, -59.0, 40.0], [0.0, -61.0, 40.0], [0.0, 61.0, 40.0], [0.0, -500.0, -1.0]])
    assert line.unfolded(uvs).tolist() == [True, False, True, True]


@given(spines(), SEEDS)
@settings(max_examples=40, deadline=None)
def test_a_point_where_planes_cross_is_never_given_a_place_that_is_not_its_foot(line, seed):
    """Far from the line the nearest foot is found or NaN is said; a number is never silently off."""
    rng = np.random.default_rng(seed)
    points = line.position(rng.uniform(0, line.length, 100)) + rng.uniform(-150, 150, (100, 3))
    uvs = line.straight_from_patient(points)
    found = np.isfinite(uvs).all(1)
    assert np.isfinite(uvs).any(1)[~found].sum() == 0
    assert_allclose(line.patient_from_straight(uvs[found]), points[found], rtol=0, atol=1e-5)


def test_where_no_foot_is_found_nan_is_said_and_never_a_wrong_place():
    """A line with a kink no spine has (radius 0.1 mm), where Newton's method jumps to and fro."""
    kinked = [[13.2, -31.7, -8.5], [34.7, -21.4, -34.6], [26.1, -29.5, -26.8], [24.0, -41.6, -66.9]]
    line = CentreLine(np.array([*kinked, [21.4, -29.9, -100.2], [13.3, -46.9, -122.9], [17.9, -53.3, -153.5]]))
    points = line.position(np.linspace(0.0, line.length, 3001)) + np.array([45.0, 30.0, 10.0])
    uvs = line.straight_from_patient(points)
    lost = np.isnan(uvs).all(1)
    assert 0 < lost.sum() < 300
    assert_allclose(line.patient_from_straight(uvs[~lost]), points[~lost], rtol=0, atol=1e-5)


@given(spines(), SEEDS, st.floats(-180, 180), st.floats(-40, 40))
@settings(max_examples=30, deadline=None)
def test_a_patient_shifted_on_the_table_has_the_same_straightened_points(line, seed, along, across):
    uvs = tube(line, seed, 20)
    shift = np.array([across, across / 2, along])
    moved = CentreLine(line.points + shift)
    assert_allclose(moved.patient_from_straight(uvs), line.patient_from_straight(uvs) + shift, atol=1e-6)


@given(spines(), SEEDS)
@settings(max_examples=30, deadline=None)
def test_a_mirrored_patient_has_mirrored_straightened_points(line, seed):
    mirror = np.array([-1.0, 1.0, 1.0])
    uvs = tube(line, seed, 20)
    mirrored = CentreLine(line.points * mirror).patient_from_straight(uvs * mirror)
    assert_allclose(mirrored, line.patient_from_straight(uvs) * mirror, atol=1e-6)


def rotated(vector, axis, angle):
    """Rodrigues' formula, the slow plain reference of one step of the transport."""
    return (
        vector * np.cos(angle) + np.cross(axis, vector) * np.sin(angle) + axis * (axis @ vector) * (1 - np.cos(angle))
    )


@given(SEEDS)
@settings(max_examples=50, deadline=None)
def test_transport_is_the_smallest_rotation_from_tangent_to_tangent(seed):
    rng = np.random.default_rng(seed)
    tangents = np.cumsum(rng.normal(0, 0.3, (12, 3)), 0) - np.array([0.0, 0.0, 4.0])
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
    start = rng.normal(size=3)
    assume(np.linalg.norm(np.cross(start, tangents[0])) > 0.1)
    carried = parallel_transport(tangents, start)
    expected = carried[0]
    for before, after, found in zip(tangents[:-1], tangents[1:], carried[1:], strict=True):
        axis = np.cross(before, after)
        angle = np.arctan2(np.linalg.norm(axis), before @ after)
        if angle > 0:
            expected = rotated(expected, axis / np.linalg.norm(axis), angle)
        assert_allclose(found, expected, atol=1e-10)


def test_transport_along_a_straight_line_changes_nothing():
    carried = parallel_transport(np.tile([0.0, 0.0, -1.0], (5, 1)), np.array([0.3, 1.0, 0.4]))
    assert_allclose(carried, np.broadcast_to(carried[0], (5, 3)), atol=1e-15)


@given(SEEDS)
def test_affines_of_many_shapes_are_applied_point_by_point(seed):
    rng = np.random.default_rng(seed)
    affine = np.vstack([rng.normal(size=(3, 4)), [0, 0, 0, 1]])
    points = rng.normal(size=(2, 5, 3))
    slow = [[(affine @ [*point, 1.0])[:3] for point in row] for row in points]
    assert_allclose(apply_affine(affine, points), slow, atol=1e-12)
    assert_allclose(apply_affine(affine, points[0, 0]), slow[0][0], atol=1e-12)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.zeros((3, 3)), "at least 4"),
        (np.arange(12.0).reshape(4, 3) * [1, 1, np.nan], "finite"),
        (np.array([[0, 0, 0], [0, 0, -1], [0, 0, -1], [0, 0, -2.0]]), "stand still"),
    ],
)
def test_a_line_that_is_none_is_refused(points, message):
    with pytest.raises(ValueError, match=message):
        CentreLine(points)


def test_points_that_are_no_numbers_have_no_place_and_harm_no_other():
    uvs = STRAIGHT.straight_from_patient(np.array([[np.nan, 0, 0], [1.0, 2.0, -3.0], [np.inf, 0, 0]]))
    assert np.isnan(uvs[[0, 2]]).all()
    assert_allclose(uvs[1], [1.0, 2.0, 3.0], atol=1e-9)


def test_no_points_give_no_points():
    assert STRAIGHT.straight_from_patient(np.zeros((0, 3))).shape == (0, 3)
    assert STRAIGHT.straight_from_patient(np.zeros((0, 6, 3))).shape == (0, 6, 3)
    assert STRAIGHT.patient_from_straight(np.zeros((0, 3))).shape == (0, 3)


def test_maps_keep_the_shape_of_what_they_are_given():
    uvs = tube(S_SHAPED, 1, 2000)[:120].reshape(20, 6, 3)
    points = S_SHAPED.patient_from_straight(uvs)
    assert points.shape == (20, 6, 3)
    assert_allclose(S_SHAPED.straight_from_patient(points), uvs, atol=EXACT_MM)
