"""Where the network of levels looks, and which row of its answer belongs to which place."""

import numpy as np
import pytest
import torch

from vertebra_core.geometry import CentreLine
from vertebra_core.levels.find import across_mm, grid_points, looks_along, name_levels, row_of, row_places, spine_ends
from vertebra_core.levels.names import LOOKS
from vertebra_core.levels.network import ACROSS, GRID_MM, ROW_MM, LevelNetwork, at_places, channels
from vertebra_core.settings import LevelSettings
from vertebra_core.volume import Volume

LINE = CentreLine(np.stack([np.zeros(9), np.zeros(9), -25.0 * np.arange(9)], 1))


@pytest.fixture(scope="module")
def network() -> LevelNetwork:
    torch.manual_seed(0)
    return LevelNetwork().eval()


def test_a_row_of_the_answer_lies_between_its_two_rows_of_samples():
    s = row_places(10.0, 100.0)
    assert len(s) % 2 == 0
    assert s[0] == 10.0
    assert s[-1] >= 100.0
    np.testing.assert_allclose(row_of((s[0::2] + s[1::2]) / 2, s), np.arange(len(s) // 2))


def test_the_answer_has_a_row_for_two_rows_of_samples(network):
    x = torch.zeros(1, 3, 24, ACROSS, ACROSS)
    with torch.inference_mode():
        assert network(x).shape == (1, len(LOOKS), 12)


def test_a_change_of_two_rows_of_samples_is_felt_most_at_their_row(network):
    torch.manual_seed(1)
    x = torch.randn(1, 3, 60, ACROSS, ACROSS)
    changed = x.clone()
    changed[:, :, 30:32] += 3.0
    with torch.inference_mode():
        felt = (network.slabs(changed) - network.slabs(x)).abs().sum((0, 1, 3, 4))
    away = np.abs(np.arange(30) - 15)
    assert (felt[away > 4] == 0).all()
    assert abs(float((felt * torch.arange(30)).sum() / felt.sum()) - 15) < 0.7


def test_between_rows_the_answer_is_linear_and_beyond_them_constant():
    logits = torch.tensor([[0.0, 10.0, 30.0], [1.0, 1.0, 1.0]])
    said = at_places(logits, torch.tensor([-2.0, 0.25, 1.5, 9.0]))
    torch.testing.assert_close(said, torch.tensor([[0.0, 1.0], [2.5, 1.0], [20.0, 1.0], [30.0, 1.0]]))


def test_outside_the_image_all_channels_are_zero():
    hu = torch.tensor([-1000.0, 300.0, 950.0, -3000.0]).view(1, 4, 1, 1)
    inside = torch.tensor([True, True, True, False]).view(1, 4, 1, 1)
    x = channels(hu, inside)[0, :, :, 0, 0]
    torch.testing.assert_close(x[0], torch.tensor([-1.0, 1.0, 1.0, 0.0]))
    torch.testing.assert_close(x[1], torch.tensor([-1.0, 2 * 250 / 900 - 1, 1.0, 0.0]))
    torch.testing.assert_close(x[2], torch.tensor([1.0, 1.0, 1.0, 0.0]))


def test_samples_lie_across_the_line():
    s = row_places(50.0, 90.0)
    points = grid_points(LINE, s)
    v, u = across_mm()
    assert points.shape == (len(s), ACROSS, ACROSS, 3)
    np.testing.assert_allclose(points[..., 2], np.broadcast_to(-s[:, None, None], points.shape[:3]), atol=1e-6)
    np.testing.assert_allclose(points[0, :, 0, 1], v, atol=1e-6)
    np.testing.assert_allclose(points[0, 0, :, 0], u, atol=1e-6)
    assert u.sum() == pytest.approx(0.0, abs=1e-9)
    assert np.diff(u) == pytest.approx(GRID_MM)


def cube(spacing: float) -> Volume:
    """A scan of random bone round the line."""
    shape = (int(220 / spacing), int(80 / spacing), int(80 / spacing))
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = -40.0, -40.0, -210.0
    hu = np.random.default_rng(0).integers(-100, 900, shape).astype(np.int16)
    return Volume(hu, affine)


def test_looks_are_probabilities_and_the_same_wherever_the_window_begins(network):
    volume = cube(4.0)
    along = np.array([60.0, 90.0, 120.0])
    all_three = looks_along(volume, LINE, along, network)
    np.testing.assert_allclose(all_three.sum(1), 1.0, atol=1e-6)
    # A multiple of the answer's rows further up: the same samples, more of the air above.
    further = looks_along(volume, LINE, np.r_[along[0] - 5 * ROW_MM, along], network)[1:]
    np.testing.assert_allclose(further[1:], all_three[1:], atol=0.03)


def test_the_scan_tells_whether_the_row_of_finds_ends_in_it():
    six = np.array([[0, -15, 10], [0, -15, -10], [0, 0, 9], [0, 0, -9], [0, 15, 10], [0, 15, -10]], float)
    bone = Volume(np.full((55, 20, 20), 100, np.int16), cube(4.0).patient_from_voxel)  # z from -210 to 6
    middle = np.stack([six - [0, 0, z] for z in (80.0, 104.0, 128.0)])
    assert spine_ends(bone, LINE, middle) == (True, True)
    high = np.stack([six - [0, 0, z] for z in (30.0, 54.0, 78.0)])
    assert spine_ends(bone, LINE, high) == (False, True)
    low = np.stack([six - [0, 0, z] for z in (130.0, 154.0, 178.0)])
    assert spine_ends(bone, LINE, low) == (True, False)
    air = Volume(np.full((55, 20, 20), -1000, np.int16), bone.patient_from_voxel)
    assert spine_ends(air, LINE, middle) == (False, False)
    assert spine_ends(bone, LINE, middle[:1]) == (False, False)


def test_a_scan_that_shows_too_much_gets_no_names(network):
    """More finds than a spine has names can only be blunders."""
    top = np.array([[0, -15, 4], [0, -15, -4], [0, 0, 4], [0, 0, -4], [0, 15, 4], [0, 15, -4]], float)
    points = np.stack([top - [0, 0, 6.0 * k + 10] for k in range(30)])
    named = name_levels(cube(4.0), LINE, points, np.ones(30, bool), network, LevelSettings())
    assert named.levels == (None,) * 30
    assert not named.foreign.any()


def test_one_find_alone_is_named_or_not_but_never_a_fault(network):
    top = np.array([[0, -15, 10], [0, -15, -10], [0, 0, 9], [0, 0, -9], [0, 15, 10], [0, 15, -10]], float)
    named = name_levels(cube(4.0), LINE, top[None] - [0, 0, 100.0], np.ones(1, bool), network, LevelSettings())
    assert len(named.levels) == len(named.confidence) == len(named.foreign) == 1
