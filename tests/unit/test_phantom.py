"""The phantom's truth is exact, its fractures are what they are called, its scans show what they say."""

from dataclasses import replace

import numpy as np
import pytest

from vertebra_core.measure import measure_vertebrae
from vertebra_core.phantom.anatomy import random_patient
from vertebra_core.phantom.body import Body, Node, deform
from vertebra_core.phantom.patient import PatientOptions
from vertebra_core.phantom.scanner import VIEWS, axial_scan, random_scan, render, render_slices, truth_in_view

PLAIN = PatientOptions(ossification_probability=0.0)
SOUND = Body(20.0, 18.0, 21.0, 24.0, 25.0, 0.5, 1.1, 1.1)


@pytest.fixture(scope="module")
def patient():
    return random_patient(np.random.default_rng(4), replace(PLAIN, fracture_probability=1.0))


def _profiles(phantom, blur_mm: float, step: float):
    """HU along each height segment through its two ends: distance outward (mm), HU [k * 6, n]."""
    points = phantom.truth.points.reshape(-1, 2, 3)
    outward = points - points[:, ::-1]
    outward /= np.linalg.norm(outward, axis=-1, keepdims=True)
    s = np.arange(-0.6, 0.4, step)
    return s, phantom.hu(points[:, :, None] + s[:, None] * outward[:, :, None], blur_mm).reshape(-1, len(s))


@pytest.mark.parametrize("seed", [4, 17, 23])
def test_bone_ends_exactly_at_each_keypoint(seed):
    phantom = random_patient(np.random.default_rng(seed), replace(PLAIN, fracture_probability=1.0))
    s, hu = _profiles(phantom, 0.0, 0.01)
    shell = phantom.column.vertebrae[0].shell.shell_hu
    border = np.array([s[np.flatnonzero(row > 0.9 * shell).max()] for row in hu])
    assert np.abs(border).max() < 0.15
    assert np.abs(border).mean() < 0.02


def test_the_steepest_edge_of_a_blurred_border_lies_at_the_keypoint(patient):
    s, hu = _profiles(patient, 0.1, 0.02)
    near = np.abs(s) < 0.4
    edge = s[near][np.argmin(np.gradient(hu, axis=1)[:, near], axis=1)]
    assert np.abs(edge).max() < 0.15
    assert np.abs(edge).mean() < 0.06


def test_truth_runs_from_c3_down_with_finite_points(patient):
    truth = patient.truth
    assert truth.levels[:6] == ("C3", "C4", "C5", "C6", "C7", "T1")
    assert truth.points.shape == (len(truth.levels), 6, 3)
    assert np.isfinite(truth.points).all()
    assert truth.complete.all()
    assert (np.diff(truth.points.mean(1)[:, 2]) < 0).all()


def test_the_centre_line_passes_through_all_body_centres(patient):
    centres = patient.truth.points.mean(1)
    uvs = patient.centre_line.straight_from_patient(centres)
    assert np.hypot(uvs[:, 0], uvs[:, 1]).max() < 0.3
    assert (np.diff(uvs[:, 2]) > 0).all()


@pytest.mark.parametrize(("shape", "smallest"), [("wedge", 0), ("biconcave", 1), ("crush", 2)])
@pytest.mark.parametrize("g", [0.35, 0.55, 0.72, 0.79])
def test_a_deformity_has_the_index_and_the_smallest_height_asked_for(shape, smallest, g):
    points = deform(SOUND, shape, g).keypoints()[None]
    heights = np.linalg.norm(points[0, 0::2] - points[0, 1::2], axis=1)
    assert heights.min() / heights.max() == pytest.approx(g, abs=0.012)
    assert heights.argmin() == smallest


def test_an_unknown_deformity_is_refused():
    with pytest.raises(ValueError, match="wedge, biconcave or crush"):
        deform(SOUND, "burst", 0.5)


def test_a_node_counts_only_where_the_middle_keypoint_lies_in_it():
    apart = replace(SOUND, nodes=(Node(True, 0.0, 6.0, 5.0, 3.0),))
    central = replace(SOUND, nodes=(Node(True, 0.0, 0.0, 5.0, 3.0),))
    assert np.allclose(apart.keypoints(), SOUND.keypoints())
    assert SOUND.keypoints()[2, 2] - central.keypoints()[2, 2] == pytest.approx(3.0)


def test_asked_fractures_are_there_and_their_levels_are_named():
    options = replace(PLAIN, fracture_probability=1.0, min_g=0.35)
    low = []
    for seed in range(12):
        phantom = random_patient(np.random.default_rng(seed), options)
        h = np.linalg.norm(phantom.truth.points[:, 0::2] - phantom.truth.points[:, 1::2], axis=-1)
        g = dict(zip(phantom.truth.levels, h.min(1) / h.max(1), strict=True))
        assert phantom.column.fractures
        low += [g[level] for level, _ in phantom.column.fractures]
    assert max(low) < 0.83
    assert min(low) < 0.65


def test_without_fractures_all_vertebrae_are_normal():
    phantom = random_patient(np.random.default_rng(3), replace(PLAIN, fracture_probability=0.0))
    h = np.linalg.norm(phantom.truth.points[:, 0::2] - phantom.truth.points[:, 1::2], axis=-1)
    assert phantom.column.fractures == ()
    # A Schmorl node in the middle may still lower the middle height.
    assert np.quantile(h.min(1) / h.max(1), 0.15) > 0.78


def test_the_canal_is_free_of_bone(patient):
    for vertebra in patient.column.vertebrae:
        assert vertebra.arch is not None
        centre_v, half_u, half_v = vertebra.arch.canal
        angle = np.linspace(0, 2 * np.pi, 24)
        ring = np.stack([0.7 * half_u * np.cos(angle), centre_v + 0.7 * half_v * np.sin(angle), 0 * angle], 1)
        assert patient.hu(vertebra.pose.patient_from_own(ring)).max() < 120, vertebra.level


def test_young_bodies_are_denser_than_the_discs_between_them():
    young = random_patient(np.random.default_rng(2), replace(PLAIN, age_years=30.0, fracture_probability=0.0))
    inside = [v.pose.patient_from_own(np.array([0, -0.4 * v.body.half_depth, 0.0])) for v in young.column.vertebrae]
    bodies = young.hu(np.stack(inside))
    discs = young.hu(np.stack([d.pose.centre for d in young.column.discs]))
    assert np.quantile(bodies, 0.2) > np.quantile(discs, 0.9)


def test_the_same_seed_gives_the_same_voxels_and_another_seed_does_not():
    def scan(seed):
        phantom = random_patient(np.random.default_rng(seed))
        return render(
            phantom, axial_scan(np.array([-40, -40, -8]), np.array([80, 80, 12]), np.array([1.0, 1.0, 2.0]))
        ).hu

    first = scan(5)
    assert np.array_equal(first, scan(5))
    assert not np.array_equal(first, scan(6))
    assert first.dtype == np.int16


def test_rendering_by_slices_is_rendering(patient):
    scan = axial_scan(
        np.array([-40, -40, -8]), np.array([80, 80, 12]), np.array([1.0, 1.0, 3.0]), slice_thickness_mm=3.0
    )
    assert np.array_equal(np.stack(list(render_slices(patient, scan))), render(patient, scan).hu)


def test_noise_has_the_asked_deviation_and_a_thicker_slice_blurs_plates(patient):
    box = np.array([-8, -8, -20]), np.array([16, 16, 30]), np.array([1.0, 1.0, 1.0])
    quiet = axial_scan(*box, noise_hu=0.0, slice_thickness_mm=1.0)
    noisy = replace(quiet, noise_hu=20.0)
    difference = render(patient, noisy).hu.astype(float) - render(patient, quiet).hu
    assert difference.std() == pytest.approx(20.0, rel=0.1)
    thick = replace(quiet, slice_thickness_mm=5.0)
    assert render(patient, thick).hu.std() < 0.8 * render(patient, quiet).hu.std()


def test_padding_lies_outside_the_circle_only(patient):
    scan = axial_scan(
        np.array([-30, -30, 0]),
        np.array([60, 60, 2]),
        np.array([1.0, 1.0, 1.0]),
        circle=True,
        padding_hu=-2000,
        noise_hu=0,
    )
    hu = render(patient, scan).hu
    assert hu[0, 0, 0] == hu[0, -1, -1] == -2000
    assert hu[0, 20:40, 20:40].min() >= -1024


def test_vertebrae_cut_by_the_edge_are_incomplete_and_those_outside_are_left_out(patient):
    by_level = dict(zip(patient.truth.levels, patient.truth.points, strict=True))
    top, bottom = by_level["T6"][:, 2].mean(), by_level["T9"][:, 2].min() - 3
    scan = axial_scan(np.array([-60, -60, bottom]), np.array([120, 120, top - bottom]), np.array([1.0, 1.0, 1.0]))
    seen = truth_in_view(patient, scan)
    complete = dict(zip(seen.levels, seen.complete, strict=True))
    assert not complete["T6"]
    assert complete["T7"]
    assert complete["T8"]
    assert complete["T9"]
    assert "T11" not in complete
    assert "T4" not in complete


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_scans_what_it_says(patient, view):
    scan = random_scan(np.random.default_rng(1), patient, view, (1.0, 1.0, 2.0))
    levels = truth_in_view(patient, scan).levels
    if view in ("head", "legs"):
        assert not levels
    else:
        assert len(levels) >= 5


def test_an_unknown_view_is_refused(patient):
    with pytest.raises(ValueError, match="chest"):
        random_scan(np.random.default_rng(1), patient, "foot")


def test_heights_measured_on_the_truth_are_the_bodys_own(patient):
    sizes = measure_vertebrae(patient.truth.points)
    own = [
        np.linalg.norm(v.body.keypoints()[0::2] - v.body.keypoints()[1::2], axis=1) for v in patient.column.vertebrae
    ]
    assert np.allclose(np.stack([sizes.ha_mm, sizes.hm_mm, sizes.hp_mm], 1), own, atol=1e-6)
