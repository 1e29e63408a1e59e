"""Heights and the Genant index of vertebrae from their six keypoints (paper section 1, equation 1)."""

from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Bool, Float

from vertebra_core.settings import MeasureSettings

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
    ha_se_mm, hm_se_mm, hp_se_mm : array [k]
        Standard errors of the heights, mm.
    g_se : array [k]
        Standard error of G.
    """

    ha_mm: Float[np.ndarray, "k"]
    hm_mm: Float[np.ndarray, "k"]
    hp_mm: Float[np.ndarray, "k"]
    g: Float[np.ndarray, "k"]
    depth_mm: Float[np.ndarray, "k"]
    ha_se_mm: Float[np.ndarray, "k"]
    hm_se_mm: Float[np.ndarray, "k"]
    hp_se_mm: Float[np.ndarray, "k"]
    g_se: Float[np.ndarray, "k"]


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


def measure_vertebrae(
    points: Float[np.ndarray, "k 6 3"],
    errors: Float[np.ndarray, "k 4"] | None = None,
    spacing_mm: float = 1.0,
    settings: MeasureSettings | None = None,
) -> Sizes:
    """Heights, Genant index and depth of vertebrae whose keypoints are in LPS mm.

    `errors` are expected absolute errors of ha, hm and hp as shares of each and of G
    (`vertebra_core.keypoints.find.FoundVertebrae`), `spacing_mm` the distance of the slices across the endplates
    (`vertebra_core.volume.Volume.head_foot_spacing`); without errors the standard errors are NaN.

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
    height_se, g_se = standard_errors(heights, errors, spacing_mm, settings or MeasureSettings())
    ha_se, hm_se, hp_se = height_se.T
    return Sizes(ha, hm, hp, genant_index(heights), plates.mean(1), ha_se, hm_se, hp_se, g_se)


def unmeasured(sizes: Sizes, lost: Bool[np.ndarray, "k"]) -> Sizes:
    """The same sizes, without those of the vertebrae that are lost in a gap of the scan.

    Examples
    --------
    >>> sizes = measure_vertebrae(np.array([[[0, 0, 20], [0, 0, 0]] * 3] * 2, float))
    >>> unmeasured(sizes, np.array([True, False])).ha_mm.tolist()
    [nan, 20.0]
    """
    return Sizes(**{field.name: np.where(lost, np.nan, getattr(sizes, field.name)) for field in fields(sizes)})


def standard_errors(
    heights: Float[np.ndarray, "k 3"],
    errors: Float[np.ndarray, "k 4"] | None,
    spacing_mm: float,
    settings: MeasureSettings,
) -> tuple[Float[np.ndarray, "k 3"], Float[np.ndarray, "k"]]:
    """Calibrated standard errors of the heights, mm, and of G: what the network expects, and the blur of the slices."""
    if errors is None:
        return np.full_like(heights, np.nan), np.full(len(heights), np.nan)
    blurred = max(0.0, spacing_mm - settings.sharp_mm)
    heights_se = np.hypot(settings.height_error_scale * errors[:, :3] * heights, settings.height_blur * blurred)
    return heights_se, np.hypot(settings.g_error_scale * errors[:, 3], settings.g_blur_per_mm * blurred)
