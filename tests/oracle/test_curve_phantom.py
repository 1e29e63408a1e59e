"""The line of a phantom is known by construction: the network's line lies near it, however the scan is stored."""

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

import vertebra_core.models
from vertebra_core.curve.find import _read_chunk, find_curve, read_slices
from vertebra_core.curve.grid import patient_grid
from vertebra_core.curve.network import STRIDE, CurveNetwork
from vertebra_core.geometry import CentreLine, apply_affine
from vertebra_core.models import load_network
from vertebra_core.phantom.anatomy import Phantom, random_patient
from vertebra_core.phantom.patient import PatientOptions
from vertebra_core.settings import CurveSettings
from vertebra_core.volume import Volume

SETTINGS = CurveSettings()
WORST_MM = 10.0
"""No slice may be further off: the straightened planes reach 8 mm to each side, the vertebra 15 mm."""


@pytest.fixture(scope="module")
def network() -> CurveNetwork:
    weights = Path(vertebra_core.models.__file__).parent / "weights" / "curve.safetensors"
    network = CurveNetwork()
    load_network(network, weights)
    return network


def scan(patient: Phantom, margin_mm: float, spacing=(2.0, 2.0, 3.0)) -> Volume:
    """A scan from a margin above the first vertebra to a margin below the last."""
    heights = patient.truth.points[..., 2]
    low = np.array([-180.0, -240.0, heights.min() - margin_mm])
    high = np.array([180.0, 110.0, heights.max() + margin_mm])
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = low
    shape = ((high - low) / spacing).astype(int)[::-1]
    index = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1)[..., ::-1]
    return Volume(np.rint(patient.hu(apply_affine(affine, index.astype(np.float32)), 1.0)).astype(np.int16), affine)


def distances(found: CentreLine, true: CentreLine) -> np.ndarray:
    """In-slice distance of both lines at the heights of the true one, mm; inf where the found one has ended."""
    goal = true.position(np.linspace(0, true.length, 200))
    line = found.position(np.linspace(0, found.length, 2000))[::-1]
    at = np.stack([np.interp(goal[:, 2], line[:, 2], line[:, a], np.inf, np.inf) for a in (0, 1)], 1)
    return np.linalg.norm(at - goal[:, :2], axis=1)


@pytest.fixture(scope="module")
def patient() -> Phantom:
    return random_patient(np.random.default_rng(77))


@pytest.fixture(scope="module")
def volume(patient) -> Volume:
    return scan(patient, 60.0)


CROOKED = PatientOptions(scoliosis_probability=1.0, max_cobb_degrees=40.0)
OLD = PatientOptions(age_years=90.0, contrast_probability=1.0)
"""Osteoporosis and bright kidneys: once the line of two such phantoms went to a kidney."""


@pytest.mark.parametrize(("seed", "options"), [(301, CROOKED), (82, OLD)])
def test_the_line_of_an_unseen_phantom_is_found(network, seed, options):
    patient = random_patient(np.random.default_rng(seed), options)
    away = distances(find_curve(scan(patient, 60.0), network, SETTINGS), patient.centre_line)
    assert away.mean() < 3.0
    assert away.max() < WORST_MM


def test_presence_ends_with_the_spine(network, patient, volume):
    reading = read_slices(volume, network, SETTINGS)
    heights = patient.truth.points[..., 2]
    inside = (reading.z > heights.min() + 10) & (reading.z < heights.max() - 10)
    outside = (reading.z < heights.min() - 30) | (reading.z > heights.max() + 30)
    assert outside.sum() >= 8
    assert (reading.presence[inside] > 0.5).mean() > 0.97
    assert (reading.presence[outside] < 0.5).mean() > 0.9


@pytest.mark.parametrize(
    ("order", "signs"), [((0, 1, 2), (-1, -1, 1)), ((2, 0, 1), (1, 1, -1)), ((1, 2, 0), (1, -1, 1))]
)
def test_the_line_does_not_depend_on_how_the_scan_is_stored(network, volume, order, signs):
    """Feet first, sagittal, coronal: the same voxels in another order."""
    axes = [2 - axis for axis in order][::-1]
    hu, affine = volume.hu.transpose(axes), np.eye(4)
    affine[:3, :3] = volume.patient_from_voxel[:3, :3][:, order]
    affine[:3, 3] = volume.patient_from_voxel[:3, 3]
    for axis, sign in enumerate(signs):
        if sign < 0:
            hu = np.flip(hu, 2 - axis)
            affine[:3, 3] += affine[:3, axis] * (hu.shape[2 - axis] - 1)
            affine[:3, axis] *= -1
    expected = find_curve(volume, network, SETTINGS).points
    assert_allclose(find_curve(Volume(hu, affine), network, SETTINGS).points, expected, atol=0.05)


def test_reading_in_chunks_agrees_with_reading_at_once(network, volume):
    """Chunks bound the memory of tall scans; what they say may differ only as little as the context they lack."""
    grid = patient_grid(volume, SETTINGS.grid_mm)
    assert len(grid.hu) > 150
    points, presence = _read_chunk(grid.hu, network)
    reading = read_slices(volume, network, SETTINGS)
    both = (presence > 0.5) & (reading.presence > 0.5)
    chunked = (reading.points - grid.origin[:2]) / grid.spacing_mm
    assert both.sum() * STRIDE > 120
    assert np.linalg.norm(chunked - points, axis=1)[both].max() * grid.spacing_mm < 3.0
    assert (np.abs(presence - reading.presence) < 0.5).mean() > 0.97


def test_the_same_scan_gives_the_same_line(network, volume):
    first, second = (find_curve(volume, network, SETTINGS).points for _ in range(2))
    assert (first == second).all()


def test_a_moved_patient_gives_a_moved_line(network, volume):
    way, moved = np.array([11.0, -7.0, 300.0]), volume.patient_from_voxel.copy()
    moved[:3, 3] += way
    line = find_curve(volume, network, SETTINGS).points
    assert_allclose(find_curve(Volume(volume.hu, moved), network, SETTINGS).points, line + way, atol=0.05)
