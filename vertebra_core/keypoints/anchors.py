"""Anchor boxes, their keypoint encoding and non-maximum suppression (paper 3.2, after YOLO9000 and Faster R-CNN).

Everything is in the straightened plane: coordinates (v, s) in mm, a box is (v_min, s_min, v_max, s_max).
"""

import numpy as np
from jaxtyping import Float, Int

SCALES_MM = (17.0, 23.0, 28.0, 35.0)
"""Anchor scales, mm: the square root of the box area (paper 3.2)."""
ASPECTS = (0.8, 1.1, 1.3, 2.0)
"""Anchor aspect ratios, width (v) over height (s) (paper 3.2)."""
POSITIVE_OVERLAP = 0.5
"""An anchor is a vertebra if their intersection over union is larger (paper Fig. 3 d)."""


def anchor_sizes() -> Float[np.ndarray, "a 2"]:
    """Width and height of the sixteen anchors, mm.

    Examples
    --------
    >>> anchor_sizes().shape, np.allclose(np.sqrt(anchor_sizes().prod(1))[:4], 17.0)
    ((16, 2), True)
    """
    scale, aspect = (grid.ravel() for grid in np.meshgrid(SCALES_MM, ASPECTS, indexing="ij"))
    return np.stack([scale * np.sqrt(aspect), scale / np.sqrt(aspect)], 1)


def boxes_of(points: Float[np.ndarray, "*k 6 2"]) -> Float[np.ndarray, "*k 4"]:
    """Axis-aligned bounding boxes of keypoints (paper Fig. 3 b)."""
    return np.concatenate([points.min(-2), points.max(-2)], -1)


def overlap(a: Float[np.ndarray, "m 4"], b: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, "m n"]:
    """Intersection over union of every box of `a` with every box of `b`.

    Examples
    --------
    >>> overlap(np.array([[0.0, 0, 2, 2]]), np.array([[1.0, 0, 3, 2], [5, 5, 6, 6]])).round(3).tolist()
    [[0.333, 0.0]]
    """
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    inside = np.clip(high - low, 0, None).prod(-1)
    area_a, area_b = ((x[:, 2:] - x[:, :2]).prod(-1) for x in (a, b))
    union = area_a[:, None] + area_b[None] - inside
    return np.divide(inside, union, out=np.zeros_like(inside), where=union > 0)


def anchor_overlap(
    boxes: Float[np.ndarray, "k 4"], v: Float[np.ndarray, "w"], s: Float[np.ndarray, "h"]
) -> Float[np.ndarray, "k a h w"]:
    """Intersection over union of vertebra boxes with the anchors centred on every pixel of a plane.

    The intersection of two axis-aligned boxes is a product of two lengths, so it is an outer product of one row
    and one column: the same numbers as `overlap`, without the millions of boxes.

    Parameters
    ----------
    boxes : array [k, 4]
        (v_min, s_min, v_max, s_max), mm.
    v, s : array
        Pixel centres of the plane, mm.
    """
    sizes = anchor_sizes().astype(np.float32)
    boxes, v, s = (x.astype(np.float32) for x in (boxes, v, s))

    def common(low: np.ndarray, high: np.ndarray, centres: np.ndarray, length: np.ndarray) -> np.ndarray:
        start, stop = centres[None] - length[:, None] / 2, centres[None] + length[:, None] / 2  # [a, n]
        return np.clip(np.minimum(high[:, None, None], stop) - np.maximum(low[:, None, None], start), 0, None)

    inside = (
        common(boxes[:, 1], boxes[:, 3], s, sizes[:, 1])[:, :, :, None]
        * common(boxes[:, 0], boxes[:, 2], v, sizes[:, 0])[:, :, None, :]
    )
    area = (boxes[:, 2:] - boxes[:, :2]).prod(-1)[:, None, None, None]
    return inside / (area + sizes.prod(1)[None, :, None, None] - inside)


def encode(points: np.ndarray, centres: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Keypoints relative to their anchors, e = (g - a) / size (paper equation 2).

    Parameters
    ----------
    points : array [n, 6, 2]
        Keypoints, mm.
    centres, sizes : array [n, 2]
        Anchor centre (v, s) and size (width, height), mm.
    """
    return (points - centres[:, None]) / sizes[:, None]


def decode(encoded: np.ndarray, centres: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Inverse of `encode`: mm from anchor units."""
    return encoded * sizes[:, None] + centres[:, None]


def suppress(
    boxes: Float[np.ndarray, "n 4"], scores: Float[np.ndarray, "n"], max_overlap: float
) -> list[Int[np.ndarray, "m"]]:
    """Greedy non-maximum suppression that keeps its votes.

    Returns
    -------
    list of int arrays
        One per vertebra, best first: the kept box and the boxes it suppressed, in falling order of score.
    """
    order = np.argsort(-scores, kind="stable")
    groups = []
    while len(order):
        near = overlap(boxes[order[:1]], boxes[order])[0] > max_overlap
        near[0] = True
        groups.append(order[near])
        order = order[~near]
    return groups
