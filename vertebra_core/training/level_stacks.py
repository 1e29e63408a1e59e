"""Annotated spines as the network of levels learns from them: a straightened block with a look at every vertebra."""

from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int16

from vertebra_core.geometry import CentreLine
from vertebra_core.levels.names import AXIS, CERVICAL, NAMES, SACRUM, VARIANTS, Variant, looks_of
from vertebra_core.levels.network import REACH_MM
from vertebra_core.phantom.anatomy import Phantom
from vertebra_core.straighten import sample_volume
from vertebra_core.training.spines import true_line
from vertebra_core.truth import Truth
from vertebra_core.volume import AIR_HU, Volume

REAL_STEP_MM, PHANTOM_STEP_MM = 2.0, 3.0
"""Distance of samples of a block; a phantom is blurred analytically, a scan is kept a little finer than it is read."""
HALF_U_MM, FRONT_MM, BACK_MM = 72.0, -66.0, 78.0
"""A block is wider than the network's view, so that it may be turned and moved."""
BLUR_MM = (0.8, 1.5)
"""Standard deviations of the point spread function that phantoms are seen with."""
AXIS_STEP, SACRUM_STEP = 1.1, 0.95
"""Distance of C2 from C3, and of S1 from L5, over that of the next two vertebrae (phantoms' table of sizes)."""


@dataclass(frozen=True)
class LevelStack:
    """A straightened block of one spine.

    Parameters
    ----------
    name : str
    hu : array [s, v, u], int16
        Outside the image air.
    inside : array [s, v, u], bool
    step_mm : float
        Distance of samples in all directions; u is symmetric about 0, v begins at `FRONT_MM`, s at 0.
    along_mm : array [n]
        s of the vertebrae whose look is known.
    looks : array [n, looks]
        Their looks; rows sum to 1.
    """

    name: str
    hu: Int16[np.ndarray, "s v u"]
    inside: Bool[np.ndarray, "s v u"]
    step_mm: float
    along_mm: Float[np.ndarray, "n"]
    looks: Float[np.ndarray, "n looks"]


def block_points(line: CentreLine, step_mm: float) -> Float[np.ndarray, "s v u 3"]:
    """LPS mm of the samples of a block."""
    u = np.arange(-HALF_U_MM, HALF_U_MM + step_mm / 2, step_mm)
    v = np.arange(FRONT_MM, BACK_MM + step_mm / 2, step_mm)
    s = np.arange(0.0, line.length, step_mm)
    left, posterior, _ = line.frame(s)
    across = v[None, :, None, None] * posterior[:, None, None] + u[None, None, :, None] * left[:, None, None]
    return line.position(s)[:, None, None] + across


def variant_of(levels: tuple[str, ...]) -> Variant:
    """The variant that a spine with these names is, as far as they tell.

    Raises
    ------
    ValueError
        Names that follow each other in no variant.
    """
    for variant in VARIANTS:
        names = variant.names
        places = [names.index(name) if name in names else -9 for name in levels]
        if all(b - a == 1 for a, b in pairwise(places)):
            return variant
    raise ValueError(f"no spine has these levels in a row: {' '.join(levels)}")


def scan_stack(name: str, volume: Volume, truth: Truth) -> LevelStack:
    """Block of an annotated scan; C2 above a C3 and S1 below a last lumbar vertebra are placed by distance."""
    line = true_line(truth.points, REACH_MM + 20.0)
    hu = sample_volume(volume, block_points(line, REAL_STEP_MM).astype(np.float32))
    inside = np.isfinite(hu)
    along = line.straight_from_patient(truth.points.mean(1))[:, 2]
    names = tuple(str(level) for level in truth.levels)
    variant = variant_of(names)
    if names[0] == CERVICAL[0]:
        along = np.r_[along[0] - AXIS_STEP * (along[1] - along[0]), along]
        names = (AXIS, *names)
    if names[-1] == f"L{variant.lumbar}":
        along = np.r_[along, along[-1] + SACRUM_STEP * (along[-1] - along[-2])]
        names = (*names, SACRUM)
    seen = _seen(inside, along, REAL_STEP_MM)
    looks = looks_of(variant)[[variant.names.index(n) for n in names]]
    hu = np.rint(np.nan_to_num(hu, nan=AIR_HU)).astype(np.int16)
    return LevelStack(name, hu, inside, REAL_STEP_MM, along[seen], looks[seen])


def phantom_stack(name: str, phantom: Phantom, rng: np.random.Generator) -> LevelStack:
    """Block of a phantom, from above the axis into the sacrum."""
    truth = phantom.truth
    line = true_line(truth.points, REACH_MM + 20.0)
    hu = phantom.hu(block_points(line, PHANTOM_STEP_MM), blur_mm=float(rng.uniform(*BLUR_MM)))
    hu = np.rint(np.clip(hu, AIR_HU, 3000)).astype(np.int16)
    bones = [v for v in phantom.column.all if v.level in NAMES]
    along = line.straight_from_patient(np.array([v.pose.centre for v in bones]))[:, 2]
    variant = variant_of(tuple(str(level) for level in truth.levels))
    looks = looks_of(variant)[[variant.names.index(v.level) for v in bones]]
    return LevelStack(name, hu, np.ones(hu.shape, bool), PHANTOM_STEP_MM, along, looks)


def _seen(inside: np.ndarray, along: np.ndarray, step_mm: float) -> np.ndarray:
    """True for places where most of the body lies inside the image."""
    row = np.clip(np.rint(along / step_mm).astype(int), 0, len(inside) - 1)
    v, u = round(-FRONT_MM / step_mm), round(HALF_U_MM / step_mm)
    return inside[row, v - 2 : v + 3, u - 2 : u + 3].mean((1, 2)) > 0.5


def load_stack(path: Path) -> LevelStack:
    """Read a block that was kept."""
    with np.load(path) as kept:
        values = {f.name: kept[f.name] for f in fields(LevelStack)}
    return LevelStack(**{**values, "name": str(values["name"]), "step_mm": float(values["step_mm"])})
