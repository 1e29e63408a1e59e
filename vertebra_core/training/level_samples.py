"""One training sample of the network of levels: part of a block, seen as another scan might show it.

A sample is a pure function of its number, so that a run that was stopped goes on with the same data.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vertebra_core.levels.find import across_mm
from vertebra_core.levels.names import LOOKS
from vertebra_core.levels.network import GRID_MM, ROW_MM, channels
from vertebra_core.training.level_stacks import FRONT_MM, HALF_U_MM, LevelStack
from vertebra_core.training.spines import PHANTOM
from vertebra_core.volume import AIR_HU

ROWS = 72
"""Samples along the line of a window: 216 mm, its middle third sees all that the network can reach."""
REAL_SHARE = 0.65
"""Share of windows drawn from real scans where a look is in both kinds."""
JUNCTION = tuple(LOOKS.index(name) for name in ("T10", "T11", "T12", "L1", "L2"))
"""Looks round the last rib, drawn twice as often: in most chests and abdomens it is the one landmark in view."""
SPREAD = 0.06
"""Share of each look that is given to its two neighbours: what a reader would not swear to."""


@dataclass(frozen=True)
class LevelSample:
    """A window.

    Parameters
    ----------
    x : tensor [3, s, v, u]
    rows : tensor [ROWS / 2]
        Index of the vertebra that a row of the answer belongs to, -1 for none.
    looks : tensor [ROWS / 2, looks]
        Wanted probabilities of the rows that belong to one.
    """

    x: Tensor
    rows: Tensor
    looks: Tensor


def random_sample(stack: LevelStack, middle_mm: float, rng: np.random.Generator) -> LevelSample:
    """Turn, scale, move, bend and crop a block round a place, and look at it with another scanner."""
    s = middle_mm + rng.uniform(-50, 50) + GRID_MM * (np.arange(ROWS) - (ROWS - 1) / 2)
    scale = float(np.exp(rng.normal(0, 0.10)))
    stretch = np.exp(rng.normal(0, 0.04, 3))  # s, v, u
    source_s, points = _warp(s, middle_mm, scale * stretch, rng)
    hu, inside = _sample(stack, points)
    wanted, rows = _targets(stack, source_s, rng)
    cut = _cut(hu.shape, rng)
    inside = inside & cut
    if rng.random() < 0.5:
        hu, inside = hu.flip(-1), inside.flip(-1)
    hu = torch.where(inside, random_scanner(hu, rng), torch.tensor(AIR_HU))
    seen = inside[:, 12:19, 15:21].float().mean((1, 2)).view(-1, 2).mean(1) > 0.5  # the body itself is in the image
    return LevelSample(channels(hu[None], inside[None])[0], torch.where(seen, rows, -1), wanted)


def _warp(
    s: np.ndarray, middle: float, scale: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """Places in the block (s [rows], and s, v, u of all samples) that the window's samples show."""
    v, u = across_mm()
    along = s - middle
    turn, nod, lean = np.deg2rad(rng.normal(0, (9.0, 6.0, 4.0)))
    phase, wave = rng.uniform(0, 2 * np.pi, 2), rng.uniform(60, 160)
    # The line errs and bends slowly; its error is no larger than the first network's.
    drift = rng.normal(0, 2.0, 2)[:, None] + rng.normal(0, 2.0, 2)[:, None] * np.sin(along / wave + phase[:, None])
    s3, v3, u3 = np.meshgrid(along / scale[0], v / scale[1], u / scale[2], indexing="ij")
    turned_v = np.cos(turn) * v3 + np.sin(turn) * u3 + drift[0][:, None, None]
    turned_u = np.cos(turn) * u3 - np.sin(turn) * v3 + drift[1][:, None, None]
    place = middle + s3 + np.tan(nod) * turned_v + np.tan(lean) * turned_u
    return middle + along / scale[0], (place, turned_v, turned_u)


def _sample(stack: LevelStack, points: tuple[np.ndarray, ...]) -> tuple[Tensor, Tensor]:
    s, v, u = points
    # Only the slab that the window shows is turned into floats.
    low = int(np.clip(np.floor(s.min() / stack.step_mm) - 1, 0, len(stack.hu) - 2))
    high = int(np.clip(np.ceil(s.max() / stack.step_mm) + 2, low + 2, len(stack.hu)))
    index = np.stack([u + HALF_U_MM, v - FRONT_MM, s - low * stack.step_mm], -1) / stack.step_mm
    slab = torch.stack([torch.from_numpy(part[low:high]).float() for part in (stack.hu, stack.inside)])[None]
    unit = torch.from_numpy((2 * index + 1) / np.array(slab.shape[:1:-1]) - 1).float()[None]
    both = F.grid_sample(slab, unit, padding_mode="zeros", align_corners=False)[0]
    return both[0], both[1] > 0.6


def _targets(stack: LevelStack, source_s: np.ndarray, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Wanted looks [rows, looks] and owner [rows] of the rows of the answer.

    A row belongs to a vertebra whose centre it lies near, as near as the detector's centres lie to the true ones.
    """
    middle = source_s.reshape(-1, 2).mean(1)
    away = np.abs(middle[:, None] - stack.along_mm)
    owner = np.where(away.min(1) < 0.75 * ROW_MM, away.argmin(1), -1)
    wanted = torch.from_numpy(spread(stack.looks)[owner]).float()
    return wanted, torch.from_numpy(owner)


def spread(looks: np.ndarray) -> np.ndarray:
    """Looks with a share given to their neighbours."""
    padded = np.pad(looks, ((0, 0), (1, 1)))
    near = padded[:, :-2] + padded[:, 2:]
    return (1 - SPREAD) * looks + SPREAD * near / near.sum(1, keepdims=True)


def _cut(shape: Sequence[int], rng: np.random.Generator) -> Tensor:
    """Where a scan that ends somewhere in the window, or is narrow, would still have an image."""
    rows, depth, width = shape
    kept = np.ones(tuple(shape), bool)
    v, u = (np.arange(depth) - depth / 2) * GRID_MM, (np.arange(width) - width / 2) * GRID_MM
    tilt = np.tan(np.deg2rad(rng.normal(0, 15))) * v[None, :, None] / GRID_MM
    place = np.arange(rows)[:, None, None] + tilt
    if rng.random() < 0.35:
        kept &= place > rng.uniform(0, 0.6) * rows
    if rng.random() < 0.35:
        kept &= place < rng.uniform(0.4, 1.0) * rows
    if rng.random() < 0.2:
        centre, radius = rng.normal(0, 8, 2), rng.uniform(32, 65)
        kept &= (np.hypot(v[:, None] - centre[0], u - centre[1]) < radius)[None]
    elif rng.random() < 0.15:
        kept &= (np.abs(u) < rng.uniform(28, 52))[None, None]
    return torch.from_numpy(kept)


def random_scanner(hu: Tensor, rng: np.random.Generator) -> Tensor:
    """Another bone density, contrast, kernel, slice thickness and noise."""
    if rng.random() < 0.8:
        bone = float(np.exp(rng.uniform(np.log(0.55), np.log(1.6))))
        hu = torch.where(hu > 60, 60 + (hu - 60) * bone, hu) + rng.normal(0, 20)
    if rng.random() < 0.4:
        soft = (hu > -200) & (hu < 250)
        hu = torch.where(soft, hu + rng.normal(0, 40), hu)
    if rng.random() < 0.4:
        width = int(rng.choice([2, 2, 3]))
        kernel = torch.full((1, 1, width, 1, 1), 1.0 / width)
        padded = F.pad(hu[None, None], (0, 0, 0, 0, (width - 1) // 2, width // 2), mode="replicate")
        hu = F.conv3d(padded, kernel)[0, 0]
    if rng.random() < 0.6:
        noise = torch.from_numpy(rng.standard_normal(hu.shape, dtype=np.float32))
        hu = hu + float(rng.uniform(5, 90)) * noise
    return hu


class LevelSamples(torch.utils.data.Dataset):
    """Windows by number: sample `i` of seed `seed` is always the same; looks are drawn, not spines, so none is rare."""

    def __init__(self, stacks: Sequence[LevelStack], seed: int, count: int) -> None:
        self.stacks, self.seed, self.count = stacks, seed, count
        self.homes: list[list[list[tuple[int, float]]]] = []  # look -> kind (real, phantom) -> (stack, s)
        for look in range(len(LOOKS)):
            found: list[list[tuple[int, float]]] = [[], []]
            for k, stack in enumerate(stacks):
                kind = int(stack.name.startswith(PHANTOM))
                found[kind] += [(k, s) for s, row in zip(stack.along_mm, stack.looks, strict=True) if row[look] > 0.5]
            self.homes.append(found)
        self.usable = [look for look, found in enumerate(self.homes) if any(found)]
        self.usable += [look for look in self.usable if look in JUNCTION]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> LevelSample:
        rng = np.random.default_rng([self.seed, index])
        real, made = self.homes[int(rng.choice(self.usable))]
        homes = real if real and (not made or rng.random() < REAL_SHARE) else made
        stack, s = homes[rng.integers(len(homes))]
        return random_sample(self.stacks[stack], s, rng)
