"""What the second network learns from: targets, warps, samples that repeat, runs that go on."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from vertebra_core.keypoints.anchors import POSITIVE_OVERLAP, anchor_overlap, boxes_of, decode
from vertebra_core.keypoints.anchors import anchor_sizes as sizes_of_anchors
from vertebra_core.keypoints.network import KeypointRefiner
from vertebra_core.measure import genant_index
from vertebra_core.phantom.anatomy import random_patient
from vertebra_core.phantom.patient import PLAIN
from vertebra_core.training import loop, refiner
from vertebra_core.training.appearance import as_slices, cut_ends
from vertebra_core.training.checkpoint import save_weights
from vertebra_core.training.detector import make_targets, train_detector
from vertebra_core.training.ossify import gas_clefts, ossify
from vertebra_core.training.phantoms import phantom_spine
from vertebra_core.training.refiner import forgiving, make_patches, refinement_loss, train_refiner
from vertebra_core.training.samples import Windows
from vertebra_core.training.spines import STACK_U_MM, Spine
from vertebra_core.training.warp import random_affine, source_of, warp_vertebrae

torch.set_num_threads(1)  # sums of several threads come in any order: a run is repeated to the bit by one


def body(top: float, depth: float = 30.0, height: float = 24.0) -> np.ndarray:
    """Six keypoints (v, s) of an upright body whose anterior top lies at s = top."""
    front, middle, back = -depth / 2, 0.0, depth / 2
    bottom = top + height
    return np.array(
        [[front, top], [front, bottom], [middle, top + 1.5], [middle, bottom - 1.5], [back, top], [back, bottom]]
    )


@pytest.fixture(scope="module")
def spine() -> Spine:
    """A plain column of eight bright boxes on dark ground: enough to learn from in a few steps."""
    points = np.stack([body(20.0 + 30.0 * i) for i in range(8)])
    planes = np.full((len(STACK_U_MM), 560, 257), 40, np.int16)
    for six in points:
        low, high = (six.min(0) - [-64.0, 0.0]) / 0.5, (six.max(0) - [-64.0, 0.0]) / 0.5
        planes[:, int(low[1]) : int(high[1]), int(low[0]) : int(high[0])] = 300
    valid = np.ones(planes.shape[1:], bool)
    return Spine("boxes", planes, valid, np.array([-64.0, 0.0]), 0.5, points, np.ones(8, bool), (-1e6, 1e6), 0.0)


def test_targets_are_the_anchors_that_overlap_more_than_half(spine):
    window = next(w for w in (Windows([spine], np.ones(1), 3, 10)[i] for i in range(10)) if w.complete.sum() >= 3)
    targets = make_targets(window, 0.5)
    whole = window.points[window.complete]
    v = window.origin_mm[0] + 0.25 + np.arange(targets.objectness.shape[2])
    s = window.origin_mm[1] + 0.25 + np.arange(targets.objectness.shape[1])
    overlaps = anchor_overlap(boxes_of(whole), v, s)
    said = np.nan_to_num(targets.objectness.numpy()) == 1
    expected = (overlaps > POSITIVE_OVERLAP).any(0)
    assert expected.sum() > 100
    assert (said & expected).sum() == expected.sum()
    anchor, row, column = (getattr(targets, n).numpy() for n in ("anchor", "row", "column"))
    points = decode(targets.encoded.numpy(), np.stack([v[column], s[row]], 1), sizes_of_anchors()[anchor])
    nearest = np.abs(points[:, None] - whole[None]).max((2, 3)).min(1)
    assert nearest.max() < 1e-3  # every positive points at the keypoints of one vertebra


def test_what_is_not_annotated_is_not_called_empty(spine):
    window = Windows([spine], np.ones(1), 3, 10)[1]
    narrow = Windows([spine], np.ones(1), 3, 10)[1]
    object.__setattr__(narrow, "known_mm", (float(window.origin_mm[1]) + 60.0, 1e6))
    objectness = make_targets(narrow, 0.5).objectness.numpy()
    assert np.isnan(objectness[:, :59]).mean() > 0.9
    assert np.isfinite(make_targets(window, 0.5).objectness.numpy()[:, 5:55]).any()


def test_warps_fracture_and_keep_discs():
    rng = np.random.default_rng(5)
    old = np.stack([body(30.0 * i) for i in range(10)])
    deepest, gaps = 1.0, []
    for _ in range(200):
        new = warp_vertebrae(old, rng)
        heights = np.linalg.norm(new[:, 0::2] - new[:, 1::2], axis=-1)
        deepest = min(deepest, genant_index(heights).min())
        gaps.append(new[1:, 4::5, 1][:, 0] - new[:-1, 5, 1])
    assert 0.33 < deepest < 0.5
    assert np.min(gaps) > 1.5  # 6 mm before: no disc is turned inside out
    assert abs(np.median(gaps) - 6.0) < 0.5
    assert np.mean(np.array(gaps) < 4.5) > 0.03  # some discs are narrow


def test_the_warp_takes_new_keypoints_back_to_the_old_ones():
    rng = np.random.default_rng(2)
    old = np.stack([body(30.0 * i) for i in range(10)])
    new = warp_vertebrae(old, rng)
    assert np.abs(source_of(old, new, new) - old).max() < 0.3
    assert np.abs(new - old).max() > 2.0
    affine = random_affine(rng, np.array([0.0, 100.0]), 3.0)
    np.testing.assert_allclose(affine.backward(affine.forward(old)), old, atol=1e-9)


def test_a_sample_depends_only_on_its_number(spine):
    a, b = Windows([spine], np.ones(1), 7, 100)[42], Windows([spine], np.ones(1), 7, 100)[42]
    other = Windows([spine], np.ones(1), 7, 100)[43]
    assert torch.equal(a.planes, b.planes)
    assert not torch.equal(a.planes, other.planes)


def test_keypoints_follow_the_pixels(spine):
    """On the warped plane the bright box must still lie between its keypoints."""
    inside, outside = [], []
    for i in range(12):
        window = Windows([spine], np.ones(1), 11, 100)[i]
        for six in window.points[window.complete]:
            centre = np.rint((six.mean(0) - window.origin_mm) / 0.5).astype(int)
            above = six[[0, 4]].mean(0) - [0, 3.0]
            gap = np.rint((above - window.origin_mm) / 0.5).astype(int)
            inside.append(window.planes[2, centre[1], centre[0]].item())
            if window.valid[gap[1], gap[0]]:
                outside.append(window.planes[2, gap[1], gap[0]].item())
    assert len(inside) > 40
    assert np.median(inside) > np.median(outside) + 80


def test_refiner_loss_is_zero_error_at_the_truth(spine):
    batch = make_patches(Windows([spine], np.ones(1), 3, 10)[1], np.random.default_rng(0))
    side = KeypointRefiner.SIDE
    axis = torch.arange(side)
    peak = -0.5 * ((batch.points[..., None] - axis) / 0.7) ** 2
    logits = peak[:, :, 1, :, None] + peak[:, :, 0, None, :]
    silent = torch.zeros(len(batch.x), 4)
    _, each = refinement_loss(logits, silent, batch)
    assert each.max() < 0.02
    moved = replace(batch, points=batch.points + torch.tensor([2.0, 0.0]))
    _, off = refinement_loss(logits, silent, moved)
    np.testing.assert_allclose(off.numpy(), 2.0 * batch.mm.mean().item(), atol=0.02)


@pytest.mark.parametrize("trainer", [train_detector, train_refiner])
def test_a_stopped_run_goes_on_as_if_nothing_had_happened(spine, tmp_path, trainer, monkeypatch):
    common = {"batch": 2, "seed": 1, "loaders": 0, "steady_from": 1.0, "say": lambda line: None}
    # The schedule depends on the planned length; both runs plan the same one.
    monkeypatch.setattr(loop, "learning_curve", lambda step, steps: 1.0)
    monkeypatch.setattr(refiner, "CALM_FROM", 1.0)
    unbroken = trainer([spine], np.ones(1), tmp_path / "whole.pt", steps=4, **common)
    trainer([spine], np.ones(1), tmp_path / "halves.pt", steps=2, **common)
    resumed = trainer([spine], np.ones(1), tmp_path / "halves.pt", steps=4, **common)
    for name, value in unbroken.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, rtol=0, atol=0, msg=name)
    save_weights(tmp_path / "w.safetensors", resumed)
    assert (tmp_path / "w.safetensors").stat().st_size < 2_500_000


def test_a_reading_of_thick_slices_is_right_within_its_tolerance(spine):
    """Half a millimetre of each height is forgiven along the vertebra, nothing across it."""
    batch = make_patches(Windows([spine], np.ones(1), 3, 10)[1], np.random.default_rng(0))
    axis = torch.arange(KeypointRefiner.SIDE)

    def loss(shift_mm, tolerance):
        shifted = batch.points.clone()
        shifted[:, 0::2] -= torch.tensor(shift_mm) / batch.mm[:, None, None] / 2  # tops up, bottoms down
        shifted[:, 1::2] += torch.tensor(shift_mm) / batch.mm[:, None, None] / 2
        peak = -0.5 * ((shifted[..., None] - axis) / 0.7) ** 2
        logits = peak[:, :, 1, :, None] + peak[:, :, 0, None, :]
        wide = replace(batch, tolerance=torch.full_like(batch.tolerance, tolerance))
        monotone = refinement_loss(logits, torch.zeros(len(batch.x), 4), wide)[0]
        return monotone.item()

    wrong = loss([0.0, 0.45], 0.0) - loss([0.0, 0.0], 0.0)
    forgiven = loss([0.0, 0.45], 0.5) - loss([0.0, 0.0], 0.5)
    assert 0 < forgiven < 0.8 * wrong
    assert loss([0.45, 0.0], 0.5) == pytest.approx(loss([0.45, 0.0], 0.0), abs=0.02)  # nothing across


def test_errors_count_half_up_to_the_tolerance_and_in_full_beyond():
    assert forgiving(torch.tensor([0.0, 0.4, -1.0, 2.0]), torch.tensor(1.0)).tolist() == pytest.approx(
        [0, 0.2, 0.5, 1.5]
    )


def test_the_expected_error_moves_neither_maps_nor_features():
    torch.manual_seed(0)
    model = KeypointRefiner((4, 8))
    logits, log_error = model(torch.randn(2, 5, 96, 96))
    log_error.sum().backward()
    touched = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum()}
    assert touched == {"error"}
    assert logits.shape == (2, 6, 96, 96)
    assert log_error.shape == (2, 4)


def test_slices_average_over_their_thickness_and_are_linear_between():
    """An edge in slices of 8 pixels: a ramp whose values at the slices are the averages."""
    planes = torch.zeros(1, 64, 16)
    planes[:, 30:] = 800.0
    thick = as_slices(planes, 8.0, 8.0, 0.0, 0.0)[0, :, 8].numpy()
    assert thick[[0, 16, 48]].tolist() == pytest.approx([0.0, 0.0, 800.0], abs=1e-3)
    # The slice at 32 covers rows 28 to 36: 6.5 of its 8 pixels (half at each end) lie behind the edge.
    assert thick[32] == pytest.approx(800.0 * 6.5 / 8, abs=1e-2)
    assert np.diff(thick[24:33]) == pytest.approx(np.full(8, thick[32] / 8 - thick[24] / 8), abs=1e-2)


def test_oblique_slices_blur_along_their_own_normal():
    planes = torch.zeros(1, 96, 96)
    row, column = torch.meshgrid(torch.arange(96.0), torch.arange(96.0), indexing="ij")
    angle = np.deg2rad(30.0)
    along = (row - 48) * np.cos(angle) + (column - 48) * np.sin(angle)
    planes[0] = torch.where(along > 0, 800.0, 0.0)
    oblique = as_slices(planes, 6.0, 6.0, angle, 0.3)[0]
    inner = slice(24, 72)
    for height in (-12.0, 0.0, 12.0):
        same = (along[inner, inner] - height).abs() < 0.5
        assert oblique[inner, inner][same].std() < 60.0  # equal along the edge but for the pixels' own width


def test_new_bone_lies_in_front_of_the_bodies_and_moves_no_keypoint(spine):
    v, s = np.arange(-48, 48.5, 0.5), np.arange(0, 192.0, 0.5)
    planes = torch.full((5, len(s), len(v)), 40.0)
    points = spine.points.copy()
    painted = np.zeros((len(s), len(v)), bool)
    for seed in range(20):
        bone = ossify(planes, points, v, s, np.random.default_rng(seed))
        painted |= (bone[2] > 100).numpy()
    assert np.array_equal(points, spine.points)
    front = -15.0
    assert painted[:, v < front - 1].sum() > 500
    assert not painted[:, v > front + 1.5].any()
    assert not painted[:, v < front - 10].any()


def test_gas_lies_in_bodies_and_discs(spine):
    v, s = np.arange(-48, 48.5, 0.5), np.arange(0, 192.0, 0.5)
    planes = torch.full((5, len(s), len(v)), 40.0)
    gas = torch.zeros(len(s), len(v), dtype=torch.bool)
    for seed in range(30):
        gas |= gas_clefts(planes, spine.points, v, s, np.random.default_rng(seed))[2] < -200
    assert gas.sum() > 200
    assert not gas[:, np.abs(v) > 30].any()


def test_a_plane_that_cannot_be_cut_keeps_its_own_ends():
    """A cut that leaves too little is taken back; what was outside the image stays outside."""
    valid = np.zeros((100, 50), bool)
    valid[:25] = True
    for seed in range(50):
        cut = cut_ends(valid, np.arange(50.0), np.arange(100.0), np.random.default_rng(seed), probability=1.0)
        assert not cut[25:].any()


def test_training_phantoms_stay_where_their_keypoints_are():
    """The plates of intact bodies, as half of their brightness shows them, lie evenly about the keypoints."""
    rng = np.random.default_rng(3)
    patient = random_patient(rng, replace(PLAIN, density_hu=40.0))
    spine = phantom_spine("even", patient, rng)
    column = np.rint((spine.points[:, 2:4, 0].mean(1) - spine.origin_mm[0]) / spine.pixel_mm).astype(int)
    offsets = []
    for six, v in zip(spine.points[6:16], column[6:16], strict=True):
        profile = spine.planes[8, :, v - 2 : v + 3].mean(1)
        for point, outward in ((six[2], -1), (six[3], 1)):
            place = (point[1] - spine.origin_mm[1]) / spine.pixel_mm
            near = np.arange(int(place) - 4, int(place) + 6)
            weight = np.clip(profile[near] - 150.0, 0, None)
            if weight.sum() > 0:
                offsets.append([outward, ((weight * near).sum() / weight.sum() - place) * spine.pixel_mm])
    top, bottom = (np.mean([o for side, o in offsets if side == way]) for way in (-1, 1))
    assert abs(top + bottom) < 0.2  # the plates lie inside the points by as much above as below
