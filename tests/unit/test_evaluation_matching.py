"""Which find is which vertebra of the truth: matched, missed, false, outside or ignored."""

import numpy as np
import pytest
from made_studies import NORMAL, PITCH_MM, column, found_of, moved, truth_of

from vertebra_core.evaluation.matching import NOTHING_FOUND, boxes_in_plane, match, overlap, strictly, truth_line
from vertebra_core.geometry import CentreLine

SIX = column([NORMAL] * 6)


def summary(matching) -> tuple[list, ...]:
    return (
        matching.pairs.tolist(),
        *(getattr(matching, name).tolist() for name in ("missed", "false", "outside", "ignored")),
    )


def test_all_found_in_another_order():
    order = [3, 0, 5, 1, 4, 2]
    pairs = match(truth_of(SIX), found_of(SIX[order])).pairs
    assert pairs[:, 0].tolist() == list(range(6))
    assert np.array(order)[pairs[:, 1]].tolist() == list(range(6))


def test_boxes_are_those_of_the_keypoints_in_the_plane():
    """A straight spine from z = 12 down: s is 12 - z, v is y."""
    boxes = boxes_in_plane(SIX[1:2], truth_line(SIX))
    assert boxes[0] == pytest.approx([-15, 30, 15, 54], abs=1e-6)


def test_iou_by_hand():
    """Shifted by 8 of 24 mm: 16 / (24 + 8) = 0.5 exactly, which is not above 0.5; by 7.9 it matches."""
    line = truth_line(SIX)
    boxes = boxes_in_plane(SIX, line)
    assert np.diag(overlap(boxes, boxes_in_plane(moved(SIX, z=-8), line))) == pytest.approx([0.5] * 6)
    assert len(match(truth_of(SIX), found_of(moved(SIX, z=-8.1))).pairs) == 0
    assert len(match(truth_of(SIX), found_of(moved(SIX, z=-7.9))).pairs) == 6


def test_missed_and_false():
    between = moved(SIX[2:3], z=-PITCH_MM / 2)
    found = found_of(np.concatenate([SIX[[0, 1, 2, 4, 5]], between]))
    assert summary(match(truth_of(SIX), found)) == ([[0, 0], [1, 1], [2, 2], [4, 3], [5, 4]], [3], [5], [], [])


def test_a_second_find_of_the_same_vertebra_is_false():
    found = found_of(np.concatenate([SIX, moved(SIX[2:3], z=2)]))
    matching = match(truth_of(SIX), found)
    assert (len(matching.pairs), matching.false.tolist(), matching.outside.tolist()) == (6, [6], [])
    assert [2, 2] in matching.pairs.tolist()  # the better of the two


def test_a_vertebra_cut_by_the_scan_is_neither_missed_nor_false():
    complete = [False, True, True, True, True, False]
    half = SIX[0].copy()
    half[0::2, 2] -= 14.0  # the scan ends 14 mm below the top of the first one
    truth = truth_of(np.concatenate([half[None], SIX[1:]]), complete)
    assert summary(match(truth, found_of(SIX)))[1:] == ([], [], [], [0, 5])
    assert summary(match(truth, found_of(SIX[1:5])))[1:] == ([], [], [], [])


def test_what_the_program_calls_cut_and_matches_nothing_is_not_false():
    found = found_of(np.concatenate([SIX, moved(SIX[2:3], z=-PITCH_MM / 2)]), [True] * 6 + [False])
    assert match(truth_of(SIX), found).ignored.tolist() == [6]


def test_beyond_the_annotated_range_is_outside_and_strictly_false():
    truth, found = truth_of(SIX[1:5]), found_of(SIX)
    matching = match(truth, found)
    assert summary(matching) == ([[0, 1], [1, 2], [2, 3], [3, 4]], [], [], [0, 5], [])
    assert summary(strictly(matching, found))[2:] == ([0, 5], [], [])


def test_a_shifted_find_of_the_last_vertebra_is_false_and_not_outside():
    found = found_of(np.concatenate([SIX[:5], moved(SIX[5:], z=-12.5)]))
    matching = match(truth_of(SIX), found)
    assert (matching.missed.tolist(), matching.false.tolist(), matching.outside.tolist()) == ([5], [5], [])


def test_a_match_without_heights_is_strictly_missed():
    found = found_of(SIX, [True, False, True, True, True, True])
    matching = match(truth_of(SIX), found)
    assert len(matching.pairs) == 6
    strict = strictly(matching, found)
    assert (strict.missed.tolist(), strict.ignored.tolist(), len(strict.pairs)) == ([1], [1], 5)


def test_nothing_found_is_all_missed_and_no_truth_is_all_outside():
    assert summary(match(truth_of(SIX), NOTHING_FOUND)) == ([], list(range(6)), [], [], [])
    assert summary(match(truth_of(SIX[:0]), found_of(SIX)))[1:] == ([], [], list(range(6)), [])


@pytest.mark.parametrize("k", [1, 2, 3])
def test_few_vertebrae_make_a_frame_too(k):
    matching = match(truth_of(SIX[:k]), found_of(SIX))
    assert (len(matching.pairs), matching.outside.tolist()) == (k, list(range(k, 6)))


def test_sideways_error_does_not_hide_a_find():
    """The paper detects in the plane: 10 mm to the left is a localisation error, not a miss."""
    assert len(match(truth_of(SIX), found_of(moved(SIX, x=10))).pairs) == 6


def test_the_frame_follows_a_curved_spine():
    angles = np.radians(np.linspace(-30, 30, 60))
    line = CentreLine(200 * np.stack([0 * angles, 1 - np.cos(angles), -np.sin(angles)], 1))
    s = 15.0 + 30.0 * np.arange(6)
    flat = np.stack([np.zeros((6, 6)), SIX[..., 1], s[:, None] - (SIX - SIX.mean(1, keepdims=True))[..., 2]], -1)
    points = line.patient_from_straight(flat)
    boxes = boxes_in_plane(points, truth_line(points))
    heights = boxes[:, 3] - boxes[:, 1]
    assert heights[1:-1] == pytest.approx([24.0] * 4, abs=0.2)
    assert heights[[0, -1]] == pytest.approx([24.0] * 2, abs=0.8)  # the line is straight beyond its last point
    assert len(match(truth_of(points), found_of(points + 0.5)).pairs) == 6
