"""From readings of slices to the centre line: where the spine is, its order, its ends."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from vertebra_core.curve.find import (
    CHUNK,
    OVERLAP,
    SliceReading,
    _chunks,
    _joined,
    bridged_runs,
    line_from_slices,
    spine_range,
)
from vertebra_core.curve.network import STRIDE
from vertebra_core.errors import NotEvaluable, Reason
from vertebra_core.settings import CurveSettings

SETTINGS = CurveSettings()
STEP = 6.0


def reading(present: str, top: float = 0.0) -> SliceReading:
    """A straight oblique spine; one character a slice, from the bottom up: '#' body, '.' none."""
    z = top + STEP * np.arange(len(present))
    return SliceReading(z, np.c_[10 + 0.1 * z, -30 - 0.3 * z], np.array([0.97 if c == "#" else 0.02 for c in present]))


def test_the_line_runs_from_the_top_downward_at_roughly_equal_distances():
    points = line_from_slices(reading("#" * 40), SETTINGS).points
    assert (np.diff(points[:, 2]) < 0).all()
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    assert steps.min() > 3.0
    assert steps.max() < 5.0


def test_the_line_lies_on_the_readings():
    given_slices = reading("." * 10 + "#" * 40 + "." * 10)
    points = line_from_slices(given_slices, SETTINGS).points
    assert_allclose(points[:, :2], np.c_[10 + 0.1 * points[:, 2], -30 - 0.3 * points[:, 2]], atol=1e-6)


def test_the_line_goes_on_straight_by_the_margin_at_both_ends():
    slices = reading("." * 10 + "#" * 40 + "." * 10)
    short = line_from_slices(slices, CurveSettings(margin_mm=0.0))
    long = line_from_slices(slices, SETTINGS)
    assert long.length - short.length == pytest.approx(2 * SETTINGS.margin_mm, abs=1e-6)


def test_the_longest_run_is_the_spine():
    found = spine_range(reading("....######..............####################....."), SETTINGS)
    assert abs(found.start - 24) <= 1
    assert abs(found.stop - 44) <= 1


@pytest.mark.parametrize(("gap", "bridged"), [(2, True), (4, True), (12, False)])
def test_a_short_dip_is_bridged_and_a_long_one_is_not(gap, bridged):
    found = spine_range(reading("." * 5 + "#" * 20 + "." * gap + "#" * 20 + "." * 5), SETTINGS)
    assert (found.stop - found.start > 30) == bridged


@pytest.mark.parametrize("present", ["." * 60, "." * 20 + "###" + "." * 20, "....", "##", "."])
def test_without_a_long_enough_run_there_is_no_spine(present):
    with pytest.raises(NotEvaluable) as caught:
        line_from_slices(reading(present), SETTINGS)
    assert caught.value.reason is Reason.NO_SPINE
    assert "at least 30 mm expected" in caught.value.detail


def test_slices_with_a_doubtful_spine_count_less():
    slices = reading("#" * 40)
    slices.points[18:21] += 6.0
    slices.presence[18:21] = 0.55
    doubtful = line_from_slices(slices, SETTINGS)
    slices.presence[18:21] = 0.97
    trusted = line_from_slices(slices, SETTINGS)
    middle = np.array([doubtful.length / 2])
    truth = line_from_slices(reading("#" * 40), SETTINGS).position(middle)
    assert np.linalg.norm(doubtful.position(middle) - truth) < np.linalg.norm(trusted.position(middle) - truth)


@given(st.lists(st.booleans(), max_size=60), st.integers(0, 5))
@settings(max_examples=100)
def test_runs_cover_every_present_slice_and_nothing_but_short_gaps(present, bridge):
    flags = np.array(present, bool)
    covered = np.zeros(len(flags), bool)
    runs = bridged_runs(flags, bridge)
    for start, stop in runs:
        assert flags[start]
        assert flags[stop - 1]
        covered[start:stop] = True
    assert covered[flags].all()
    assert all(after[0] - before[1] > bridge for before, after in pairwise(runs))


@given(st.integers(1, 1500))
@settings(max_examples=100, deadline=None)
def test_chunks_give_every_output_slice_once(count):
    """Against the plain way: number the slices, cut them, join them, and find the numbers in order."""
    parts = []
    for start, stop in _chunks(count):
        assert start % STRIDE == 0
        assert stop - start <= CHUNK
        number = np.arange(start, stop)[::STRIDE].astype(float)
        parts.append((np.c_[number, number], number))
    joined = np.concatenate([presence for _, presence in _joined(parts, count)])
    assert_allclose(joined, np.arange(0, count, STRIDE))


@given(st.integers(CHUNK + 1, 1500))
@settings(max_examples=50, deadline=None)
def test_a_slice_inside_a_scan_is_read_with_its_surroundings(count):
    """Half of the overlap at least lies between a slice and the cut edge of the chunk that reads it."""
    chunks = _chunks(count)
    for number, (start, stop) in enumerate(chunks):
        first = number == 0 or chunks[number - 1][1] - start >= OVERLAP
        last = number == len(chunks) - 1 or stop - chunks[number + 1][0] >= OVERLAP
        assert first
        assert last
