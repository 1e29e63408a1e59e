"""Training data of the first network are true after every change, and a resumed run is the undisturbed run."""

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from vertebra_core.curve.network import CurvePrediction
from vertebra_core.training.curve import CurveTraining, curve_loss, draw_batch, fit, rate_at
from vertebra_core.training.curve_appearance import (
    THIN_HU,
    THIN_MM,
    paint_structures,
    paint_vessels,
    thick_slices,
    thin_bone,
)
from vertebra_core.training.curve_cases import (
    ABSENT,
    PRESENT,
    SOURCE_MM,
    UNKNOWN,
    CurveCase,
    labelled_line,
    load_case,
    phantom_case,
    prepare_case,
)
from vertebra_core.training.curve_data import GRID_MM, cut_piece, limit_view, random_piece, random_warp
from vertebra_core.training.curve_spineless import spineless_piece
from vertebra_core.training.prepared import keep
from vertebra_core.truth import Truth
from vertebra_core.volume import AIR_HU, Volume

SEEDS = st.integers(0, 2**31)
SHAPE = (32, 48, 48)


def vertebrae(levels: tuple[str, ...], complete: bool = True) -> Truth:
    """Bodies 20 mm high, 25 mm apart, on a slightly bent line, from z = 0 downward."""
    k = len(levels)
    top = np.c_[4 * np.sin(np.arange(k) / 3), 0.05 * np.arange(k) ** 2, -25.0 * np.arange(k)]
    points = np.stack([top + np.array([0.0, dy, -dz]) for dy in (-14, 0, 14) for dz in (0, 20)], 1)
    return Truth("image", "test", points, np.full(k, complete), levels)


@cache
def tube_case() -> CurveCase:
    """A scan in which only the true line is bright: whatever is done to it, the truth must lie on the bright line."""
    line, status = labelled_line(vertebrae(("C3", *[f"T{i}" for i in range(1, 11)], "L5")), True)
    origin, shape = np.array([-80.0, -80.0, -330.0]), (185, 80, 80)
    z, y, x = (origin[2 - axis] + SOURCE_MM * np.arange(n) for axis, n in enumerate(shape))
    centre = np.stack([np.interp(z, line[::-1, 2], line[::-1, a]) for a in (0, 1)], 1)
    away = np.hypot(x[None, None] - centre[:, 0, None, None], y[None, :, None] - centre[:, 1, None, None])
    hu = np.clip(900 - 60 * away, AIR_HU, None).astype(np.int16)
    return CurveCase("tube", hu, origin, line, status, np.zeros(shape, np.uint8))


@given(SEEDS)
@settings(max_examples=15, deadline=None)
def test_the_truth_of_a_piece_lies_where_the_image_went(seed):
    rng = np.random.default_rng(seed)
    case = tube_case()
    warp = random_warp(case, np.array(SHAPE[::-1]) * GRID_MM, rng)
    hu, _, piece = cut_piece(case, warp, SHAPE)
    bright = (hu - 500.0).clamp_min(0)
    mass = bright.sum((1, 2))
    inside = piece.placed & (mass > 0.8 * mass.median().clamp_min(1))
    y, x = torch.arange(SHAPE[1]).float(), torch.arange(SHAPE[2]).float()
    found = torch.stack([(bright.sum(1) * x).sum(1), (bright.sum(2) * y).sum(1)], 1) / mass[:, None].clamp_min(1)
    margin = ((piece.points > 5) & (piece.points < torch.tensor([SHAPE[2] - 6, SHAPE[1] - 6]))).all(1)
    inside &= margin
    assert ((found - piece.points).norm(dim=1)[inside] * GRID_MM < 2.0).all()


@given(SEEDS)
@settings(max_examples=15, deadline=None)
def test_a_warp_maps_there_and_back(seed):
    rng = np.random.default_rng(seed)
    case = tube_case()
    warp = random_warp(case, np.array([150.0, 150, 150]), rng)
    piece = rng.uniform(-100, 100, (20, 3))
    bent = piece + np.c_[warp.bend(piece[:, 2]), np.zeros(20)]
    assert_allclose(warp.piece_from_patient(bent @ warp.matrix.T + warp.shift), piece, atol=1e-9)


def test_presence_is_known_only_where_the_annotation_speaks():
    line, status = labelled_line(vertebrae(("T3", "T4", "T5", "T6")))
    z = line[:, 2]
    assert (status[(z < -4) & (z > -90)] == PRESENT).all()
    assert (status[(z > 4) | (z < -99)] == UNKNOWN).all()


def test_beyond_a_whole_c3_or_l5_there_is_no_vertebra_to_find():
    line, status = labelled_line(vertebrae(("C3", "C4", "C5", "C6")))
    z = line[:, 2]
    assert (status[z > 15] == ABSENT).all()
    assert (status[(z > -3) & (z < 9)] == UNKNOWN).all()
    assert (status[z < -99] == UNKNOWN).all()
    line, status = labelled_line(vertebrae(("L2", "L3", "L4", "L5")))
    assert (status[line[:, 2] < -115] == ABSENT).all()
    cut = labelled_line(vertebrae(("C3", "C4", "C5", "C6"), complete=False))[1]
    assert ABSENT not in cut


def test_every_scan_has_a_status_for_every_height():
    line, _ = labelled_line(vertebrae(("T3", "T4", "T5", "T6")))
    assert line[:, 2].max() > 400
    assert line[:, 2].min() < -400


@given(SEEDS)
@settings(max_examples=15, deadline=None)
def test_a_body_outside_the_field_of_view_is_not_called_present(seed):
    rng = np.random.default_rng(seed)
    piece = limit_view(random_piece(tube_case(), SHAPE, rng), rng)
    inside = ((piece.points >= 0) & (piece.points <= torch.tensor([SHAPE[2], SHAPE[1]]))).all(1)
    assert not ((piece.status == PRESENT) & ~inside).any()
    assert not (piece.placed & (piece.status == ABSENT)).any()


def test_painting_moves_organs_and_leaves_bone_and_lung():
    rng = np.random.default_rng(4)
    hu = torch.full((20, 60, 60), 40.0)
    hu[:, :20] = -850.0
    hu[:, 40:] = 400.0
    points = torch.tensor([30.0, 45.0]).repeat(20, 1)
    painted = paint_vessels(hu, points, GRID_MM, rng)
    assert (painted[:, :20] == -850).all()
    assert (painted[:, 40:] == 400).all()
    assert (painted[:, 20:40] > 100).any()
    structures = torch.zeros_like(hu)
    structures[:, 25:35, 25:35] = 52
    aorta = paint_structures(hu, structures, rng)
    assert (aorta[structures == 0] == hu[structures == 0]).all()
    assert (aorta[structures == 52] != 40.0).all()


def test_osteoporosis_takes_from_the_bone_of_the_spine_alone():
    rng = np.random.default_rng(0)
    hu = torch.tensor([-900.0, 20.0, 150.0, 1000.0]).repeat(3, 80, 20)
    points = torch.tensor([40.0, 40.0]).repeat(3, 1)
    thin = thin_bone(hu, points, GRID_MM, rng)
    y, x = torch.meshgrid(torch.arange(80.0), torch.arange(80.0), indexing="ij")
    near = (torch.hypot(x - 40, y - 40) * GRID_MM < THIN_MM).expand_as(hu)
    assert (thin[~near] == hu[~near]).all()
    assert (thin[hu < THIN_HU] == hu[hu < THIN_HU]).all()
    loss = [1 - ((thin - THIN_HU) / (hu - THIN_HU))[near & (hu == value)].mean() for value in (150.0, 1000.0)]
    assert 0.1 <= loss[0] <= 0.9
    assert loss[1] < 0.5 * loss[0]


def test_thick_slices_average_along_z_only_and_keep_the_mean():
    hu = torch.zeros(12, 4, 4)
    hu[6] = 100.0
    thick = thick_slices(hu, 2.0)
    assert thick.shape == hu.shape
    assert thick[6].mean() < 60
    assert thick.std((1, 2)).max() == 0
    assert thick.mean() == pytest.approx(float(hu.mean()), rel=0.2)


@given(SEEDS)
@settings(max_examples=8, deadline=None)
def test_a_spineless_piece_has_no_spine_but_something_in_it(seed):
    piece = spineless_piece((24, 40, 40), np.random.default_rng(seed))
    assert (piece.status == ABSENT).all()
    assert not piece.placed.any()
    assert piece.hu.max() > -500
    assert torch.isfinite(piece.hu).all()


def test_the_loss_counts_only_what_is_known():
    said = CurvePrediction(torch.zeros(1, 4, 2), torch.tensor([[3.0, -3.0, 3.0, 3.0]]))
    points = torch.tensor([[[2.0, 4.0], [50, 50], [50, 50], [50, 50]]])
    placed = torch.tensor([[True, False, False, False]])
    error, presence = curve_loss(said, points, placed, torch.tensor([[PRESENT, ABSENT, UNKNOWN, UNKNOWN]]))
    assert error.item() == pytest.approx(3.0 * GRID_MM)
    assert presence.item() == pytest.approx(np.log1p(np.exp(-3.0)), rel=1e-3)


def test_the_rate_rises_and_falls_to_a_hundredth():
    numbers = CurveTraining(steps=1000)
    rates = [rate_at(step, numbers) for step in range(1000)]
    assert max(rates) == pytest.approx(1e-3)
    assert rates[0] < 1e-4
    assert rates[-1] < 2e-5
    assert (np.diff(rates[60:]) < 0).all()


def small(steps: int, every: int) -> CurveTraining:
    return CurveTraining(steps=steps, batch=2, shapes=((16, 32, 32),), shares=(1.0,), checkpoint_every=every)


def test_a_resumed_run_equals_the_undisturbed_one(tmp_path):
    case = tube_case()
    whole = fit([case], [], tmp_path / "whole.pt", small(4, 4))
    with pytest.raises(KeyboardInterrupt):
        fit([case], [], tmp_path / "cut.pt", small(4, 2), report=_stop)
    resumed = fit([case], [], tmp_path / "cut.pt", small(4, 2))
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, msg=name)


def _stop(progress):
    if progress.step == 2:
        raise KeyboardInterrupt


def test_training_brings_the_points_nearer(tmp_path):
    case, seen = tube_case(), []
    numbers = CurveTraining(
        steps=24, batch=2, shapes=((16, 32, 32),), shares=(1.0,), warm_up=4, checkpoint_every=6, spineless_share=0.0
    )
    fit([case], [], tmp_path / "run.pt", numbers, report=seen.append)
    assert seen[-1].error_mm < 0.7 * seen[0].error_mm


def test_scans_phantoms_and_spineless_pieces_are_all_drawn():
    case = tube_case()
    numbers = CurveTraining(batch=60, shapes=((8, 16, 16),), shares=(1.0,), phantom_share=0.3, spineless_share=0.3)
    pieces = draw_batch([case], [case], numbers, np.random.default_rng(1))
    empty = sum(bool((piece.status == ABSENT).all()) for piece in pieces)
    assert 5 < empty < 50


def test_a_case_comes_back_from_its_file(tmp_path):
    truth = vertebrae(("T3", "T4", "T5", "T6"))
    affine = np.diag([1.5, 1.5, 2.5, 1.0])
    affine[:3, 3] = -40, -40, -100
    labels = Volume(np.full((44, 54, 54), 7, np.uint8), affine)
    case = prepare_case("a", Volume(np.full((44, 54, 54), 33, np.int16), affine), truth, labels)
    keep(tmp_path / "a.npz", case)
    back = load_case(tmp_path / "a.npz")
    assert back.name == "a"
    for field in ("hu", "origin", "line", "status", "structures"):
        assert_allclose(getattr(back, field), getattr(case, field))
    assert (case.hu == 33).all()
    assert (case.structures == 7).all()


def test_a_phantoms_line_lies_in_its_bodies():
    case = phantom_case("phantom", np.random.default_rng(5))
    index = np.rint((case.line - case.origin) / SOURCE_MM).astype(int)[case.status == PRESENT][:, ::-1]
    assert (np.diff(case.line[:, 2]) < 0).all()
    assert np.mean(case.hu[tuple(index.T)] > -20) > 0.97
    assert {PRESENT, ABSENT, UNKNOWN} <= set(case.status.tolist())
