"""Pieces without a spine: a head or limbs, painted from ellipses and tubes.

The annotated scans show few slices without vertebral bodies, all of the same three patients; a presence head that
has seen nothing else calls a knee a vertebra. Shapes need only be of the right kind: skin, fat, muscle, bone with
a cortex, a skull with brain and sinuses, a table. Sizes are rough adult ones, mm.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vertebra_core.training.curve_appearance import repaint
from vertebra_core.training.curve_cases import ABSENT
from vertebra_core.training.curve_data import GRID_MM, Piece
from vertebra_core.volume import AIR_HU


def _axes(shape: tuple[int, int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Millimetres from the middle of the piece: z [Z, 1, 1], y [1, Y, 1], x [1, 1, X]."""
    z, y, x = ((torch.arange(n, dtype=torch.float32) - (n - 1) / 2) * GRID_MM for n in shape)
    return z[:, None, None], y[None, :, None], x[None, None]


def _texture(shape: tuple[int, int, int], rng: np.random.Generator) -> Tensor:
    """Smooth random field of unit spread, blobs of about 20 mm: fat between muscles."""
    coarse = torch.from_numpy(rng.standard_normal([max(2, n // 6) for n in shape], dtype=np.float32))
    return F.interpolate(coarse[None, None], size=shape, mode="trilinear", align_corners=False)[0, 0] * 1.6


def _limb(hu: Tensor, middle: tuple[float, float], width: float, bones: int, rng: np.random.Generator) -> Tensor:
    """A limb along z: skin and fat, muscle, one or two tubular bones that widen to a joint somewhere."""
    shape = (hu.shape[0], hu.shape[1], hu.shape[2])
    z, y, x = _axes(shape)
    tilt = rng.normal(0, 0.12, 2)
    dx, dy = x - middle[0] - tilt[0] * z, y - middle[1] - tilt[1] * z
    outline = torch.sqrt((dx / width) ** 2 + (dy / (width * rng.uniform(0.8, 1.1))) ** 2)
    muscle = torch.where(_texture(shape, rng) > 1.1, -80.0, float(rng.uniform(30, 70)))
    hu = torch.where(outline < 1, -100.0, hu)
    hu = torch.where(outline < rng.uniform(0.65, 0.95), muscle, hu)
    joint, reach = rng.uniform(-150, 150), rng.uniform(40, 70)
    swell = 1 + rng.uniform(0.3, 1.4) * torch.exp(-(((z - joint) / reach) ** 2))
    radius = width * rng.uniform(0.15, 0.24)
    for number in range(bones):
        shift = rng.normal(0, 0.2, 2) * width + [number * 2.6 * radius, 0]
        depth = radius * swell - torch.hypot(dx - shift[0], dy - shift[1])
        cortex = float(rng.uniform(3, 7)) / swell
        core = torch.where(swell > 1.25, float(rng.uniform(80, 300)), float(rng.uniform(-60, 60)))
        hu = torch.where(depth > 0, torch.where(depth > cortex, core, float(rng.uniform(700, 1500))), hu)
        hu = torch.where((depth.abs() < 4) & ((z - joint).abs() < 2.5), float(rng.uniform(0, 60)), hu)  # joint gap
    return hu


def _head(hu: Tensor, rng: np.random.Generator) -> Tensor:
    """A skull around brain, sinuses and teeth in front below."""
    shape = (hu.shape[0], hu.shape[1], hu.shape[2])
    z, y, x = _axes(shape)
    cx, cy, cz = rng.uniform(-40, 40), rng.uniform(-40, 60), rng.uniform(-90, 90)
    half = np.array([72.0, 92.0, 75.0]) * rng.uniform(0.88, 1.12)
    u, v, w = (x - cx) / half[0], (y - cy) / half[1], (z - cz) / half[2]
    inside = torch.sqrt(u**2 + v**2 + w**2)
    texture = _texture(shape, rng)
    hu = torch.where(inside < 1.10, float(rng.uniform(-60, 40)), hu)
    face = (u.abs() < 0.85) & (v > -1.05) & (v < 0.25) & (w < 0) & (w > -1.6)
    hu = torch.where(face & (inside > 1), torch.where(texture > 1.2, 600.0, 30.0), hu)
    hu = torch.where(face & (texture < -1.3), -900.0, hu)  # sinuses, mouth
    hu = torch.where((inside < 1.0) & (inside > 0.92), float(rng.uniform(600, 1500)), hu)
    return torch.where(inside < 0.92, 35.0 + 6.0 * texture, hu)


def spineless_piece(shape: tuple[int, int, int], rng: np.random.Generator) -> Piece:
    """A head, two legs, or arms; sometimes on a table. Presence is ABSENT everywhere, no point is placed."""
    hu = torch.full(shape, AIR_HU)
    kind = rng.choice(["head", "legs", "arm"], p=[0.4, 0.45, 0.15])
    if kind == "head":
        hu = _head(hu, rng)
    elif kind == "legs":
        width, y = rng.uniform(45, 95), rng.uniform(-40, 60)
        apart = width * rng.uniform(0.9, 1.4)
        for side in (-1, 1):
            hu = _limb(hu, (side * apart, y + rng.normal(0, 8)), width, 1 if width > 65 else 2, rng)
    else:
        hu = _limb(hu, (rng.uniform(-50, 50), rng.uniform(-40, 40)), rng.uniform(28, 50), int(rng.integers(1, 3)), rng)
    if rng.random() < 0.6:
        _, y, x = _axes(shape)
        top = rng.uniform(90, 140) + (x / 300) ** 2 * -rng.uniform(0, 60)
        hu = torch.where(((y - top) > 0) & ((y - top) < 4), float(rng.uniform(-200, 150)), hu)
    hu = F.avg_pool3d(hu[None, None], 3, 1, 1, count_include_pad=False)[0, 0]
    points = torch.tensor([shape[2] / 2, shape[1] * 0.7]).repeat(shape[0], 1)
    painted = repaint(hu, torch.zeros_like(hu), points, GRID_MM, rng)
    return Piece(painted, points, torch.zeros(shape[0], dtype=torch.bool), torch.full((shape[0],), ABSENT))
