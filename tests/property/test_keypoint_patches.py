"""Patches: an exact pair of maps, and samples that equal a plain interpolation."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from vertebra_core.keypoints.network import soft_argmax_2d
from vertebra_core.keypoints.patches import patches_around, sample_patches


def random_vertebrae(rng, count):
    square = np.array([[-15, -12], [-15, 12], [0, -11], [0, 11], [15, -12], [15, 12]], float)
    angle = rng.uniform(-0.8, 0.8, count)
    turn = np.stack([np.stack([np.cos(angle), -np.sin(angle)], -1), np.stack([np.sin(angle), np.cos(angle)], -1)], -2)
    size = rng.uniform(0.5, 1.5, (count, 1, 1))
    return np.einsum("nij,mj->nmi", turn, square) * size + rng.uniform(-20, 20, (count, 1, 2)) + [0, 100]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_there_and_back(seed, count):
    rng = np.random.default_rng(seed)
    points = random_vertebrae(rng, count)
    patches = patches_around(points, 96)
    there = patches.patch_from_plane(points)
    np.testing.assert_allclose(patches.plane_from_patch(there), points, atol=1e-9)
    # Turned upright and inside: tops above bottoms, fronts before backs.
    assert (there > 5).all()
    assert (there < 90).all()
    assert (there[:, [1, 3, 5], 1] > there[:, [0, 2, 4], 1]).all()
    assert (there[:, 4:, 0].mean(1) > there[:, :2, 0].mean(1)).all()
    np.testing.assert_allclose(there[:, 1, 0], there[:, 0, 0], atol=0.5)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_samples_equal_a_plain_interpolation(seed):
    rng = np.random.default_rng(seed)
    planes = rng.standard_normal((2, 400, 193)).astype(np.float32)
    points = random_vertebrae(rng, 3)
    patches = patches_around(points, 96)
    origin = np.array([-48.0, 0.0])
    fast = sample_patches(torch.from_numpy(planes), origin, 0.5, patches).numpy()
    grid = np.stack(np.meshgrid(np.arange(96.0), np.arange(96.0), indexing="xy"), -1).reshape(1, -1, 2)
    pixels = (patches.plane_from_patch(np.repeat(grid, 3, 0)) - origin) / 0.5
    for n in range(3):
        coordinates = pixels[n, :, ::-1].T
        for c in range(2):
            plain = map_coordinates(planes[c], coordinates, order=1, mode="nearest").reshape(96, 96)
            np.testing.assert_allclose(fast[n, c], plain, atol=2e-3)


def test_soft_argmax_of_a_peak_and_of_nothing():
    logits = torch.full((1, 2, 32, 32), -50.0)
    logits[0, 0, 5, 20] = 50.0
    logits[0, 1] = 0.0
    points = soft_argmax_2d(logits)
    assert points[0, 0].tolist() == [20.0, 5.0]
    torch.testing.assert_close(points[0, 1], torch.tensor([15.5, 15.5]))  # the middle: a confident lie
