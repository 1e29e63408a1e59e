"""Which found vertebra is which vertebra of the truth.

Both are mapped into one plane: the straightened frame (v, s) of the line through the *true* centres. There each
vertebra is the axis-aligned box of its six keypoints, and two boxes match at an intersection over union above 0.5
(paper section 3.2 and Fig. 3 d), one to one.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment

from vertebra_core.geometry import CentreLine
from vertebra_core.truth import Truth

MATCH_IOU = 0.5
"""Boxes match above this intersection over union (paper Fig. 3 d)."""
SAME_BODY = 0.5
"""A find whose smaller box (its own or that of a vertebra cut by the scan) lies inside the other by more than this
share is that cut vertebra: cut boxes are too short for an intersection over union."""
APART = 0.25
"""A find beyond the annotated range shares less than this of its own box with any annotated vertebra; neighbouring
boxes of tilted vertebrae overlap a little (docs/numbers.md: discs are 2 to 5 mm, tilts reach 30 degrees)."""


@dataclass(frozen=True)
class Found:
    """The n vertebrae that the program published for one study, from the top down.

    Parameters
    ----------
    points : array [n, 6, 3]
        LPS mm.
    complete : array [n], bool
    heights : array [n, 3]
        ha, hm, hp in mm; NaN where not measured.
    g : array [n]
        NaN where not measured.
    levels : tuple of (str or None)
        Names such as "T7"; empty where levels are not named at all.
    standard_errors : array [n, 4] or None
        Of ha, hm, hp (mm) and G, as the program says; NaN or None where it does not.
    scores, level_confidence : array [n] or None
        Probability that it is a vertebra, and that its name is right, as the program says.
    """

    points: Float[np.ndarray, "n 6 3"]
    complete: Bool[np.ndarray, "n"]
    heights: Float[np.ndarray, "n 3"]
    g: Float[np.ndarray, "n"]
    levels: tuple[str | None, ...] = ()
    standard_errors: Float[np.ndarray, "n 4"] | None = None
    scores: Float[np.ndarray, "n"] | None = None
    level_confidence: Float[np.ndarray, "n"] | None = None


NOTHING_FOUND = Found(np.zeros((0, 6, 3)), np.zeros(0, bool), np.zeros((0, 3)), np.zeros(0))


@dataclass(frozen=True)
class Matching:
    """How the finds of one study relate to its truth. All are indices; `pairs` are (true, found).

    Parameters
    ----------
    pairs : array [m, 2]
        Complete true vertebrae that were found.
    missed : array
        Complete true vertebrae that were not.
    false : array
        Finds inside the annotated range that match nothing.
    outside : array
        Finds beyond the first or last annotated vertebra: the reader may have stopped before the scan did.
    ignored : array
        Finds of vertebrae that the scan cuts (`complete` is false in the truth), and finds that the program itself
        marks as cut and that match nothing: it publishes no heights of them.
    """

    pairs: Int[np.ndarray, "m 2"]
    missed: Int[np.ndarray, "a"]
    false: Int[np.ndarray, "b"]
    outside: Int[np.ndarray, "c"]
    ignored: Int[np.ndarray, "d"]


def truth_line(points: Float[np.ndarray, "k 6 3"]) -> CentreLine:
    """Line through the centres of k vertebrae (k >= 1), from the top of the first to the bottom of the last."""
    first, last = points[0, 0::2].mean(0), points[-1, 1::2].mean(0)
    through = np.concatenate([first[None], points.mean(1), last[None]])
    if len(through) < 4:  # one vertebra: a line needs four points
        through = np.linspace(first, last, 4)
    return CentreLine(through)


def boxes_in_plane(points: Float[np.ndarray, "k 6 3"], line: CentreLine) -> Float[np.ndarray, "k 4"]:
    """Axis-aligned boxes (v_min, s_min, v_max, s_max) in mm; NaN where a point has no place along the line."""
    plane = line.straight_from_patient(points)[..., 1:]
    return np.concatenate([plane.min(1), plane.max(1)], axis=1)


def intersections(a: Float[np.ndarray, "n 4"], b: Float[np.ndarray, "m 4"]) -> Float[np.ndarray, "n m"]:
    """Areas that two sets of boxes share, mm2; 0 where a box is NaN."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    return np.nan_to_num(np.clip(high - low, 0.0, None).prod(-1))


def areas(boxes: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, "n"]:
    """Areas of boxes, mm2."""
    return (boxes[:, 2:] - boxes[:, :2]).prod(-1)


def overlap(a: Float[np.ndarray, "n 4"], b: Float[np.ndarray, "m 4"]) -> Float[np.ndarray, "n m"]:
    """Intersection over union of two sets of boxes.

    Examples
    --------
    >>> overlap(np.array([[0.0, 0.0, 2.0, 2.0]]), np.array([[0.0, 1.0, 2.0, 3.0]])).round(3).tolist()
    [[0.333]]
    """
    shared = intersections(a, b)
    union = areas(a)[:, None] + areas(b)[None] - shared
    return np.nan_to_num(shared / union)


def match(truth: Truth, found: Found) -> Matching:
    """Match the finds of one study with its truth.

    A find that overlaps a complete vertebra enough is its match. Of the rest, a find over a cut vertebra is ignored,
    one beyond the annotated range is `outside`, and every other one is false.
    """
    complete = np.flatnonzero(truth.complete)
    rest = np.arange(len(found.points))
    if not len(truth.points) or not len(rest):
        empty = np.zeros(0, int)
        return Matching(np.zeros((0, 2), int), complete, empty, rest, empty)
    line = truth_line(truth.points)
    true_boxes, boxes = boxes_in_plane(truth.points, line), boxes_in_plane(found.points, line)
    pairs = _assign(overlap(true_boxes[complete], boxes))
    pairs[:, 0] = complete[pairs[:, 0]]
    rest = np.setdiff1d(rest, pairs[:, 1])
    cut = _on_cut_vertebra(boxes[rest], true_boxes[~truth.complete]) | ~found.complete[rest]
    outside = ~cut & _beyond(boxes[rest], true_boxes)
    return Matching(
        pairs=pairs,
        missed=np.setdiff1d(complete, pairs[:, 0]),
        false=rest[~cut & ~outside],
        outside=rest[outside],
        ignored=rest[cut],
    )


def _assign(iou: Float[np.ndarray, "k n"]) -> Int[np.ndarray, "m 2"]:
    """Pairs of the one-to-one assignment with the most matches, in order of the rows."""
    value = np.where(iou > MATCH_IOU, 1.0 + iou, 0.0)  # one more match outweighs any gain in overlap
    pairs = np.stack(linear_sum_assignment(value, maximize=True), axis=1)
    return pairs[value[pairs[:, 0], pairs[:, 1]] > 0]


def _on_cut_vertebra(boxes: np.ndarray, cut_boxes: np.ndarray) -> np.ndarray:
    smaller = np.minimum(areas(boxes)[:, None], areas(cut_boxes)[None])
    shared = np.nan_to_num(intersections(boxes, cut_boxes) / smaller)
    return np.asarray((shared > SAME_BODY).any(axis=1))


def _beyond(boxes: np.ndarray, true_boxes: np.ndarray) -> np.ndarray:
    """Centre above the first or below the last annotated box, and hardly any common area with either."""
    middle = boxes[:, 1::2].mean(1)
    away = (middle < true_boxes[:, 1].min()) | (middle > true_boxes[:, 3].max())
    shared = intersections(boxes, true_boxes) / areas(boxes)[:, None]
    return away & (np.nan_to_num(shared) < APART).all(1)


def strictly(matching: Matching, found: Found) -> Matching:
    """The same matching without leniency.

    Finds outside the annotated range become false, and a matched vertebra without published heights becomes missed.
    """
    measured = np.isfinite(found.g[matching.pairs[:, 1]])
    return replace(
        matching,
        pairs=matching.pairs[measured],
        missed=np.sort(np.r_[matching.missed, matching.pairs[~measured, 0]]),
        false=np.sort(np.r_[matching.false, matching.outside]),
        outside=np.zeros(0, int),
        ignored=np.sort(np.r_[matching.ignored, matching.pairs[~measured, 1]]),
    )
