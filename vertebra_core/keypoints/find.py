"""Step 2 of the method: the vertebrae of a straightened spine and their six keypoints (paper 3.2)."""

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.ndimage import distance_transform_edt
from torch import Tensor, nn

from vertebra_core.errors import NotEvaluable, Reason
from vertebra_core.keypoints.anchors import anchor_sizes, boxes_of, decode, suppress
from vertebra_core.keypoints.network import KeypointDetector, KeypointRefiner, normalise, soft_argmax_2d
from vertebra_core.keypoints.patches import patches_around, sample_patches
from vertebra_core.settings import KeypointSettings
from vertebra_core.straighten import StraightSpine

SEEN_POINTS = 3
"""A find with fewer keypoints inside the image is no vertebra in view, but one guessed beyond its end."""


@dataclass(frozen=True)
class KeypointModels:
    """The networks of step 2.

    Parameters
    ----------
    detector : KeypointDetector
        Anchor network on the whole plane.
    refiner : KeypointRefiner or None
        Heat maps on a patch turned to each vertebra; None: the detector's own points are used.
    """

    detector: KeypointDetector
    refiner: KeypointRefiner | None


@dataclass(frozen=True)
class FoundVertebrae:
    """Vertebrae of one plane, from the top down.

    Parameters
    ----------
    points : array [k, 6, 2]
        Keypoints (v, s), mm.
    scores : array [k]
        Objectness of the best anchor, 0 to 1.
    errors : array [k, 4]
        Expected absolute error of ha, hm and hp as a share of each, and of G; not yet calibrated
        (`vertebra_core.settings.MeasureSettings`). NaN without a refiner.
    complete : array [k], bool
        False where a keypoint lies beyond the end of the image or within ``settings.edge_mm`` of it.
    """

    points: Float[np.ndarray, "k 6 2"]
    scores: Float[np.ndarray, "k"]
    errors: Float[np.ndarray, "k 4"]
    complete: Bool[np.ndarray, "k"]


def find_keypoints(spine: StraightSpine, models: KeypointModels, settings: KeypointSettings) -> FoundVertebrae:
    """Detect the vertebrae, refine their points and order them from the top down.

    Raises
    ------
    NotEvaluable
        NO_VERTEBRA: nothing on the plane looks like a vertebra.
    """
    device = next(models.detector.parameters()).device
    planes = torch.from_numpy(spine.planes).to(device)
    with torch.inference_mode():
        points, scores = detect(planes, spine, models.detector, settings)
        errors = np.full((len(points), 4), np.nan)
        if len(points) and models.refiner is not None:
            points, errors = refine(planes, spine, models.refiner, points)
    inside_mm = distance_to_edge(spine, points)
    seen = (inside_mm > 0).sum(1) >= SEEN_POINTS
    points, scores, errors, inside_mm = points[seen], scores[seen], errors[seen], inside_mm[seen]
    if not len(points):
        raise NotEvaluable(Reason.NO_VERTEBRA, "no vertebra was found on the straightened plane")
    order = np.argsort(points[..., 1].mean(1), kind="stable")
    complete = inside_mm.min(1) > settings.edge_mm
    return FoundVertebrae(points[order], scores[order], errors[order], complete[order])


def detect(
    planes: Tensor, spine: StraightSpine, detector: KeypointDetector, settings: KeypointSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Anchors above the score, merged by non-maximum suppression: points [k, 6, 2] mm and scores [k].

    The points of a vertebra are the mean over all anchors that voted for it, weighted by their scores.
    """
    coarse = round(KeypointDetector.PIXEL_MM / spine.pixel_mm)
    x = nn.functional.avg_pool2d(normalise(planes)[None], coarse)
    rows, columns = x.shape[-2:]
    stride = KeypointDetector.STRIDE
    x = nn.functional.pad(x, (0, -columns % stride, 0, -rows % stride), value=-1.0)
    objectness, features = detector(x)
    score = objectness[:, :, :rows, :columns].float().sigmoid()
    image, anchor, row, column = torch.where(score > settings.min_score)
    if not len(anchor):
        return np.zeros((0, 6, 2)), np.zeros(0)
    scores = score[image, anchor, row, column].cpu().numpy().astype(float)
    encodings = detector.keypoints(features, image, anchor, row, column).cpu().numpy().astype(float)
    anchor, row, column = (i.cpu().numpy() for i in (anchor, row, column))
    first = spine.origin_mm + (coarse - 1) / 2 * spine.pixel_mm  # centre of the first pooled pixel
    centres = first + np.stack([column, row], 1) * coarse * spine.pixel_mm
    points = decode(encodings, centres, anchor_sizes()[anchor])
    near = np.abs(points[..., 0].mean(1)) <= settings.max_off_line_mm
    points, scores = points[near], scores[near]
    groups = suppress(boxes_of(points), scores, settings.max_overlap)
    merged = [np.average(points[group], axis=0, weights=scores[group]) for group in groups]
    return np.array(merged).reshape(-1, 6, 2), np.array([scores[group[0]] for group in groups])


def refine(
    planes: Tensor, spine: StraightSpine, refiner: KeypointRefiner, points: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Read all six points again on a patch turned and scaled to each vertebra.

    Returns
    -------
    points [k, 6, 2] mm, errors [k, 4] as in `FoundVertebrae`
    """
    patches = patches_around(points, KeypointRefiner.SIDE)
    x = normalise(sample_patches(planes, spine.origin_mm, spine.pixel_mm, patches))
    logits, log_error = refiner(x)
    pixels = soft_argmax_2d(logits).cpu().numpy().astype(float)
    expected = log_error.float().exp().cpu().numpy().astype(float)  # of ha, hm, hp in pixels, of 100 G
    heights = np.linalg.norm(pixels[:, 0::2] - pixels[:, 1::2], axis=-1)
    errors = np.concatenate([expected[:, :3] / np.maximum(heights, 1.0), expected[:, 3:] / 100], 1)
    return patches.plane_from_patch(pixels), errors


def distance_to_edge(spine: StraightSpine, points: Float[np.ndarray, "k 6 2"]) -> Float[np.ndarray, "k 6"]:
    """Distance, mm, of every keypoint from the nearest pixel outside the image; 0 for a keypoint outside.

    Completeness is geometry, not score: vertebrae cut by the edge score as high as whole ones (docs/experiments.md).
    """
    framed = np.pad(spine.valid, 1)  # the image ends where the plane ends
    distance = cast(np.ndarray, distance_transform_edt(framed)) * spine.pixel_mm
    pixels = np.rint(spine.pixel_from_straight(points)).astype(int) + 1
    last = np.array(framed.shape[::-1]) - 1
    column, row = np.moveaxis(np.clip(pixels, 0, last), -1, 0)
    return distance[row, column]
