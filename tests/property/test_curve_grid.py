"""The patient-aligned grid: what is constant stays constant, what is linear stays linear, whatever the orientation."""

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.spatial.transform import Rotation

from vertebra_core.curve.grid import SUBSAMPLES, averaging_weights, network_channels, patient_grid
from vertebra_core.geometry import apply_affine
from vertebra_core.volume import AIR_HU, Volume

SLOPE = np.array([0.7, -1.1, 0.4])


def axis_aligned(order, signs, spacing=(0.9, 1.3, 2.0)) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3)[:, order] * signs) * spacing
    affine[:3, 3] = -20.0, 35.0, -400.0
    return affine


def ramp(affine: np.ndarray, shape=(24, 30, 36)) -> Volume:
    """A volume whose HU grow linearly with the patient's coordinates."""
    index = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1)[..., ::-1]
    return Volume((apply_affine(affine, index.astype(float)) @ SLOPE).astype(np.float32), affine)


def grid_points(grid) -> np.ndarray:
    index = np.stack(np.meshgrid(*[np.arange(n) for n in grid.hu.shape], indexing="ij"), -1)[..., ::-1]
    return grid.origin + grid.spacing_mm * index


@pytest.mark.parametrize(("spacing", "new"), [(5.0, 1.5), (2.0, 3.0)])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_constant_volume_stays_constant_up_to_both_ends(spacing, new, axis):
    """Case N1: no slice count between 20 and 199 gives a slice of zeros."""
    for count in range(20, 200):
        shape, size = [3, 3, 3], np.ones(3)
        shape[axis], size[2 - axis] = count, spacing
        grid = patient_grid(Volume(np.full(shape, -567, np.int16), np.diag([*size, 1.0])), new)
        assert_allclose(grid.hu, -567.0, rtol=0, atol=1e-3)


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("signs", list(product([1, -1], repeat=3)))
def test_every_axis_order_and_direction_lands_in_the_same_frame(order, signs):
    volume = ramp(axis_aligned(order, signs))
    grid = patient_grid(volume, 3.0)
    low, high = volume.corners.min(0) + 3.0, volume.corners.max(0) - 3.0
    points = grid_points(grid)
    inner = ((points > low) & (points < high)).all(-1)
    assert inner.sum() > 100
    assert_allclose(grid.hu[inner], (points @ SLOPE)[inner], rtol=0, atol=0.02)


@given(st.lists(st.floats(-40, 40), min_size=3, max_size=3), st.floats(0.6, 3.0))
@settings(max_examples=25, deadline=None)
def test_an_oblique_volume_lands_in_the_patients_frame_and_leaves_air(angles, spacing):
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * spacing
    volume = ramp(affine)
    grid = patient_grid(volume, 3.0)
    points = grid_points(grid)
    index = apply_affine(np.linalg.inv(affine), points)
    size = np.array(volume.hu.shape[::-1])
    inner = ((index > 3.0 / spacing) & (index < size - 1 - 3.0 / spacing)).all(-1)
    assert_allclose(grid.hu[inner], (points @ SLOPE)[inner], rtol=0, atol=0.05)
    turned = np.abs(angles).max() > 1.0
    outside = ((index < -0.6) | (index > size - 0.4)).any(-1)
    if turned:
        assert_allclose(grid.hu[outside], AIR_HU)


@given(st.integers(1, 40), st.floats(0.4, 6.0), st.floats(0.5, 6.0), st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_weights_average_the_linear_interpolant(count, spacing, width, seed):
    """Against a plain reference: `np.interp` at the same points of each box."""
    rng = np.random.default_rng(seed)
    values, positions = rng.normal(size=count), rng.uniform(-spacing, count * spacing, 7)
    offsets = (np.arange(SUBSAMPLES) + 0.5) / SUBSAMPLES - 0.5
    points = positions[:, None] + offsets * width
    expected = np.interp(points, np.arange(count) * spacing, values).mean(1)
    weights = averaging_weights(count, spacing, positions, width)
    assert_allclose(weights @ values, expected, atol=1e-5)
    assert_allclose(weights.sum(1), 1.0, atol=1e-5)


def test_fine_stripes_are_averaged_and_not_aliased():
    hu = np.where(np.arange(240) % 2, 1000, -1000).astype(np.int16)
    volume = Volume(np.broadcast_to(hu[:, None, None], (240, 6, 6)), np.diag([1.0, 1.0, 0.5, 1.0]))
    assert np.abs(patient_grid(volume, 3.0).hu[1:-1]).max() < 260.0


@pytest.mark.parametrize("spacing", [0.7, 1.0, 2.5, 5.0])
def test_the_grid_reaches_both_ends_of_the_scan(spacing):
    volume = Volume(np.zeros((61, 8, 8), np.int16), np.diag([1.0, 1.0, spacing, 1.0]))
    z = patient_grid(volume, 3.0).z_mm()
    ends = np.array([-spacing / 2, 60.5 * spacing])
    assert np.abs(np.array([z[0] - 1.5, z[-1] + 1.5]) - ends).max() <= 1.5
    assert (np.diff(z) > 0).all()


def test_both_windows_run_from_zero_to_one_and_air_is_zero():
    channels = network_channels(np.array([[[-2000.0, AIR_HU, -300.0, 325.0, 3000.0]]], np.float32))
    assert_allclose(channels[0, 0, 0], [0, 0, 0, 0.5, 1], atol=1e-6)
    assert_allclose(channels[1, 0, 0], [0, 0, 0.5, 0.946429, 1], atol=1e-6)
