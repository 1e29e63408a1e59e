"""Phantoms as training spines: sampled straight on the planes, without a CT grid in between."""

import numpy as np
from scipy.interpolate import interp1d
from scipy.ndimage import convolve1d

from vertebra_core.phantom.anatomy import Phantom
from vertebra_core.settings import StraightenSettings
from vertebra_core.straighten import StraightSpine
from vertebra_core.training.spines import BEYOND_MM, STACK_U_MM, STACK_V_MM, Spine, known_range, true_line
from vertebra_core.volume import AIR_HU

SLICE_PROFILE = (0.25, 0.5, 0.25)
"""A slice of 1 mm on pixels of 0.5 mm. Odd: an even filter moves the image by half a pixel against its keypoints."""
BLUR_MM = (0.35, 0.7)
"""Range of the point spread function's standard deviation: sharp to soft reconstruction kernels."""

SAMPLED_U_MM = np.linspace(STACK_U_MM[0], STACK_U_MM[-1], 5)
"""Planes that are evaluated; those between are interpolated, for bodies change little in 4 mm sideways."""


def phantom_spine(name: str, phantom: Phantom, rng: np.random.Generator) -> Spine:
    """Planes of a phantom along its true centre line, as a sharp scan with thin slices would show them."""
    truth = phantom.truth
    line = true_line(truth.points, BEYOND_MM)
    pixel = StraightenSettings().pixel_mm
    v = np.arange(-STACK_V_MM, STACK_V_MM + pixel / 2, pixel)
    s = np.arange(0.0, line.length + pixel / 2, pixel)
    left, posterior, _ = line.frame(s)
    middle = line.position(s)[:, None] + v[:, None] * posterior[:, None]
    blur = rng.uniform(*BLUR_MM)
    sampled = np.stack([phantom.hu(middle + u * left[:, None], blur_mm=blur) for u in SAMPLED_U_MM])
    planes = interp1d(SAMPLED_U_MM, sampled, axis=0, copy=False)(STACK_U_MM)
    planes = convolve1d(planes, SLICE_PROFILE, axis=1, mode="nearest")
    planes = np.rint(np.clip(planes, AIR_HU, 3000)).astype(np.int16)
    straight = StraightSpine(
        planes[:1].astype(np.float32), np.ones(planes.shape[1:], bool), line, np.array([v[0], 0.0]), pixel
    )
    points = straight.straight_from_patient(truth.points)
    known = known_range(truth, points[..., 1].min(1), points[..., 1].max(1))
    return Spine(name, planes, straight.valid, straight.origin_mm, pixel, points, truth.complete, known, 0.0)
