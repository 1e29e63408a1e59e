"""Anchors: sizes, encoding (equation 2), overlap and non-maximum suppression."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vertebra_core.keypoints.anchors import (
    ASPECTS,
    SCALES_MM,
    anchor_overlap,
    anchor_sizes,
    boxes_of,
    decode,
    encode,
    overlap,
    suppress,
)


def test_sizes_have_the_papers_scales_and_aspects():
    sizes = anchor_sizes()
    assert np.sqrt(sizes.prod(1)).round(9).tolist() == np.repeat(SCALES_MM, 4).tolist()
    assert (sizes[:, 0] / sizes[:, 1]).round(9).tolist() == list(ASPECTS) * 4


def test_encoding_by_hand():
    points = np.array([[[10.0, 20.0]] * 6])
    encoded = encode(points, np.array([[4.0, 26.0]]), np.array([[12.0, 24.0]]))
    assert encoded[0, 0].tolist() == [0.5, -0.25]  # (10 - 4) / 12, (20 - 26) / 24
    assert decode(encoded, np.array([[4.0, 26.0]]), np.array([[12.0, 24.0]])).tolist() == points.tolist()


def test_overlap_by_hand():
    a = np.array([[0.0, 0.0, 10.0, 10.0]])
    b = np.array([[5.0, 0.0, 15.0, 10.0], [0.0, 0.0, 10.0, 10.0], [20.0, 20.0, 30.0, 30.0], [2.0, 2.0, 2.0, 2.0]])
    assert overlap(a, b)[0].tolist() == pytest.approx([50 / 150, 1.0, 0.0, 0.0])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_outer_product_overlap_equals_the_plain_one(seed):
    rng = np.random.default_rng(seed)
    low = rng.uniform(-30, 30, (3, 2))
    boxes = np.concatenate([low, low + rng.uniform(5, 40, (3, 2))], 1)
    v, s = np.arange(-20.0, 21.0, 4.0), np.arange(-30.0, 31.0, 5.0)
    fast = anchor_overlap(boxes, v, s)
    centres = np.stack(np.meshgrid(v, s, indexing="xy"), -1)
    for a, size in enumerate(anchor_sizes()):
        anchors = np.concatenate([centres - size / 2, centres + size / 2], -1).reshape(-1, 4)
        plain = overlap(boxes, anchors).reshape(3, len(s), len(v))
        np.testing.assert_allclose(fast[:, a], plain, atol=2e-5)


def plain_suppress(boxes, scores, limit):
    """The textbook loop: take the best, drop what overlaps it, go on."""
    left = sorted(range(len(boxes)), key=lambda i: (-scores[i], i))
    kept = []
    while left:
        best = left[0]
        kept.append(best)
        left = [i for i in left[1:] if overlap(boxes[best : best + 1], boxes[i : i + 1])[0, 0] <= limit]
    return kept


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.sampled_from([0.1, 0.3, 0.7]))
def test_suppression_equals_the_plain_loop(seed, count, limit):
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 60, (count, 2))
    boxes = np.concatenate([low, low + rng.uniform(10, 30, (count, 2))], 1)
    scores = rng.choice([0.2, 0.5, 0.9], count)
    groups = suppress(boxes, scores, limit)
    assert [int(g[0]) for g in groups] == plain_suppress(boxes, scores, limit)
    assert sorted(np.concatenate(groups).tolist()) == list(range(count))  # every vote is counted once


def test_box_of_keypoints():
    six = np.array([[[0, 1], [1, 9], [5, 2], [6, 8], [12, 0], [11, 10]]], float)
    assert boxes_of(six).tolist() == [[0.0, 0.0, 12.0, 10.0]]
