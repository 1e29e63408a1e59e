"""Our frames and our sampling against SimpleITK, which knows nothing of our code."""

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from vertebra_core.geometry import CentreLine, apply_affine
from vertebra_core.settings import StraightenSettings
from vertebra_core.straighten import sample_volume, straighten
from vertebra_core.volume import Volume


def image_and_volume(seed: int, size=(23, 19, 17)) -> tuple[sitk.Image, Volume]:
    """A smooth random image with oblique axes, anisotropic voxels and any origin, as ITK and as ours."""
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    turn[:, 0] *= np.linalg.det(turn)  # ITK wants a rotation; feet-first and prone are rotations too
    spacing, origin = rng.uniform(0.4, 3.0, 3), rng.uniform(-200, 200, 3)
    array = rng.normal(0, 300, size[::-1]).astype(np.float32)
    image = sitk.GetImageFromArray(array)
    image.SetDirection(turn.ravel().tolist())
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(origin.tolist())
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn * spacing, origin
    return image, Volume(array, affine)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_voxels_lie_where_itk_says(seed):
    image, volume = image_and_volume(seed)
    index = np.random.default_rng(seed).uniform(-5, 30, (20, 3))
    expected = [image.TransformContinuousIndexToPhysicalPoint(i.tolist()) for i in index]
    assert_allclose(apply_affine(volume.patient_from_voxel, index), expected, atol=1e-9)
    assert_allclose(volume.spacing, image.GetSpacing(), rtol=1e-12)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_corners_lie_where_itk_says(seed):
    image, volume = image_and_volume(seed)
    ends = [(0, n - 1) for n in image.GetSize()]
    expected = [image.TransformIndexToPhysicalPoint((i, j, k)) for i in ends[0] for j in ends[1] for k in ends[2]]
    assert_allclose(volume.corners, expected, atol=1e-9)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_sampling_gives_what_itk_gives(seed):
    image, volume = image_and_volume(seed)
    index = np.random.default_rng(seed).uniform(0, np.array(image.GetSize()) - 1.001, (50, 3))
    points = apply_affine(volume.patient_from_voxel, index)
    expected = [image.EvaluateAtPhysicalPoint(point.tolist(), sitk.sitkLinear) for point in points]
    assert_allclose(sample_volume(volume, points), expected, atol=2e-2, rtol=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_a_straightened_plane_is_what_itk_sees_at_the_mapped_places(seed):
    """Every pixel of all planes, one by one, through ITK's own frame and interpolation."""
    image, volume = image_and_volume(seed, (40, 40, 40))
    centre = volume.corners.mean(0)
    wave = np.linspace(-1.0, 1.0, 6)
    line = CentreLine(centre + np.stack([2 * wave**2, np.sin(2 * wave), -12.0 * wave], 1))
    little = StraightenSettings(pixel_mm=1.5, anterior_mm=6.0, posterior_mm=9.0, parallel_mm=(-2.0, 0.0, 2.0))
    spine = straighten(volume, line, little)
    seen = 0
    for u, plane in zip(little.parallel_mm, spine.planes, strict=True):
        for row, column in np.ndindex(plane.shape):
            v, s = spine.straight_from_pixel(np.array([column, row], float))
            point = line.patient_from_straight(np.array([u, v, s]))
            index = np.array(image.TransformPhysicalPointToContinuousIndex(point.tolist()))
            if (index < 0).any() or (index > np.array(image.GetSize()) - 1).any():
                assert plane[row, column] == -1000.0
                continue
            expected = image.EvaluateAtPhysicalPoint(point.tolist(), sitk.sitkLinear)
            assert plane[row, column] == pytest.approx(expected, abs=0.05)
            seen += 1
    assert seen > 200
