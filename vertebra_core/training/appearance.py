"""How a scanner might have shown the same spine: contrast, kernel, slice thickness, noise, the end of the scan."""

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn import functional as F

from vertebra_core.volume import AIR_HU

THICK = 0.45
"""Share of sharp sources that are shown in slices of 1 to 5 mm."""


def blur(planes: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of every plane [c, h, w], sigma in pixels."""
    if sigma < 0.2:
        return planes
    return torch.from_numpy(gaussian_filter(planes.numpy(), (0, sigma, sigma), mode="nearest", truncate=3.0))


def thick_slices(planes: Tensor, thickness: float, angle: float) -> Tensor:
    """Average along a direction near the axis of the spine, as a slice of that thickness does.

    Parameters
    ----------
    planes : tensor [c, h, w]
    thickness : float
        Full width of the slice profile, pixels.
    angle : float
        Radians between the slice normal and the rows' direction: axial slices cut a kyphotic spine obliquely.
    """
    if thickness < 1.0:
        return planes
    reach = int(thickness / 2 + 1.5)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(float)
    along, across = y * np.cos(angle) + x * np.sin(angle), -y * np.sin(angle) + x * np.cos(angle)
    profile = np.clip(thickness / 2 + 0.5 - np.abs(along), 0, 1) * np.clip(1 - np.abs(across), 0, 1)
    kernel = torch.from_numpy(profile / profile.sum()).float()[None, None]
    return F.conv2d(F.pad(planes[:, None], (reach,) * 4, mode="replicate"), kernel)[:, 0]


def as_slices(planes: Tensor, thickness: float, spacing: float, angle: float, phase: float) -> Tensor:
    """The planes as a scan with thick slices shows them once interpolated between its slices.

    Every slice averages over its thickness, and what lies between two slices is a mixture of them, as in
    `vertebra_core.straighten`: a blur that changes along the spine with the period of the slices.

    Parameters
    ----------
    planes : tensor [c, h, w]
    thickness, spacing : float
        Full width of the slice profile and distance of slices, pixels.
    angle : float
        Radians between the slice normal and the rows' direction: axial slices cut a kyphotic spine obliquely.
    phase : float
        Where the first slice lies, as a share of the spacing.
    """
    averaged = thick_slices(planes, thickness, angle)
    height, width = planes.shape[-2:]
    row, column = torch.meshgrid(torch.arange(height).float(), torch.arange(width).float(), indexing="ij")
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    along = row * cos + column * sin
    number = along / spacing + phase
    lower = number.floor()

    def slice_at(which: Tensor) -> Tensor:
        """Values of the slices `which` [h, w] at the foot of every pixel on them."""
        step = (which - phase) * spacing - along
        x, y = 2 * (column + step * sin + 0.5) / width - 1, 2 * (row + step * cos + 0.5) / height - 1
        grid = torch.stack([x, y], -1)[None]
        return F.grid_sample(averaged[None], grid, padding_mode="border", align_corners=False)[0]

    share = number - lower
    return (1 - share) * slice_at(lower) + share * slice_at(lower + 1)


def correlated_noise(shape: tuple[int, int, int], sigma_hu: float, grain: float, rng: np.random.Generator) -> Tensor:
    """Noise of a reconstruction kernel: white noise blurred to `grain` pixels, then scaled to `sigma_hu`."""
    white = torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))
    noise = blur(white, grain)
    return noise * (sigma_hu / noise.std().clamp_min(1e-6))


def random_contrast(planes: Tensor, rng: np.random.Generator, strength: float = 1.0) -> Tensor:
    """Another bone density, another calibration, a bent response: HU above soft tissue scaled by 0.5-1.6."""
    tissue = 40.0 + rng.normal(0, 30)
    scale = float(np.exp(strength * rng.uniform(np.log(0.5), np.log(1.6))))
    bone = (planes - tissue) * scale
    if rng.random() < 0.3:  # trabecular and cortical bone apart
        knee = 250.0
        bone = torch.where(bone > knee, knee + (bone - knee) * rng.uniform(0.5, 1.5), bone)
    return torch.where(planes > tissue, bone + tissue, planes) + rng.normal(0, 25)


def random_appearance(
    planes: Tensor, pixel_mm: float, sharp: bool, rng: np.random.Generator, strength: float = 1.0
) -> Tensor:
    """The same planes [c, h, w] HU as another scanner might show them.

    Parameters
    ----------
    sharp : bool
        True if the source is sharp enough to stand for a thick slice after averaging.
    strength : float
        1: anything a scanner has ever made; towards 0: what most scanners make.
    """
    if rng.random() < 0.8:
        planes = random_contrast(planes, rng, strength)
    if sharp and rng.random() < THICK:
        # At any strength: the same patient must get the same heights at every slice thickness.
        spacing = rng.uniform(1.0, 5.0) / pixel_mm
        angle = np.deg2rad(np.clip(rng.normal(0, 15), -40, 40))
        planes = as_slices(planes, spacing * rng.uniform(0.8, 1.4), spacing, angle, rng.random())
    if rng.random() < 0.4 * strength:
        planes = blur(planes, rng.uniform(0.3, 1.1) / pixel_mm)
    if rng.random() < 0.7:
        grain = rng.uniform(0.3, 1.0) / pixel_mm
        planes = planes + correlated_noise(
            (planes.shape[0], planes.shape[1], planes.shape[2]), rng.uniform(5, 5 + 55 * strength), grain, rng
        )
    return planes


def cut_ends(
    valid: np.ndarray, v_mm: np.ndarray, s_mm: np.ndarray, rng: np.random.Generator, probability: float = 0.35
) -> np.ndarray:
    """Valid pixels [s, v] after the scan was made to end, at a slant, somewhere in the plane."""
    before, valid = valid, valid.copy()
    for direction in (1.0, -1.0):
        if rng.random() < probability:
            slope = np.tan(np.deg2rad(np.clip(rng.normal(0, 18), -45, 45)))
            where = rng.uniform(s_mm[0], s_mm[-1])
            valid &= direction * (s_mm[:, None] - where - slope * v_mm[None]) > 0
    return valid if valid.mean() > 0.3 else before


def blank(planes: Tensor, valid: np.ndarray) -> Tensor:
    """Fill what lies outside the image with air."""
    return torch.where(torch.from_numpy(valid), planes, torch.tensor(AIR_HU))
