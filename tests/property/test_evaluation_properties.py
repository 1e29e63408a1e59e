"""Matching accounts for every vertebra and every find once, and does as well as trying all assignments."""

from itertools import permutations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from made_studies import column, found_of, truth_of

from vertebra_core.evaluation.matching import MATCH_IOU, boxes_in_plane, match, overlap, strictly, truth_line

height = st.floats(12, 26)
vertebra = st.tuples(height, height, height)
shift = st.tuples(st.floats(-20, 20), st.floats(-12, 12), st.floats(-25, 25))


@st.composite
def studies(draw):
    points = column(draw(st.lists(vertebra, min_size=1, max_size=5)))
    complete = draw(st.lists(st.booleans(), min_size=len(points), max_size=len(points)))
    picked = draw(st.lists(st.integers(0, len(points) - 1), max_size=5))
    moves = draw(st.lists(shift, min_size=len(picked), max_size=len(picked)))
    found = points[picked] + np.array(moves).reshape(-1, 1, 3)
    cut = draw(st.lists(st.booleans(), min_size=len(picked), max_size=len(picked)))
    return truth_of(points, complete), found_of(found, cut)


@given(studies())
@settings(deadline=None, max_examples=60)
def test_every_vertebra_and_every_find_is_accounted_for_once(study):
    truth, found = study
    for matching in (match(truth, found), strictly(match(truth, found), found)):
        true = np.r_[matching.pairs[:, 0], matching.missed]
        finds = np.r_[matching.pairs[:, 1], matching.false, matching.outside, matching.ignored]
        assert sorted(true) == np.flatnonzero(truth.complete).tolist()
        assert sorted(finds) == list(range(len(found.points)))


@given(studies())
@settings(deadline=None, max_examples=60)
def test_no_assignment_matches_more(study):
    """The slow reference tries every one-to-one assignment."""
    truth, found = study
    true = truth.points[truth.complete]
    if not len(true) or not len(found.points):
        return
    line = truth_line(truth.points)
    good = overlap(boxes_in_plane(true, line), boxes_in_plane(found.points, line)) > MATCH_IOU
    good = good if len(good) <= len(good.T) else good.T
    best = max(sum(good[i, j] for i, j in enumerate(order)) for order in permutations(range(good.shape[1]), len(good)))
    assert len(match(truth, found).pairs) == best


@given(studies(), st.floats(-500, 500), st.floats(-500, 500))
@settings(deadline=None, max_examples=40)
def test_matching_does_not_depend_on_where_the_patient_lies(study, x, z):
    truth, found = study
    away = np.array([x, 0.0, z])
    moved = match(truth_of(truth.points + away, truth.complete), found_of(found.points + away, found.complete))
    assert len(moved.pairs) == len(match(truth, found).pairs)
