"""What holds no spine, or no image, ends with a reason: never with a line, never with another error."""

from pathlib import Path

import numpy as np
import pytest

import vertebra_core.models
from vertebra_core.curve.find import find_curve, read_slices
from vertebra_core.curve.network import CurveNetwork
from vertebra_core.errors import NotEvaluable, Reason
from vertebra_core.geometry import apply_affine
from vertebra_core.models import load_network
from vertebra_core.phantom.anatomy import Phantom, random_patient
from vertebra_core.settings import CurveSettings
from vertebra_core.training.curve_spineless import spineless_piece
from vertebra_core.volume import AIR_HU, Volume

SETTINGS = CurveSettings()
SPACING = np.array([2.5, 2.5, 3.0])


@pytest.fixture(scope="module")
def network() -> CurveNetwork:
    weights = Path(vertebra_core.models.__file__).parent / "weights" / "curve.safetensors"
    network = CurveNetwork()
    load_network(network, weights)
    return network


@pytest.fixture(scope="module")
def patient() -> Phantom:
    return random_patient(np.random.default_rng(21))


def scan(patient: Phantom, low: tuple[float, float, float], high: tuple[float, float, float]) -> Volume:
    """The part of a phantom inside a box of LPS corners, mm."""
    affine = np.diag([*SPACING, 1.0])
    affine[:3, 3] = low
    shape = ((np.array(high) - low) / SPACING).astype(int)[::-1]
    index = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1)[..., ::-1]
    points = apply_affine(affine, index.astype(np.float32))
    return Volume(np.rint(patient.hu(points, 1.2)).astype(np.int16), affine)


def reason_of(volume: Volume, network: CurveNetwork) -> Reason:
    with pytest.raises(NotEvaluable) as caught:
        find_curve(volume, network, SETTINGS)
    return caught.value.reason


@pytest.mark.parametrize("hu", [AIR_HU, 0.0, 40.0, 1000.0, -3000.0])
@pytest.mark.parametrize("shape", [(60, 64, 64), (8, 40, 40), (120, 12, 200)])
def test_a_constant_volume_has_no_spine(network, hu, shape):
    assert reason_of(Volume(np.full(shape, hu, np.int16), np.diag([2.0, 2.0, 2.5, 1.0])), network) is Reason.NO_SPINE


@pytest.mark.parametrize("seed", range(8))
def test_a_head_or_limbs_have_no_spine(network, seed):
    piece = spineless_piece((56, 72, 72), np.random.default_rng(9000 + seed))
    volume = Volume(piece.hu.numpy(), np.diag([3.0, 3.0, 3.0, 1.0]))
    assert reason_of(volume, network) is Reason.NO_SPINE


def test_the_thighs_of_a_patient_have_no_spine(network, patient):
    below = patient.truth.points[..., 2].min() - 110.0
    volume = scan(patient, (-200.0, -260.0, below - 180.0), (200.0, 120.0, below))
    assert (volume.hu > 500).any()
    assert reason_of(volume, network) is Reason.NO_SPINE


def test_the_head_of_a_patient_has_no_spine(network, patient):
    above = patient.truth.points[..., 2].max() + 70.0
    volume = scan(patient, (-140.0, -260.0, above), (140.0, 140.0, above + 150.0))
    assert (volume.hu > 500).any()
    assert reason_of(volume, network) is Reason.NO_SPINE


def test_noise_has_no_spine(network):
    hu = np.random.default_rng(0).normal(0, 300, (60, 80, 80)).astype(np.int16)
    assert reason_of(Volume(hu, np.diag([2.0, 2.0, 2.5, 1.0])), network) is Reason.NO_SPINE


def test_a_part_of_the_chest_beside_the_spine_has_no_spine(network, patient):
    volume = scan(patient, (45.0, -180.0, -90.0), (150.0, -40.0, 60.0))
    assert reason_of(volume, network) is Reason.NO_SPINE


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_not_numbers_are_said_so(network, bad):
    hu = np.zeros((20, 30, 30), np.float32)
    hu[7, 11, 13] = bad
    assert reason_of(Volume(hu, np.diag([1.0, 1.0, 2.0, 1.0])), network) is Reason.NOT_FINITE


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 4), (1, 64, 64), (64, 1, 64)])
def test_the_smallest_volumes_end_with_a_reason(network, shape):
    assert reason_of(Volume(np.zeros(shape, np.int16), np.eye(4)), network) is Reason.NO_SPINE


def test_inputs_are_left_as_they_are(network):
    hu = np.random.default_rng(0).integers(-1000, 500, (20, 30, 30)).astype(np.int16)
    hu.flags.writeable = False
    read_slices(Volume(hu, np.diag([3.0, 3.0, 3.0, 1.0])), network, SETTINGS)
