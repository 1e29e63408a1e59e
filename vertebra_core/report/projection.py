"""The original CT seen from the side: a thin slab about the spine, averaged from left to right."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from vertebra_core.geometry import CentreLine
from vertebra_core.straighten import sample_volume
from vertebra_core.volume import Volume

SLAB_MM = 12.0
"""Thickness of the slab: about a third of the width of a lumbar body (anatomy: 40-50 mm), so that both endplates
stay sharp and the canal behind them stays open."""

SLAB_STEP_MM = 3.0
"""Distance of the samples across the slab."""

PIXEL_MM = 0.8
"""Pixel of the projection: the in-plane voxel of chest CT (0.5-1.0 mm, paper section 4)."""

BEFORE_MM, BEHIND_MM = 105.0, 75.0
"""How far the picture reaches in front of and behind the spine: heart and aorta, spinous processes and skin."""

ABOVE_MM = 25.0
"""How far it reaches above the first and below the last point of the line."""


@dataclass(frozen=True)
class SagittalProjection:
    """A projection along x in the patient frame.

    Parameters
    ----------
    hu : array [z, y], float32
        Mean HU of the slab; rows run downward (z falls), columns from anterior to posterior. NaN outside the volume.
    y_mm, z_mm : tuple of float
        LPS coordinates of the outer pixel edges: (front, back) and (top, bottom).
    """

    hu: Float[np.ndarray, "z y"]
    y_mm: tuple[float, float]
    z_mm: tuple[float, float]


def project_sagittal(volume: Volume, curve: CentreLine) -> SagittalProjection:
    """Average a slab that follows the spine from side to side, so that a scoliotic spine is seen whole.

    Sampled on a grid of the patient frame, whatever the axes of the volume are. At each height z the slab is
    centred on the line; above and below the line it stays where the line ended.
    """
    s = np.arange(0.0, curve.length, 1.0)
    line = curve.position(s)
    corners = volume.corners
    front = max(line[:, 1].min() - BEFORE_MM, corners[:, 1].min())
    back = min(line[:, 1].max() + BEHIND_MM, corners[:, 1].max())
    bottom = max(line[:, 2].min() - ABOVE_MM, corners[:, 2].min())
    top = min(line[:, 2].max() + ABOVE_MM, corners[:, 2].max())
    y = np.arange(front, back, PIXEL_MM)
    z = np.arange(top, bottom, -PIXEL_MM)
    upward = np.argsort(line[:, 2])
    middle = np.interp(z, line[upward, 2], line[upward, 0])
    total = np.zeros((len(z), len(y)), np.float32)
    count = np.zeros_like(total)
    for offset in np.arange(-SLAB_MM / 2, SLAB_MM / 2 + 1e-9, SLAB_STEP_MM):
        points = np.stack(np.broadcast_arrays((middle + offset)[:, None], y[None], z[:, None]), -1)
        hu = sample_volume(volume, points)
        inside = np.isfinite(hu)
        total[inside] += hu[inside]
        count[inside] += 1
    mean = np.full_like(total, np.nan)
    np.divide(total, count, out=mean, where=count > 0)
    half = PIXEL_MM / 2
    return SagittalProjection(mean, (y[0] - half, y[-1] + half), (z[0] + half, z[-1] - half))
