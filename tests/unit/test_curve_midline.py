"""The line moved into the plane that mirrors the spine: on volumes whose mirror plane is known."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from vertebra_core.curve.midline import centred, mirrored
from vertebra_core.geometry import CentreLine
from vertebra_core.settings import SymmetrySettings
from vertebra_core.volume import Volume

SETTINGS = SymmetrySettings()
SIZE = np.array([81, 61, 90])  # voxels of 2 mm along x, y, z
SPACING = 2.0


def affine() -> np.ndarray:
    """Voxel indices (x, y, z) to LPS mm, the middle of the volume at x = y = 0, z from 0 upward."""
    matrix = np.diag([SPACING, SPACING, SPACING, 1.0])
    matrix[:2, 3] = -SPACING * (SIZE[:2] - 1) / 2
    return matrix


def body(x_mm: float = 0.0, turn_degrees: float = 0.0, seed: int = 0) -> Volume:
    """A random structure with one mirror plane, through (x, 0) and turned about z."""
    rng = np.random.default_rng(seed)
    x, y = np.meshgrid(*(SPACING * (np.arange(n) - (n - 1) / 2) for n in SIZE[:2]), indexing="xy")
    angle = np.radians(turn_degrees)
    across = np.abs((x - x_mm) * np.cos(angle) + y * np.sin(angle))  # equal on both sides of the plane
    back = y * np.cos(angle) - (x - x_mm) * np.sin(angle)
    pattern = gaussian_filter(rng.normal(0, 1, (SIZE[2], 60, 120)), (6, 1.5, 1.5), mode="wrap")
    pattern *= 300 / pattern.std()
    rows, columns = np.clip(back / 2 + 60, 0, 119).astype(int), np.clip(across / 2, 0, 59).astype(int)
    return Volume(np.clip(pattern[:, columns, rows] + 150, -1000, 2000).astype(np.float32), affine())


def upright(x_mm: float = 0.0) -> CentreLine:
    return CentreLine(np.array([[x_mm, -10.0, z] for z in np.linspace(170.0, 8.0, 30)]))


def beside(line: CentreLine) -> np.ndarray:
    """Where the line lies in x, mm, away from both ends."""
    return line.position(np.linspace(15.0, line.length - 15.0, 12))[:, 0]


@pytest.mark.parametrize("off_mm", [-3.0, -1.0, 0.0, 2.0, 4.0])
def test_the_line_moves_into_the_mirror_plane(off_mm):
    line = centred(body(2.0), upright(2.0 + off_mm), SETTINGS)
    assert np.abs(beside(line) - 2.0).max() < 0.5


@pytest.mark.parametrize("turn", [-12.0, 12.0])
def test_a_turned_spine_is_mirrored_by_a_turned_plane(turn):
    """The plane passes through (0, 0); at the line, 10 mm in front of it, it lies 10 tan(turn) beside."""
    line = centred(body(0.0, turn), upright(0.5), SETTINGS)
    assert np.abs(beside(line) - 10.0 * np.tan(np.radians(turn))).max() < 1.0


def test_the_mirror_image_gives_the_mirrored_line():
    volume = body(1.0, seed=3)
    flipped = Volume(volume.hu[:, :, ::-1], volume.patient_from_voxel)
    one, other = centred(volume, upright(2.0), SETTINGS), centred(flipped, upright(-2.0), SETTINGS)
    assert beside(one) == pytest.approx(-beside(other), abs=1e-6)


def test_where_nothing_tells_the_line_stays():
    even = Volume(np.full(tuple(SIZE[::-1]), 40.0, np.float32), affine())
    assert np.abs(beside(centred(even, upright(2.0), SETTINGS)) - 2.0).max() < 1e-6


def test_the_edge_of_the_scan_does_not_pull():
    """Only what lies on both sides is compared: a field of view that ends 12 mm beside the line changes little."""
    volume = body(0.0)
    half = volume.patient_from_voxel.copy()
    start = 34  # x from -12 mm
    half[0, 3] += start * SPACING
    cut = Volume(volume.hu[:, :, start:], half)
    assert np.abs(beside(centred(cut, upright(1.0), SETTINGS))).max() < 0.7


def test_misfit_and_spread_are_those_of_the_plain_sums():
    rng = np.random.default_rng(1)
    hu = rng.normal(0, 100, (41, 2, 3))
    hu[3, 0, 1] = np.nan
    steps = np.array([-3, 0, 2])
    misfit, spread = mirrored(hu, steps, SymmetrySettings(half_width_mm=10.0), 1.0)
    for row, step in enumerate(steps):
        for s in range(2):
            pairs = []
            for i in range(41):
                j = 40 + step - i  # mirrored about the middle (20) plus half a step
                if 0 <= j <= 40 and i <= j and (j - i) / 2 <= 10.0:
                    pairs += [(a, b) for a, b in zip(hu[i, s], hu[j, s], strict=True) if np.isfinite(a + b)]
            left, right = np.array(pairs).T
            assert misfit[row, s] == pytest.approx(((left - right) ** 2).mean())
            assert spread[row, s] == pytest.approx(2 * np.r_[left, right].var())
