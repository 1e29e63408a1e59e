"""The arch behind a vertebral body: pedicles, laminae, articular, transverse and spinous processes, canal.

In the vertebra's own frame (u left, v posterior, t up; mm). Both sides are alike, so |u| is used.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vertebra_core.phantom.body import Body
from vertebra_core.phantom.levels import LevelSize, region

Flat = tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float], tuple[float, float, float]]
"""A flattened rod: start, end, thickness at both ends, and how often it is wider than thick along u, v, t."""

TINY_MM = np.float32(1e-4)
"""Keeps a rod's own axis from dividing by nothing."""


def flat_rod_depth(u, v, t, rod: Flat):
    """Depth (mm, positive inside) under the surface of a rod whose cross-section is stretched.

    The distance is taken in a squeezed space where the rod is round, and divided by the steepness of that distance
    in real space: right to first order everywhere, exact on the axes.
    """
    start, end, radii, stretch = rod
    scale = np.array([1 / s for s in stretch], np.float32)
    first = (np.array(start) * scale).astype(np.float32)
    along = (np.array(end) * scale).astype(np.float32) - first
    away = [c * k - o for c, k, o in zip((u, v, t), scale, first, strict=True)]
    share = along / (along @ along)
    place = np.clip(away[0] * share[0] + away[1] * share[1] + away[2] * share[2], 0, 1)
    squares = [np.square(a - place * d) for a, d in zip(away, along, strict=True)]
    gap = np.sqrt(squares[0] + squares[1] + squares[2]) + TINY_MM
    steepness = np.sqrt(sum(q * k * k for q, k in zip(squares, scale, strict=True))) + TINY_MM
    depth = np.float32(radii[0]) + place * np.float32(radii[1] - radii[0]) - gap
    return depth * (gap / steepness)


@dataclass(frozen=True)
class Arch:
    """The bony arch.

    Parameters
    ----------
    rods : tuple of Flat
        Paired parts (given for u > 0) and those in the middle.
    canal : tuple of float
        Centre v, half-width and half-depth of the canal, free of bone.
    shear : float
        Laminae lean back by this much per mm downward.
    """

    rods: tuple[Flat, ...]
    laminae: tuple[Flat, ...]
    canal: tuple[float, float, float]
    shear: float

    def depth(self, u, v, t):
        """Depth under the surface of the arch (mm, positive inside)."""
        side = np.abs(u)
        depth = np.full(len(u), -99.0, np.float32)
        for rod in self.rods:
            np.maximum(depth, flat_rod_depth(side, v, t, rod), out=depth)
        leaning = v + np.float32(self.shear) * t
        for rod in self.laminae:
            np.maximum(depth, flat_rod_depth(side, leaning, t, rod), out=depth)
        centre, half_u, half_v = (np.float32(c) for c in self.canal)
        q = np.sqrt((side / half_u) ** 2 + ((v - centre) / half_v) ** 2)
        return np.minimum(depth, (q - 1) * half_v)

    @cached_property
    def reach(self) -> np.ndarray:
        """Corners [2, 3] of a box round the arch in the own frame."""
        ends = np.array([p for rod in self.rods + self.laminae for p in rod[:2]])
        wide = max(max(r[2]) * max(r[3]) for r in self.rods + self.laminae)
        half_u = ends[:, 0].max() + wide
        return np.array([[-half_u, *(ends[:, 1:].min(0) - wide)], [half_u, *(ends[:, 1:].max(0) + wide)]])


def make_arch(level: str, size: LevelSize, body: Body, scale: float, rng: np.random.Generator) -> Arch:
    """The arch of a level behind a body, sizes with a little chance."""
    half_u, half_v = size.canal[0] * scale, size.canal[1] * scale
    wide, high = size.pedicle[0] * scale, size.pedicle[1] * scale
    half_h = (body.ha + body.hp) / 4
    back = body.half_depth
    canal_v = back + 0.6 + half_v
    behind = canal_v + half_v
    kind = region(level)
    pedicle_t = {"C": 0.0, "T": half_h - high / 2 - 0.5, "L": half_h - high / 2 - 2.0}[kind]
    pedicle_u = half_u + wide / 2 - 0.4
    pedicle: Flat = (
        (pedicle_u - 0.5, back - 4.0, pedicle_t),
        (pedicle_u + 1.0, canal_v + 0.35 * half_v, pedicle_t),
        (wide / 2, wide / 2),
        (1.0, 1.0, high / wide),
    )
    articular = _articular(kind, level, half_u, behind, half_h, scale)
    length, angle, half_height = size.spinous
    length *= scale * rng.uniform(0.88, 1.12)
    lean = np.deg2rad(angle + rng.normal(0, 4))
    root_t = {"C": -0.2 * half_h, "T": -0.35 * half_h, "L": -0.45 * half_h}[kind]
    tip = (0.0, behind + length * np.cos(lean), root_t - length * np.sin(lean))
    thin = 2.6 * scale if kind != "L" else 3.2 * scale
    tall = half_height * scale / thin
    spinous: Flat = ((0.0, behind + 3.0, root_t), tip, (thin, thin * 1.15), (1.0, tall, tall))
    tip_u, tip_v, tip_t = (c * scale for c in size.transverse)
    transverse: Flat = {
        "C": ((pedicle_u + 2, back - 3.0, -1.0), (tip_u, canal_v + tip_v, tip_t), (2.6, 2.4), (1.0, 1.0, 1.3)),
        "T": (
            (pedicle_u + 1, canal_v + 0.35 * half_v, pedicle_t - 2),
            (tip_u, canal_v + tip_v, tip_t),
            (4.8, 4.8),
            (1.0, 1.0, 1.4),
        ),
        "L": (
            (pedicle_u + 1, canal_v - 0.1 * half_v, pedicle_t),
            (tip_u, canal_v + tip_v, tip_t),
            (3.6, 2.6),
            (1.0, 1.0, 1.8),
        ),
    }[kind]
    thick = {"C": 1.9, "T": 3.0, "L": 3.2}[kind] * scale
    lamina_h = {"C": 0.75, "T": 0.95, "L": 0.72}[kind] * half_h
    shear = 0.28 if kind != "C" else 0.15
    lamina_t = root_t + 0.15 * half_h
    lamina: Flat = (
        (half_u + thick, canal_v + {"C": 0.7, "T": 0.15, "L": 0.35}[kind] * half_v + shear * lamina_t, lamina_t),
        (0.0, behind + thick + 0.5 + shear * lamina_t, lamina_t),
        (thick, thick),
        (1.0, 1.0, lamina_h / thick),
    )
    return Arch((pedicle, *articular, spinous, transverse), (lamina,), (canal_v, half_u, half_v), shear)


def _articular(kind: str, level: str, half_u: float, behind: float, half_h: float, scale: float) -> tuple[Flat, Flat]:
    """Upper and lower articular process: flat in front-back in the chest, flat sideways in the loins."""
    if kind == "C":
        at = half_u + 4.5 * scale
        upper: Flat = ((at, behind - 4.0, half_h - 1), (at, behind - 3.0, 0.0), (4.2, 4.4), (1.2, 1.0, 1.0))
        lower: Flat = ((at, behind - 3.0, 0.0), (at, behind - 0.5, -half_h - 1.5), (4.4, 3.6), (1.2, 1.0, 1.0))
        return upper, lower
    if kind == "T" and level not in ("T12", "T13"):
        at = half_u + 2.6 * scale
        upper = ((at, behind - 2.5, half_h + 4.0), (at, behind - 1.0, 0.0), (2.0, 2.8), (1.9, 1.0, 1.2))
        lower = ((at - 1.0, behind + 0.5, 0.0), (at - 1.5, behind + 3.2, -half_h - 3.5), (2.6, 2.1), (2.0, 1.0, 1.2))
        return upper, lower
    at = half_u + 5.0 * scale
    upper = ((at + 3.0, behind - 3.0, half_h + 4.0), (at + 0.5, behind - 1.0, 0.0), (2.9, 4.0), (1.0, 1.7, 1.2))
    lower = (
        (at - 1.0, behind + 0.5, -0.3 * half_h),
        (at - 3.4, behind + 2.0, -half_h - 9.0),
        (3.8, 3.0),
        (1.0, 1.6, 1.2),
    )
    return upper, lower
