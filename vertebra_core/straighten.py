"""Straightening: the mid-sagittal plane along the centre line, sampled straight from the original volume.

The paper (section 3.1) interpolates a whole straightened grid and keeps one plane of it; here only the planes
that the second network reads are ever sampled.
"""

from dataclasses import dataclass
from typing import cast

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import label, map_coordinates, maximum_filter, minimum_filter

from vertebra_core.geometry import CentreLine, apply_affine
from vertebra_core.settings import StraightenSettings
from vertebra_core.volume import AIR_HU, Volume

PADDING_BELOW_HU, EVEN_HU, EVEN_PIXELS = -900.0, 1.0, 5
"""Padding is darker than this and varies by less than this over this many pixels: no scanner's air is so even."""


@dataclass(frozen=True)
class StraightSpine:
    """Parallel sagittal planes along the line, and both maps between plane and patient.

    Parameters
    ----------
    planes : array [c, s, v], float32
        HU of the planes at u = ``parallel_mm``; rows run down the line, columns from anterior to posterior.
        Outside the volume: air.
    valid : array [s, v], bool
        Where the mid-sagittal plane lies inside the volume, is not padding, and neighbouring planes do not cross.
    curve : CentreLine
    origin_mm : array [2]
        (v, s) of the centre of pixel [0, 0].
    pixel_mm : float
    """

    planes: Float[np.ndarray, "c s v"]
    valid: Bool[np.ndarray, "s v"]
    curve: CentreLine
    origin_mm: Float[np.ndarray, "2"]
    pixel_mm: float

    @property
    def mid_sagittal(self) -> Float[np.ndarray, "s v"]:
        """HU of the plane at u = 0, the middle one (`StraightenSettings.parallel_mm`)."""
        return self.planes[len(self.planes) // 2]

    def patient_from_straight(self, points: Float[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n 3"]:
        """Map points (v, s) mm of the mid-sagittal plane (u = 0) to LPS mm."""
        return self.curve.patient_from_straight(np.concatenate([np.zeros_like(points[..., :1]), points], -1))

    def straight_from_patient(self, points: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 2"]:
        """Map LPS mm to (v, s) mm, dropping the distance u from the mid-sagittal plane."""
        return self.curve.straight_from_patient(points)[..., 1:]

    def pixel_from_straight(self, points: Float[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n 2"]:
        """Map (v, s) mm to (column, row); pixel centres are whole numbers."""
        return (points - self.origin_mm) / self.pixel_mm

    def straight_from_pixel(self, pixels: Float[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n 2"]:
        """Map (column, row) to (v, s) mm."""
        return pixels * self.pixel_mm + self.origin_mm


def sample_volume(volume: Volume, points: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n"]:
    """HU at LPS points by trilinear interpolation, float32; NaN outside the volume."""
    voxel = apply_affine(np.linalg.inv(volume.patient_from_voxel), points)
    coordinates = np.moveaxis(voxel[..., ::-1], -1, 0)
    # An offset of rounding size must not push a point on the last voxel centre outside.
    last = (np.array(volume.hu.shape, float) - 1).reshape(3, *[1] * (coordinates.ndim - 1))
    coordinates = np.where(np.abs(coordinates) < 1e-6, 0.0, coordinates)
    coordinates = np.where(np.abs(coordinates - last) < 1e-6, last, coordinates)
    return map_coordinates(volume.hu, coordinates, np.float32, order=1, mode="constant", cval=np.nan)


def straighten(volume: Volume, curve: CentreLine, settings: StraightenSettings) -> StraightSpine:
    """Sample the parallel sagittal planes along the centre line (paper Fig. 2 d-f).

    Each row of a plane is a straight line across the curve; rows lie ``pixel_mm`` of arc length apart.
    """
    pixel = settings.pixel_mm
    v = np.arange(-settings.anterior_mm, settings.posterior_mm + pixel / 2, pixel)
    s = np.arange(0.0, curve.length + pixel / 2, pixel)
    left, posterior, _ = curve.frame(s)
    middle = curve.position(s)[:, None] + v[:, None] * posterior[:, None]  # [s, v, 3]
    planes = np.stack([sample_volume(volume, middle + u * left[:, None]) for u in settings.parallel_mm])
    uvs = np.stack(np.broadcast_arrays(0.0, v[None, :], s[:, None]), -1)
    centre = planes[len(planes) // 2]
    valid = np.isfinite(centre) & curve.unfolded(uvs)
    valid &= ~padding(centre, valid)
    return StraightSpine(np.nan_to_num(planes, nan=AIR_HU), valid, curve, np.array([v[0], 0.0]), pixel)


def padding(plane: Float[np.ndarray, "s v"], inside: Bool[np.ndarray, "s v"]) -> Bool[np.ndarray, "s v"]:
    """Pixels that a turned reformat was padded with: dark, perfectly even, and joined to the end of the image.

    Air in the body is noisy or enclosed, so neither the windpipe nor the bowel is taken for padding.
    """
    dark = inside & (np.nan_to_num(plane, nan=AIR_HU) < PADDING_BELOW_HU)
    values = np.where(inside, plane, AIR_HU)
    even = dark & (maximum_filter(values, EVEN_PIXELS) - minimum_filter(values, EVEN_PIXELS) < EVEN_HU)
    even = np.logical_and(dark, maximum_filter(even, EVEN_PIXELS))  # back to the edge that the filters shrank it from
    regions, _ = cast(tuple[np.ndarray, int], label(np.pad(np.logical_or(even, ~inside), 1, constant_values=True)))
    return (regions == regions[0, 0])[1:-1, 1:-1] & inside
