"""The same scan as it might have been made otherwise: thicker, noisier, turned, mirrored, cropped.

Every function takes a `Volume` and gives the new one with the map from old to new LPS coordinates (4 x 4).
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy.ndimage import convolve1d, gaussian_filter

from vertebra_core.geometry import CentreLine, apply_affine
from vertebra_core.volume import Volume

Copy = tuple[Volume, np.ndarray]
STAYS = np.eye(4)


def spacing_of(volume: Volume) -> np.ndarray:
    """Spacing of the array axes (z, y, x), mm."""
    return np.linalg.norm(volume.patient_from_voxel[:3, :3], axis=0)[::-1]


def thick(volume: Volume, spacing_mm: float) -> Copy:
    """Slices of that thickness and spacing along the first array axis: box profile, one after the other."""
    thin = spacing_of(volume)[0]
    reach = int(np.ceil(spacing_mm / thin / 2 + 0.5))
    profile = np.clip(spacing_mm / thin / 2 + 0.5 - np.abs(np.arange(-reach, reach + 1)), 0, 1)
    smooth = convolve1d(volume.hu.astype(np.float32), profile / profile.sum(), axis=0, mode="nearest")
    place = np.arange(0, (len(smooth) - 1) * thin + 1e-6, spacing_mm) / thin
    lower = np.minimum(place.astype(int), len(smooth) - 2)
    share = (place - lower)[:, None, None]
    affine = volume.patient_from_voxel.copy()
    affine[:3, 2] *= spacing_mm / thin
    return _with(volume, smooth[lower] * (1 - share) + smooth[lower + 1] * share, affine), STAYS


def noisy(volume: Volume, sigma_hu: float, seed: int = 0) -> Copy:
    """White noise smoothed to the grain of a soft kernel (0.6 mm), of that standard deviation."""
    noise = np.random.default_rng(seed).standard_normal(volume.hu.shape, np.float32)
    noise = gaussian_filter(noise, 0.6 / spacing_of(volume))
    return _with(volume, volume.hu + noise * (sigma_hu / noise.std())), STAYS


def contrast(volume: Volume, factor: float) -> Copy:
    """HU above water scaled: other tube voltage, other density."""
    return _with(volume, np.where(volume.hu > 0, volume.hu * factor, volume.hu)), STAYS


def softer(volume: Volume, sigma_mm: float) -> Copy:
    """A softer kernel: Gaussian blur in the slice."""
    spacing = spacing_of(volume)
    return _with(volume, gaussian_filter(volume.hu.astype(np.float32), (0, *(sigma_mm / spacing[1:])))), STAYS


def sharper(volume: Volume, sigma_mm: float, gain: float) -> Copy:
    """A sharper kernel: the difference to a blur added, `gain` times."""
    soft = softer(volume, sigma_mm)[0].hu.astype(np.float32)
    return _with(volume, volume.hu + gain * (volume.hu - soft)), STAYS


def turned(volume: Volume, degrees: float, axis: int) -> Copy:
    """The patient lying turned about an axis of the patient frame (0 x, 1 y, 2 z)."""
    a, b = [i for i in range(3) if i != axis]
    turn = np.eye(4)
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn[a, a], turn[a, b], turn[b, a], turn[b, b] = cos, -sin, sin, cos
    return replace(volume, patient_from_voxel=turn @ volume.patient_from_voxel), turn


def mirrored(volume: Volume) -> Copy:
    """Left and right exchanged."""
    mirror = np.diag([-1.0, 1.0, 1.0, 1.0])
    return replace(volume, patient_from_voxel=mirror @ volume.patient_from_voxel), mirror


def cropped(volume: Volume, line: CentreLine, width_mm: float) -> Copy:
    """A field of view of that width about the mean of the line, in the slice; cut off, not padded."""
    voxel = apply_affine(np.linalg.inv(volume.patient_from_voxel), line.position(np.linspace(0, line.length, 50)))
    middle, half = voxel[:, :2].mean(0), width_mm / 2 / spacing_of(volume)[:0:-1]
    low = np.maximum(np.floor(middle - half), 0).astype(int)
    high = np.minimum(np.ceil(middle + half), np.array(volume.hu.shape[:0:-1])).astype(int)
    affine = volume.patient_from_voxel.copy()
    affine[:3, 3] = apply_affine(affine, np.array([[low[0], low[1], 0.0]]))[0]
    return _with(volume, volume.hu[:, low[1] : high[1], low[0] : high[0]], affine), STAYS


def copies_of(volume: Volume, line: CentreLine) -> dict[str, Callable[[], Copy]]:
    """Every copy of the study by its name; made when asked for."""
    return {
        "slices 2.5 mm": lambda: thick(volume, 2.5),
        "slices 3.3 mm": lambda: thick(volume, 3.3),
        "slices 5 mm": lambda: thick(volume, 5.0),
        "noise 60 HU": lambda: noisy(volume, 60.0),
        "contrast 0.7": lambda: contrast(volume, 0.7),
        "contrast 1.3": lambda: contrast(volume, 1.3),
        "softer kernel": lambda: softer(volume, 0.7),
        "sharper kernel": lambda: sharper(volume, 0.7, 1.0),
        "turned 15 about z": lambda: turned(volume, 15.0, 2),
        "turned 15 about x": lambda: turned(volume, 15.0, 0),
        "turned 15 about y": lambda: turned(volume, 15.0, 1),
        "mirrored": lambda: mirrored(volume),
        "field of view 12 cm": lambda: cropped(volume, line, 120.0),
    }


def _with(volume: Volume, hu: np.ndarray, affine: np.ndarray | None = None) -> Volume:
    whole = np.clip(np.rint(hu), -32000, 32000).astype(np.int16)
    return replace(volume, hu=whole, patient_from_voxel=volume.patient_from_voxel if affine is None else affine)
