"""Heights and the Genant index of vertebrae from their six keypoints (paper section 1, equation 1)."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

ANTERIOR_TOP, ANTERIOR_BOTTOM, MIDDLE_TOP, MIDDLE_BOTTOM, POSTERIOR_TOP, POSTERIOR_BOTTOM = range(6)
KEYPOINT_NAMES = (
    "anterior_top",
    "anterior_bottom",
    "middle_top",
    "middle_bottom",
    "posterior_top",
    "posterior_bottom",
)


@dataclass(frozen=True)
class Sizes:
    """Sizes of k vertebrae; an unmeasured value is NaN here and NULL in every table.

    Parameters
    ----------
    ha_mm, hm_mm, hp_mm : array [k]
        Anterior, middle and posterior height, mm.
    g : array [k]
        Genant index min/max of the three heights, in (0, 1].
    depth_mm : array [k]
        Mean antero-posterior length of the two endplates between the keypoints, mm.
    """

    ha_mm: Float[np.ndarray, "k"]
    hm_mm: Float[np.ndarray, "k"]
    hp_mm: Float[np.ndarray, "k"]
    g: Float[np.ndarray, "k"]
    depth_mm: Float[np.ndarray, "k"]


def genant_index(heights: Float[np.ndarray, "*k 3"]) -> Float[np.ndarray, "*k"]:
    """G = min/max of the three heights (paper equation 1); NaN where a height is missing or not positive.

    Examples
    --------
    >>> genant_index(np.array([[18.0, 25.0, 25.0], [0.0, 25.0, 25.0]])).tolist()
    [0.72, nan]
    """
    usable = np.all((heights > 0) & np.isfinite(heights), axis=-1)
    safe = np.where(usable[..., None], heights, 1.0)
    return np.where(usable, safe.min(-1) / safe.max(-1), np.nan)


def measure_vertebrae(points: Float[np.ndarray, "k 6 3"]) -> Sizes:
    """Heights, Genant index and depth of vertebrae whose keypoints are in LPS mm.

    Heights are straight lengths between the ends in 3D, never in the straightened plane, where kyphosis
    stretches and squeezes them.

    Examples
    --------
    >>> square = np.array([[[0, 0, 20], [0, 0, 0], [0, 15, 19], [0, 15, 1], [0, 30, 20], [0, 30, 0]]], float)
    >>> sizes = measure_vertebrae(square)
    >>> sizes.hm_mm.tolist(), sizes.g.tolist(), sizes.depth_mm.tolist()
    ([18.0], [0.9], [30.0])
    """
    heights = np.linalg.norm(points[:, 0::2] - points[:, 1::2], axis=-1)
    plates = np.linalg.norm(points[:, [POSTERIOR_TOP, POSTERIOR_BOTTOM]] - points[:, :2], axis=-1)
    ha, hm, hp = heights.T
    return Sizes(ha, hm, hp, genant_index(heights), plates.mean(1))
