"""Each disease, device and scanner setting can be switched alone, does what it says, and moves no keypoint."""

from dataclasses import replace

import numpy as np
import pytest

from vertebra_core.geometry import apply_affine
from vertebra_core.phantom.anatomy import random_patient
from vertebra_core.phantom.implants import InBody
from vertebra_core.phantom.patient import PLAIN, PatientOptions
from vertebra_core.phantom.scanner import axial_scan, metal_streaks, random_scan, shoulder_streaks, tilted

SEED = 21
FEATURES = {
    "sparse bone": {"density_hu": 20.0, "cortex_mm": 0.15}, "dense bone": {"density_hu": 480.0},
    "vacuum": {"vacuum_probability": 1.0}, "dense plates": {"sclerosis_probability": 1.0},
    "ossification": {"ossification_probability": 1.0, "ossification_mm": 5.0},
    "metastases": {"metastasis_probability": 1.0}, "cement": {"cement_probability": 1.0},
    "screws": {"screw_probability": 1.0}, "devices": {"device_probability": 1.0},
}  # fmt: skip


def patient(**options):
    return random_patient(np.random.default_rng(SEED), replace(PLAIN, **options))


@pytest.fixture(scope="module")
def plain():
    return patient()


@pytest.mark.parametrize("name", FEATURES)
def test_a_feature_moves_no_keypoint(plain, name):
    assert np.array_equal(patient(**FEATURES[name]).truth.points, plain.truth.points)


def middles(phantom, ahead: float = -0.35):
    return np.stack([v.pose.patient_from_own(np.array([0, ahead * 2 * v.body.half_depth, 0])) for v in bodies(phantom)])


def bodies(phantom):
    return [v for v in phantom.column.vertebrae if v.level[0] != "C"]


def test_bone_is_as_dense_as_asked():
    sparse, dense = (patient(density_hu=hu).hu(middles(patient())).mean() for hu in (20.0, 480.0))
    # Trabecular bone of the chest is 1.2 times that of the loins: 12 and 5 bodies.
    assert dense - sparse == pytest.approx(460.0 * (12 * 1.2 + 5) / 17, abs=1.0)


def test_a_thin_cortex_is_thin():
    assert {v.shell.shell_mm for v in patient(cortex_mm=0.15).column.all} == {0.15}
    sparse = [random_patient(np.random.default_rng(s), PatientOptions(density_hu=30.0)) for s in range(6)]
    dense = [random_patient(np.random.default_rng(s), PatientOptions(density_hu=200.0)) for s in range(6)]
    assert all(a.person.cortex_mm < b.person.cortex_mm for a, b in zip(sparse, dense, strict=True))


def test_vacuum_discs_hold_gas_and_others_do_not(plain):
    places = np.stack([d.pose.centre for d in plain.column.discs[5:]])
    assert (patient(vacuum_probability=1.0).hu(places) < -90).all()
    assert (plain.hu(places) > 0).all()


def test_dense_plates_are_denser_right_under_the_plates(plain):
    under = np.concatenate([v.keypoints[[2, 3]] for v in bodies(plain)])
    inward = np.stack([v.pose.rotation[:, 2] for v in bodies(plain) for _ in range(2)])
    inward *= np.tile([[-2.0], [2.0]], (len(bodies(plain)), 1))
    change = patient(sclerosis_probability=1.0).hu(under + inward) - plain.hu(under + inward)
    assert 40 < change.mean() < 260


def test_flowing_bone_hugs_the_front_corners_over_several_levels(plain):
    ossified = patient(**FEATURES["ossification"])
    corner = np.stack([v.keypoints[1] for v in bodies(plain)])
    ahead = np.stack([-v.pose.rotation[:, 1] for v in bodies(plain)])
    covered = np.zeros(len(corner))
    for step in np.arange(1.5, 7.0, 0.5):
        covered += (ossified.hu(corner + step * ahead, 0.3) > 130) & (plain.hu(corner + step * ahead, 0.3) < 130)
    assert (covered * 0.5 >= 2.0).sum() >= 3


@pytest.mark.parametrize("feature", ["metastases", "cement"])
def test_lumps_lie_inside_bodies_and_leave_their_shell(plain, feature):
    ill = patient(**FEATURES[feature])
    lumps = [part for part in ill.bones.items if isinstance(part, InBody)]
    assert lumps
    change = np.array([ill.hu(lump.part.centre[None]) - plain.hu(lump.part.centre[None]) for lump in lumps])
    assert np.abs(change).max() > 60
    assert np.abs(ill.hu(ill.truth.points) - plain.hu(plain.truth.points)).max() < 1e-3


def test_screws_pass_the_pedicles_and_spare_the_canal(plain):
    fixed = patient(**FEATURES["screws"])
    assert fixed.metal.shape[1:] == (2, 3)
    places = fixed.metal.mean(1)
    assert (fixed.hu(places) == 3500).all()
    assert (plain.hu(places) < 3071).all()
    for v in bodies(fixed):
        assert v.arch is not None
        centre = v.pose.patient_from_own(np.array([0.0, v.arch.canal[0], 0.0]))
        assert fixed.hu(centre[None])[0] < 120


def test_devices_are_outside_the_spine(plain):
    with_devices = patient(**FEATURES["devices"])
    added = len(with_devices.bones.items) - len(plain.bones.items)
    assert added > 10
    assert np.array_equal(with_devices.hu(plain.truth.points), plain.hu(plain.truth.points))


@pytest.mark.parametrize("gas", [0.0, 1.0])
def test_bowel_holds_as_much_gas_as_asked(gas):
    loops = [
        getattr(p, "filling", None).hu
        for p in patient(bowel_gas=gas).organs.items[-60:]
        if getattr(getattr(p, "filling", None), "wall_mm", 0) == 2.0 and p.filling.rough_hu == 0
    ]
    assert loops
    assert all((hu < -400) == bool(gas) for hu in loops)


def test_a_table_is_there_or_not():
    assert np.isnan(patient(table=False).torso.table_y)
    assert np.isfinite(patient(table=True).torso.table_y)


def box(**how):
    return axial_scan(np.array([-60.0, -90, -10]), np.array([120, 120, 8]), np.array([1.0, 1, 2]), **how)


def test_shoulder_streaks_are_long_sideways_and_end_with_the_shoulders():
    scan = box(shoulder_streak_hu=80.0, shoulder_z=(-20.0, 20.0))
    streaks = shoulder_streaks(scan, 3)
    assert isinstance(streaks, np.ndarray)
    along, across = (np.abs(np.diff(streaks, axis=axis)).mean() for axis in (1, 0))
    assert along < 0.3 * across
    assert shoulder_streaks(replace(scan, shoulder_z=(100.0, 160.0)), 3) == 0.0
    assert shoulder_streaks(box(), 3) == 0.0


def test_metal_streaks_start_at_metal_and_fade():
    scan = box(metal_streak_hu=200.0)
    rows, columns = np.mgrid[:120, :120].astype(float)
    in_slice = apply_affine(scan.patient_from_voxel, np.stack([columns, rows, 0 * rows], -1))
    metal = np.array([[[0.0, -30.0, -30.0], [0.0, -30.0, 30.0]]])
    streaks = metal_streaks(metal, scan, in_slice, 2)
    assert isinstance(streaks, np.ndarray)
    away = np.hypot(in_slice[..., 0], in_slice[..., 1] + 30.0)
    near, far = (streaks[(away > low) & (away < low + 8)].std() for low in (6.0, 50.0))
    assert near > 5 * far
    assert metal_streaks(metal + np.array([0, 0, 200.0]), scan, in_slice, 2) == 0.0


def test_a_tilted_gantry_leans_the_slices_and_keeps_the_middle():
    scan = box()
    leaning = tilted(scan, 20.0)
    middle = (np.array(scan.shape[::-1]) - 1) / 2
    assert np.allclose(*(apply_affine(s.patient_from_voxel, middle) for s in (scan, leaning)))
    assert np.allclose(leaning.patient_from_voxel[:3, [0, 2]], scan.patient_from_voxel[:3, [0, 2]])
    column = leaning.patient_from_voxel[:3, 1] / leaning.spacing[1]
    assert np.degrees(np.arccos(column[1])) == pytest.approx(20.0)


def test_a_cone_is_twelve_centimetres_wide_and_round_and_a_whole_body_is_whole(plain):
    rng = np.random.default_rng(0)
    cone = random_scan(rng, plain, "cone", (1.0, 1.0, 2.0))
    assert cone.shape[1:] == (120, 120)
    assert cone.circle
    whole = random_scan(rng, plain, "whole", (2.0, 2.0, 5.0))
    assert whole.shape[0] * 5 > 900
