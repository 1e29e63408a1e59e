"""Straightening: planes sampled from the volume, registered with both maps, honest about where there is no image."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from vertebra_core.geometry import CentreLine, apply_affine
from vertebra_core.settings import StraightenSettings
from vertebra_core.straighten import sample_volume, straighten
from vertebra_core.volume import AIR_HU, Volume


def volume_of(function, shape_zyx=(60, 50, 40), spacing=(1.0, 1.2, 1.5), origin=(-20.0, -30.0, -70.0)) -> Volume:
    """A volume whose voxel at an LPS place has the value of a function of x, y, z."""
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = origin
    index = np.stack(np.meshgrid(*[np.arange(n) for n in shape_zyx[::-1]], indexing="ij"), -1)
    x, y, z = np.moveaxis(apply_affine(affine, index), -1, 0)
    return Volume(function(x, y, z).transpose(2, 1, 0).astype(np.float32), affine)


def linear(x, y, z):
    """Trilinear interpolation is exact on this, so that straightened planes can be compared with a formula."""
    return 3.0 * x - 2.0 * y + 5.0 * z + 40.0


CURVED = CentreLine(np.stack([6 * np.sin(np.arange(8) / 2), 8 * np.cos(np.arange(8) / 3), -10.0 * np.arange(8)], 1))
BOX = volume_of(linear, (120, 140, 120), (1.0, 1.0, 1.0), (-60.0, -70.0, -95.0))
LITTLE = StraightenSettings(pixel_mm=0.5, anterior_mm=20.0, posterior_mm=30.0, parallel_mm=(-3.0, 0.0, 3.0))


def test_planes_show_what_lies_at_the_mapped_places():
    spine = straighten(BOX, CURVED, LITTLE)
    columns, rows = np.meshgrid(np.arange(spine.planes.shape[2]), np.arange(spine.planes.shape[1]))
    vs = spine.straight_from_pixel(np.stack([columns, rows], -1).astype(float))
    for u, plane in zip(LITTLE.parallel_mm, spine.planes, strict=True):
        uvs = np.concatenate([np.full((*vs.shape[:2], 1), u), vs], -1)
        expected = linear(*np.moveaxis(CURVED.patient_from_straight(uvs), -1, 0))
        assert_allclose(plane[spine.valid], expected[spine.valid], atol=1e-3)
    assert spine.valid.all()


def test_a_plane_that_is_not_square_has_rows_down_and_columns_to_the_back():
    spine = straighten(BOX, CURVED, LITTLE)
    n_rows, n_columns = round(CURVED.length / 0.5), round(50 / 0.5) + 1
    assert spine.planes.shape == (3, spine.valid.shape[0], n_columns)
    assert abs(spine.valid.shape[0] - n_rows) <= 1
    assert n_rows != n_columns
    assert_allclose(spine.straight_from_pixel(np.array([[0.0, 0.0], [n_columns - 1, 10]])), [[-20, 0], [30, 5]])
    back = volume_of(lambda x, y, z: y, (120, 140, 120), (1.0, 1.0, 1.0), (-60.0, -70.0, -95.0))
    assert (np.diff(straighten(back, CURVED, LITTLE).mid_sagittal, axis=1) > 0).all()


def test_pixels_and_both_maps_agree_to_a_millionth_of_a_millimetre():
    spine = straighten(BOX, CURVED, LITTLE)
    pixels = np.random.default_rng(3).uniform(0, [100, 150], (4, 6, 2))
    points = spine.patient_from_straight(spine.straight_from_pixel(pixels))
    assert points.shape == (4, 6, 3)
    back = spine.pixel_from_straight(spine.straight_from_patient(points))
    assert_allclose(back, pixels, rtol=0, atol=2e-6)


def test_a_straight_spine_is_only_cut_out():
    """The published code gives NaN here."""
    line = CentreLine(np.array([[0.0, 0.0, -5.0 * i] for i in range(10)]))
    spine = straighten(BOX, line, LITTLE)
    v, s = np.arange(-20.0, 30.1, 0.5), np.arange(0.0, 45.1, 0.5)
    assert_allclose(spine.mid_sagittal, linear(0.0, v[None], -s[:, None]), atol=1e-4)


def test_outside_the_volume_is_air_and_not_valid():
    line = CentreLine(np.array([[0.0, 0.0, 10.0 - 5.0 * i] for i in range(12)]))  # from z = 10, above the volume
    small = volume_of(linear, (40, 140, 120), (1.0, 1.0, 1.0), (-60.0, -70.0, -39.0))  # z from -39 to 0
    spine = straighten(small, line, LITTLE)
    s = np.arange(len(spine.valid)) * 0.5
    inside = (s >= 10.0) & (s <= 49.0)
    assert_array_equal(spine.valid, np.repeat(inside[:, None], spine.valid.shape[1], 1))
    assert (spine.planes[:, ~inside] == AIR_HU).all()
    assert np.isfinite(spine.planes).all()


def test_where_planes_cross_is_not_valid():
    angle = np.linspace(-0.5, 0.5, 12)
    tight = CentreLine(np.stack([np.zeros(12), 30.0 * np.cos(angle) - 30.0, -30.0 * np.sin(angle)], 1))
    spine = straighten(BOX, tight, StraightenSettings(anterior_mm=48.0, posterior_mm=20.0))
    v = spine.straight_from_pixel(np.stack([np.arange(spine.valid.shape[1]), np.zeros(spine.valid.shape[1])], 1))[:, 0]
    middle = spine.valid[len(spine.valid) // 2]
    assert middle[v > -29.0].all()
    assert not middle[v < -31.0].any()


def test_whole_numbers_give_the_same_planes_as_floats():
    whole = Volume(np.rint(BOX.hu).astype(np.int16), BOX.patient_from_voxel)
    same = Volume(whole.hu.astype(np.float32), BOX.patient_from_voxel)
    assert_allclose(straighten(whole, CURVED, LITTLE).planes, straighten(same, CURVED, LITTLE).planes, atol=1e-3)


@pytest.mark.parametrize(("spacing", "step"), [(5.0, 1.5), (2.0, 3.0)])
def test_constant_in_constant_out_for_every_number_of_slices(spacing, step):
    """No last slice of zeros (case N1): every sample between the first and the last centre, both included."""
    for n in range(20, 200):
        affine = np.diag([1.0, 1.0, spacing, 1.0])
        affine[2, 3] = -spacing * (n - 1)
        volume = Volume(np.full((n, 2, 2), 123, np.int16), affine)
        length = spacing * (n - 1)
        z = -np.r_[np.arange(0.0, length, step), length]
        hu = sample_volume(volume, np.stack([np.full(len(z), 0.5), np.full(len(z), 0.5), z], 1))
        assert_array_equal(hu, 123.0)


def test_the_outermost_voxel_centres_are_inside_and_beyond_is_not():
    corners = BOX.corners
    middle = corners.mean(0)
    assert np.isfinite(sample_volume(BOX, corners)).all()
    assert np.isfinite(sample_volume(BOX, corners + (corners - middle) * 1e-12)).all()
    assert np.isnan(sample_volume(BOX, corners + (corners - middle) * 1e-3)).all()


def slow_sample(volume: Volume, point) -> float:
    """Trilinear interpolation as written in a textbook, the reference of the fast path."""
    place = (np.linalg.inv(volume.patient_from_voxel) @ [*point, 1.0])[:3]
    low = np.floor(place).astype(int)
    if (low < 0).any() or (place > np.array(volume.hu.shape[::-1]) - 1).any():
        return np.nan
    total = 0.0
    for corner in np.ndindex(2, 2, 2):
        x, y, z = np.minimum(low + corner, np.array(volume.hu.shape[::-1]) - 1)
        weight = np.prod(np.where(corner, place - low, 1 - (place - low)))
        total += weight * volume.hu[z, y, x]
    return total


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_sampling_equals_the_textbook(seed):
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = turn * rng.uniform(0.3, 5.0, 3)
    affine[:3, 3] = rng.uniform(-300, 300, 3)
    volume = Volume(rng.integers(-1024, 3000, (5, 7, 6)).astype(np.int16), affine)
    points = apply_affine(affine, rng.uniform(-0.5, [5.5, 6.5, 4.5], (40, 3)))
    slow = np.array([slow_sample(volume, point) for point in points])
    fast = sample_volume(volume, points)
    assert_array_equal(np.isnan(fast), np.isnan(slow))
    assert_allclose(fast, slow, atol=1e-2)  # float32 of up to 3000


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_the_axes_of_the_volume_do_not_matter(seed):
    """The same patient stored in another order and direction of its axes gives the same planes."""
    rng = np.random.default_rng(seed)
    order, flips = rng.permutation(3), rng.random(3) < 0.5
    hu_xyz, affine = BOX.hu.transpose(2, 1, 0), BOX.patient_from_voxel
    stored, columns, origin = hu_xyz.transpose(order), affine[:3, :3][:, order].copy(), affine[:3, 3].copy()
    for axis in np.flatnonzero(flips):
        origin = origin + columns[:, axis] * (stored.shape[axis] - 1)
        columns[:, axis] *= -1
        stored = np.flip(stored, axis)
    other = np.eye(4)
    other[:3, :3], other[:3, 3] = columns, origin
    turned = Volume(np.ascontiguousarray(stored.transpose(2, 1, 0)), other)
    assert_allclose(straighten(turned, CURVED, LITTLE).planes, straighten(BOX, CURVED, LITTLE).planes, atol=1e-2)


@pytest.mark.parametrize("offsets", [(), (-1.0, 1.0), (0.0, 1.0, 2.0), (1.0,)])
def test_settings_without_a_plane_in_the_middle_are_refused(offsets):
    with pytest.raises(ValueError, match="0 in the middle"):
        StraightenSettings(parallel_mm=offsets)


def test_the_volume_that_is_read_is_never_written_to():
    before = BOX.hu.copy()
    straighten(BOX, CURVED, LITTLE)
    assert_array_equal(BOX.hu, before)
