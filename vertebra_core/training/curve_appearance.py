"""What else a scan might have looked like to the first network: contrast medium, bone density, noise, thick slices.

Bright vessels matter most: networks that had not seen any put the line into the contrast-filled heart and aorta
of the first two patients that had them.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vertebra_core.volume import AIR_HU

SOFT_HU = (-120.0, 140.0)
"""Only soft tissue takes contrast medium: lung, gas and bone keep their values."""
THIN_HU, THIN_MM = 30.0, 55.0
"""Bone of an osteoporotic spine falls to this, within this distance of the line: the whole vertebra."""
VESSELS, HEART = range(52, 69), (51, 53, 61)
OTHER_ORGANS = (1, 2, 3, 5, 6, 7, 15, 17, 18, 19, 20)
"""Classes of the label map (labels/lidc_idri_0001_structures.csv): spleen, kidneys, liver, stomach, bowel, ..."""


def paint_structures(hu: Tensor, structures: Tensor, rng: np.random.Generator) -> Tensor:
    """Give labelled organs and vessels new mean values, keeping their texture.

    All arteries and veins share a value but for a spread: contrast medium passes through them in turn.
    """
    blood = rng.uniform(20, 550)
    new = torch.full((256,), torch.nan)
    for label in (*VESSELS, *HEART):
        new[label] = float(np.clip(blood + rng.normal(0, 80), 0, 700))
    for label in OTHER_ORGANS:
        if rng.random() < 0.5:
            new[label] = float(rng.uniform(0, 350))
    out = hu.clone()
    for label in structures.unique().long().tolist():
        if not torch.isnan(new[label]):
            inside = structures == label
            out[inside] += new[label] - hu[inside].mean()
    return out


def paint_vessels(hu: Tensor, points: Tensor, grid_mm: float, rng: np.random.Generator) -> Tensor:
    """Raise soft tissue inside an invented aorta, and heart-, kidney- and bowel-like ellipsoids.

    Parameters
    ----------
    hu : tensor [Z, Y, X]
    points : tensor [Z, 2]
        (x, y) of the spine in each slice, voxels; shapes keep away from the bodies by their radius.
    """
    z, y, x = torch.meshgrid(*[torch.arange(n, dtype=torch.float32) for n in hu.shape], indexing="ij")
    dx, dy = ((x - points[:, 0, None, None]) * grid_mm, (y - points[:, 1, None, None]) * grid_mm)
    soft = (hu > SOFT_HU[0]) & (hu < SOFT_HU[1])
    gain = torch.zeros_like(hu)
    strength = float(rng.uniform(80, 480))
    if rng.random() < 0.7:  # aorta: 25 mm wide in health, aneurysms to 70 mm
        radius = rng.uniform(9, 16) if rng.random() < 0.75 else rng.uniform(16, 32)
        side, front = rng.uniform(-10, 28), 20.0 + radius
        gain = torch.where((dx - side) ** 2 + (dy + front) ** 2 < radius**2, strength, gain)
    for _ in range(rng.integers(0, 5)):
        axes = rng.uniform(15, 60, 3)
        side, front = rng.uniform(-110, 110), rng.uniform(-20, 110)
        if np.hypot(side, front) < 28 + axes[:2].max():  # would reach the bodies
            front = 28 + axes[:2].max()
        height = rng.uniform(0, hu.shape[0])
        inside = ((dx - side) / axes[0]) ** 2 + ((dy + front) / axes[1]) ** 2
        inside = inside + ((z - height) * grid_mm / axes[2]) ** 2 < 1
        gain = torch.where(inside, strength * float(rng.uniform(0.3, 1.2)), gain)
    return torch.where(soft, hu + gain, hu)


def thin_bone(hu: Tensor, points: Tensor, grid_mm: float, rng: np.random.Generator) -> Tensor:
    """Osteoporosis: trabecular bone near the spine falls towards soft tissue, its cortex keeps more.

    Trabecular HU of L1 fall to 30 and less in the oldest, and bright kidneys beside such bodies drew the line.
    """
    y, x = torch.meshgrid(*[torch.arange(n, dtype=torch.float32) for n in hu.shape[1:]], indexing="ij")
    away = (x - points[:, 0, None, None]) ** 2 + (y - points[:, 1, None, None]) ** 2
    loss = float(rng.uniform(0.1, 0.9))
    kept = 1 - loss + 0.7 * loss * ((hu - 150.0) / 250.0).clamp(0, 1)
    thinned = torch.where(hu > THIN_HU, THIN_HU + (hu - THIN_HU) * kept, hu)
    return torch.where(away < (THIN_MM / grid_mm) ** 2, thinned, hu)


def add_metal(hu: Tensor, rng: np.random.Generator) -> Tensor:
    """A few small very bright things: wires, pacemakers, stents, clips."""
    out = hu.clone()
    for _ in range(rng.integers(1, 6)):
        low = [rng.integers(0, n) for n in hu.shape]
        size = rng.integers(1, 5, 3)
        z, y, x = (slice(a, a + n) for a, n in zip(low, size, strict=True))
        out[z, y, x] = float(rng.uniform(1000, 3000))
    return out


def thick_slices(hu: Tensor, thickness: float) -> Tensor:
    """Average along z to slices of ``thickness`` voxels and interpolate back."""
    count = max(2, round(hu.shape[0] / thickness))
    columns = hu.flatten(1).T[None]  # [1, y * x, z]
    back = F.interpolate(F.adaptive_avg_pool1d(columns, count), size=hu.shape[0], mode="linear", align_corners=False)
    return back[0].T.reshape(hu.shape)


def noise(shape: torch.Size, sigma_hu: float, grain: bool, rng: np.random.Generator) -> Tensor:
    """White noise, or noise blurred over three voxels, of standard deviation ``sigma_hu``."""
    white = torch.from_numpy(rng.standard_normal(tuple(shape), dtype=np.float32))
    if grain:
        white = F.avg_pool3d(white[None, None], 3, 1, 1)[0, 0] * 27**0.5
    return white * sigma_hu


def repaint(hu: Tensor, structures: Tensor, points: Tensor, grid_mm: float, rng: np.random.Generator) -> Tensor:
    """Change the appearance of a piece [Z, Y, X] at random; where things lie does not change."""
    if structures.any() and rng.random() < 0.6:
        hu = paint_structures(hu, structures, rng)
    elif rng.random() < 0.4:
        hu = paint_vessels(hu, points, grid_mm, rng)
    if rng.random() < 0.45:
        hu = thin_bone(hu, points, grid_mm, rng)
    bone = 120.0
    hu = torch.where(hu > bone, bone + (hu - bone) * float(rng.uniform(0.5, 1.4)), hu)
    hu = torch.where(hu > -900, hu * float(rng.uniform(0.93, 1.07)) + float(rng.normal(0, 20)), hu)
    if rng.random() < 0.12:
        hu = add_metal(hu, rng)
    if rng.random() < 0.25:
        hu = F.avg_pool3d(hu[None, None], 3, 1, 1, count_include_pad=False)[0, 0]
    if rng.random() < 0.35:
        hu = thick_slices(hu, float(rng.uniform(1.2, 2.2)))
    if rng.random() < 0.7:
        hu = hu + noise(hu.shape, float(np.exp(rng.uniform(np.log(5), np.log(80)))), rng.random() < 0.4, rng)
    return hu.clamp_min(AIR_HU)
