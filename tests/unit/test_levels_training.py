"""What the network of levels learns from: looks at their places, samples that repeat, runs that go on."""

import numpy as np
import pytest
import torch

from vertebra_core.levels.names import LOOKS
from vertebra_core.phantom.anatomy import random_patient
from vertebra_core.phantom.patient import PatientOptions
from vertebra_core.training import levels as training
from vertebra_core.training.level_samples import SPREAD, LevelSamples, random_sample, spread
from vertebra_core.training.level_stacks import (
    FRONT_MM,
    HALF_U_MM,
    LevelStack,
    load_stack,
    phantom_stack,
    scan_stack,
    variant_of,
)
from vertebra_core.training.prepared import keep
from vertebra_core.truth import Truth
from vertebra_core.volume import Volume


def striped(name: str = "stripes", first: str = "T3", count: int = 8) -> LevelStack:
    """A block whose HU is the place along the line, with a vertebra every 25 mm."""
    shape = (150, 73, 73)
    hu = np.broadcast_to(np.arange(150)[:, None, None] * 2.0, shape).astype(np.int16)
    looks = np.eye(len(LOOKS))[LOOKS.index(first) + np.arange(count)]
    return LevelStack(name, hu, np.ones(shape, bool), 2.0, 60.0 + 25.0 * np.arange(count), looks)


def test_every_look_of_a_phantom_has_its_place():
    options = PatientOptions(variant_probability=0.0)
    stack = phantom_stack("phantom-0", random_patient(np.random.default_rng(3), options), np.random.default_rng(3))
    assert [LOOKS[i] for i in stack.looks.argmax(1)] == list(LOOKS)
    assert (np.diff(stack.along_mm) > 8.0).all()
    row, v, u = np.rint(stack.along_mm / 3.0).astype(int), round(-FRONT_MM / 3.0), round(HALF_U_MM / 3.0)
    bodies = stack.hu[row[1:-1], v, u]
    assert np.median(bodies) > 40  # marrow, not disc or air


@pytest.mark.parametrize(
    ("levels", "counts"),
    [
        (("T11", "T12", "L1"), (12, 5)),
        (("T12", "T13", "L1"), (13, 5)),
        (("L5", "L6"), (12, 6)),
        (("T11", "L1"), (11, 5)),
        (("C3",), (12, 5)),
    ],
)
def test_names_tell_the_variant(levels, counts):
    variant = variant_of(levels)
    assert (variant.thoracic, variant.lumbar) == counts


def test_names_that_jump_are_refused():
    with pytest.raises(ValueError, match="T3 T5"):
        variant_of(("T3", "T5"))


def column(count: int, gap: float) -> np.ndarray:
    six = np.array([[0, -12, 8], [0, -12, -8], [0, 0, 7], [0, 0, -7], [0, 12, 8], [0, 12, -8]], float)
    return np.stack([six - [0, 0, gap * k] for k in range(count)])


@pytest.mark.parametrize(
    ("levels", "expected"),
    [(("C3", "C4", "C5"), ["C2", "C3", "C4", "C5"]), (("L3", "L4", "L5"), ["L3", "L4", "L5", "S1"])],
)
def test_a_scan_is_known_one_bone_beyond_the_ends_that_are_measured(levels, expected):
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = -100, -100, -160
    volume = Volume(np.full((60, 50, 50), 100, np.int16), affine)
    stack = scan_stack("one", volume, Truth("", "", column(3, 24.0), np.ones(3, bool), levels))
    assert [LOOKS[i] for i in stack.looks.argmax(1)] == expected


def test_bones_beyond_the_image_are_not_taught():
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = -100, -100, -58.0  # ends ten millimetres below the last centre
    volume = Volume(np.full((30, 50, 50), 100, np.int16), affine)
    stack = scan_stack("one", volume, Truth("", "", column(3, 24.0), np.ones(3, bool), ("L3", "L4", "L5")))
    assert [LOOKS[i] for i in stack.looks.argmax(1)] == ["L3", "L4", "L5"]
    assert not stack.inside.all()


def test_a_block_is_kept_as_it_is(tmp_path):
    stack = striped()
    keep(tmp_path / "a" / "one.npz", stack)
    kept = load_stack(tmp_path / "a" / "one.npz")
    assert (kept.name, kept.step_mm) == (stack.name, stack.step_mm)
    for name in ("hu", "inside", "along_mm", "looks"):
        np.testing.assert_array_equal(getattr(kept, name), getattr(stack, name))


def test_spread_gives_a_share_to_the_neighbours():
    row = spread(np.eye(len(LOOKS)))[4]
    assert row[4] == pytest.approx(1 - SPREAD)
    assert row[3] == row[5] == pytest.approx(SPREAD / 2)
    np.testing.assert_allclose(spread(np.eye(len(LOOKS))).sum(1), 1.0)


def test_rows_are_called_after_the_vertebra_that_they_show():
    """HU is the place along the line, so the image itself says which vertebra a row lies at."""
    stack = striped()
    checked = 0
    for i in range(20):
        sample = random_sample(stack, 120.0, np.random.default_rng(i))
        soft = sample.x[0, :, 18, 18]  # (HU + 1000) / 650 - 1 before the scanner changed it
        inside = sample.x[2, :, 18, 18] > 0
        for row in np.flatnonzero((sample.rows >= 0).numpy()):
            assert inside[2 * row] or inside[2 * row + 1]
            assert sample.looks[row].argmax() == stack.looks[sample.rows[row]].argmax()
            checked += 1
        seen = soft[inside].numpy()
        assert len(seen) == 0 or np.isfinite(seen).all()
    assert checked > 100


def test_a_sample_depends_only_on_its_number():
    stacks = [striped(), striped("phantom-1", "C4")]
    one, again, other = (LevelSamples(stacks, 5, 50)[i] for i in (7, 7, 8))
    assert torch.equal(one.x, again.x)
    assert torch.equal(one.rows, again.rows)
    assert not torch.equal(one.x, other.x)


def test_the_loss_counts_only_rows_of_vertebrae():
    looks = torch.eye(len(LOOKS))[None, :4]
    rows = torch.tensor([[0, -1, 1, -1]])
    logits = torch.zeros(1, len(LOOKS), 4)
    loss, right = training.level_loss(logits, rows, looks)
    assert loss.item() == pytest.approx(np.log(len(LOOKS)), rel=1e-5)
    logits[0, 0, 0] = logits[0, 2, 2] = 50.0
    loss, right = training.level_loss(logits, rows, looks)
    assert loss.item() == pytest.approx(0.0, abs=1e-5)
    assert right.item() == 1.0


def test_a_stopped_run_goes_on_as_if_nothing_had_happened(tmp_path, monkeypatch):
    monkeypatch.setattr("vertebra_core.training.loop.learning_curve", lambda step, steps: 1.0)
    monkeypatch.setattr("vertebra_core.training.level_samples.ROWS", 24)
    common = {"batch": 2, "seed": 1, "say": lambda line: None}
    unbroken = training.train_levels([striped()], tmp_path / "whole.pt", steps=4, **common)
    training.train_levels([striped()], tmp_path / "halves.pt", steps=2, **common)
    resumed = training.train_levels([striped()], tmp_path / "halves.pt", steps=4, **common)
    for name, value in unbroken.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, rtol=0, atol=0, msg=name)


def test_training_from_nothing_but_phantoms_writes_weights(tmp_path, monkeypatch):
    monkeypatch.setattr("vertebra_core.training.level_samples.ROWS", 24)
    said: list[str] = []
    training.train(None, None, tmp_path, tmp_path / "weights", phantoms=1, steps=1, say=said.append)
    assert (tmp_path / "weights" / "levels.safetensors").stat().st_size < 1_000_000
    assert said[0].startswith("1 spines, ")
