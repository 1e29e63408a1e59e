"""What belongs to the column besides vertebrae: canal and cord, ossified ligaments, the arch of the sacrum."""

import numpy as np

from vertebra_core.phantom.column import Column
from vertebra_core.phantom.fields import Bone, Filling, Part, rods
from vertebra_core.phantom.patient import PatientOptions


def bone_parts(rng: np.random.Generator, column: Column, options: PatientOptions) -> list[Part]:
    """Canal, discs, ossified ligaments and vertebrae, in the order in which they are painted."""
    bridges = _flowing_ossification(rng, column, options) if rng.random() < options.ossification_probability else []
    return [*_canal(column), *column.discs, *bridges, *_sacral_arch(column), *column.all]


OSSIFICATION_MM = (1.2, 5.0)
"""Thickness of flowing ossification at the discs: over the bodies it is half as thick (seen on real CT with DISH)."""


def _flowing_ossification(rng: np.random.Generator, column: Column, options: PatientOptions) -> list[Part]:
    """Bone that flows over the fronts of several bodies and discs (DISH), thickest at the discs, on the right.

    No part of a body: the keypoints stay at the corners behind it, however well it hugs them.
    """
    n = len(column.vertebrae)
    first = int(rng.integers(5, n - 4))
    run = column.vertebrae[first : first + int(rng.integers(4, 10))]
    thick = float(rng.uniform(*OSSIFICATION_MM)) if options.ossification_mm is None else options.ossification_mm
    dense = float(rng.uniform(150, 500))
    bone = Bone(dense, float(rng.uniform(700, 1200)), 0.8, 60.0)
    parts: list[Part] = []
    for u in (-9.0, -4.5, 0.0, 4.5)[: int(rng.integers(3, 5))]:
        line, radii = [], []
        for v in run:
            b = v.body
            # Half-way down the body the layer is thin, at the rims it stands out.
            for t, wall, r in (
                (b.ha * 0.46, b.cranial / 2 + b.rim, thick / 2), (0.0, b.half_depth * (1 - b.waist), thick * 0.25),
                (-b.ha * 0.46, b.caudal / 2 + b.rim, thick / 2),
            ):  # fmt: skip
                # The back of the layer lies on the wall: the rod's axis is its radius ahead of it.
                ahead = wall * np.sqrt(max(1 - (u / b.half_width) ** 2, 0.1)) + r * 0.9
                line.append(v.pose.patient_from_own(np.array([u, -ahead, t])))
                radii.append(r * float(rng.uniform(0.85, 1.15)))
        parts += rods(line, radii, Filling(texture=run[0].fine, bone=bone))
    return parts


def _canal(column: Column) -> list[Part]:
    """Fat, dural sac and cord from C2 to the sacrum."""
    upper = [v for v in column.all if v.arch is not None]
    centres = [v.pose.patient_from_own(np.array([0.0, v.arch.canal[0], 0.0])) for v in upper if v.arch]
    radii = [v.arch.canal[2] for v in upper if v.arch]
    for v, radius in zip(column.sacrum[:3], (6.5, 5.0, 3.0), strict=False):
        centres.append(v.pose.patient_from_own(np.array([0.0, v.body.half_depth + radius + 1, 0.0])))
        radii.append(radius)
    ends = [v.level for v in upper].index("L1") + 1
    sac = rods(centres, np.array(radii) + 0.5, Filling(26.0, wall_hu=-15.0, wall_mm=1.2))
    return [*sac, *rods(centres[:ends], 4.4, Filling(42.0)), *rods(centres[ends - 1 :], 3.4, Filling(30.0))]


def _sacral_arch(column: Column) -> list[Part]:
    """The fused laminae and spines behind the sacral canal."""
    first = column.sacrum[0]
    bone = Filling(texture=first.fine, bone=first.arch_bone)
    line = [
        v.pose.patient_from_own(np.array([0.0, v.body.half_depth + gap, 0.0]))
        for v, gap in zip(column.sacrum[:4], (20, 17, 13, 9), strict=False)
    ]
    parts: list[Part] = list(rods(line, 4.5, bone))
    for side in (-1.0, 1.0):
        wing = [
            v.pose.patient_from_own(np.array([side * v.body.half_width * 0.6, v.body.half_depth + 6, 0.0]))
            for v in column.sacrum[:4]
        ]
        for a, b in zip(line, wing, strict=True):
            parts += rods([a, b], 4.0, bone)
    return parts
