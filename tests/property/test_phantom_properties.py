"""Rules that hold for every phantom and every set of points."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vertebra_core.phantom.anatomy import random_patient
from vertebra_core.phantom.fields import cover
from vertebra_core.phantom.patient import PatientOptions

SEEDS = st.integers(0, 10_000)
LOWEST_HU, HIGHEST_HU = -1300.0, 4000.0


@settings(max_examples=6, deadline=None)
@given(seed=SEEDS, blur=st.sampled_from([0.0, 0.4, 1.2]))
def test_hu_is_finite_and_in_range_everywhere(seed, blur):
    rng = np.random.default_rng(seed)
    phantom = random_patient(rng)
    points = rng.uniform([-260, -260, -600], [260, 160, 420], (2000, 3))
    hu = phantom.hu(points, blur)
    assert hu.dtype == np.float32
    assert np.isfinite(hu).all()
    assert hu.min() > LOWEST_HU
    assert hu.max() < HIGHEST_HU


@settings(max_examples=4, deadline=None)
@given(seed=SEEDS, blur=st.sampled_from([0.0, 0.5, 2.5]))
def test_culling_changes_no_value(seed, blur):
    rng = np.random.default_rng(seed)
    phantom = random_patient(rng, PatientOptions(ossification_probability=0.5))
    # A tilted plane through the spine and beyond it: every kind of part is met.
    a, b = np.mgrid[-150:150:36j, -330:260:60j]
    points = np.stack([0.5 * a + 10, 0.6 * a - 10, b], -1)
    assert np.array_equal(phantom.hu(points, blur), phantom.hu(points, blur, cull=False))


@settings(max_examples=3, deadline=None)
@given(seed=SEEDS)
def test_a_point_has_one_hu_whatever_grid_it_is_part_of(seed):
    rng = np.random.default_rng(seed)
    phantom = random_patient(rng)
    line = phantom.centre_line
    s = np.linspace(0, line.length, 80)
    uvs = np.stack(np.broadcast_arrays(0.0, np.linspace(-45, 45, 50)[None], s[:, None]), -1)
    plane = line.patient_from_straight(uvs)
    on_plane = phantom.hu(plane, 0.5)
    order = rng.permutation(plane.size // 3)
    alone = np.empty(len(order), np.float32)
    alone[order] = phantom.hu(plane.reshape(-1, 3)[order], 0.5)
    assert np.array_equal(on_plane.ravel(), alone)
    # One axial slice goes through the short cut for a single z.
    z = np.float32(phantom.truth.points[8, 2, 2])
    x, y = (c.astype(np.float32) for c in np.mgrid[-60:60:40j, -80:60:40j])
    axial = np.stack([x, y, np.full_like(x, z)], -1)
    mixed = np.concatenate([axial.reshape(-1, 3), [[0.0, 0.0, float(z) + 1.0]]])
    assert np.array_equal(phantom.hu(axial, 0.5).ravel(), phantom.hu(mixed, 0.5)[:-1])


@given(depth=st.floats(-5, 5), blur=st.floats(0.05, 2.0))
def test_coverage_grows_with_depth_between_none_and_all(depth, blur):
    low, high = cover(np.array([depth, depth + 0.1], np.float32), blur)
    assert 0 <= low <= high <= 1
    assert cover(np.zeros(1, np.float32), blur)[0] == pytest.approx(0.5)


def test_coverage_has_the_asked_standard_deviation():
    depth = np.linspace(-3, 3, 6001).astype(np.float32)
    density = np.gradient(cover(depth, 0.7).astype(float), depth.astype(float))
    assert np.sqrt((density * depth**2).sum() / density.sum()) == pytest.approx(0.7, rel=0.01)
