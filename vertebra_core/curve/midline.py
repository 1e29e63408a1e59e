"""The centre line moved sideways into the plane about which the spine is symmetric.

Bodies look alike a few millimetres beside their middle, and so the first network, which sees them in voxels of 3 mm,
knows the sideways place of the line no better than to 1.1 mm on patients never seen. Pedicles, laminae, joints and
transverse processes come in pairs: the plane that mirrors one half of the vertebrae onto the other shows where the
middle is, without training (docs/experiments.md).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter1d

from vertebra_core.geometry import CentreLine
from vertebra_core.settings import SymmetrySettings
from vertebra_core.straighten import sample_volume
from vertebra_core.volume import Volume

SOFT_TISSUE_TO_BONE_HU = (-150.0, 500.0)
"""Fat and below is one, dense cortex and metal is one: neither lung nor implant shall decide."""
TEMPERATURE = 0.04
"""Of the average over candidates, in units of the symmetry (1: perfect): those within a few hundredths of the best."""


@dataclass(frozen=True)
class Candidates:
    """Mirror planes that are compared at points along the line.

    Parameters
    ----------
    s : array [n]
        Arc length, mm.
    turns : array [t]
        Turn of the vertebrae about their axis, radians.
    shifts : array [d]
        Place of the plane beside the line, mm, positive to the left.
    misfit, spread : array [t, d, n]
        Mean square difference of the mirrored halves, and twice the variance of what was compared, HU^2; 0 where
        nothing could be.
    """

    s: Float[np.ndarray, "n"]
    turns: Float[np.ndarray, "t"]
    shifts: Float[np.ndarray, "d"]
    misfit: Float[np.ndarray, "t d n"]
    spread: Float[np.ndarray, "t d n"]

    def symmetry(self, along_mm: float) -> Float[np.ndarray, "t d n"]:
        """1 where both halves are equal, about 0 where they have nothing in common; over a stretch of the line."""
        sigma = along_mm / (self.s[1] - self.s[0])
        misfit, spread = (gaussian_filter1d(part, sigma, axis=2, mode="nearest") for part in (self.misfit, self.spread))
        return 1.0 - misfit / np.maximum(spread, 1e-6)


def centred(volume: Volume, line: CentreLine, settings: SymmetrySettings) -> CentreLine:
    """Move a centre line sideways into the symmetry plane of the spine.

    First how far the vertebrae are turned about their axis (a turned spine is symmetric about a turned plane), then
    where the plane lies. Both are averages over candidates by their symmetry, and lean to no turn and no shift.

    Parameters
    ----------
    volume : Volume
    line : CentreLine
        At most ``settings.reach_mm`` beside the middle of the bodies.
    settings : SymmetrySettings

    Returns
    -------
    CentreLine
        The same line but for its sideways place.
    """
    turns = np.radians(settings.turns_degrees)
    coarse = compare(volume, line, np.zeros(2), turns, settings.coarse_mm, settings)
    lean = (np.degrees(turns) / settings.turn_sd_degrees)[:, None, None] ** 2 + shift_prior(coarse, settings)
    turn = expected(coarse.symmetry(settings.turn_along_mm) - settings.prior * lean, turns[:, None])
    fine = compare(volume, line, turn, np.zeros(1), settings.fine_mm, settings)
    likely = fine.symmetry(settings.shift_along_mm) - settings.prior * shift_prior(fine, settings)
    shift = expected(likely, fine.shifts)
    left, _, _ = line.frame(fine.s)
    return CentreLine(line.position(fine.s) + shift[:, None] * left)


def shift_prior(candidates: Candidates, settings: SymmetrySettings) -> Float[np.ndarray, "d 1"]:
    """How unlikely each shift is beforehand."""
    return (candidates.shifts[:, None] / settings.shift_sd_mm) ** 2


def expected(symmetry: Float[np.ndarray, "t d n"], values: Float[np.ndarray, "*m"]) -> Float[np.ndarray, "n"]:
    """Mean of ``values`` (broadcast against [t, d]) at each point of the line, weighted by the symmetry."""
    weights = np.exp((symmetry - symmetry.max((0, 1))) / TEMPERATURE)
    return (weights * np.broadcast_to(values, symmetry.shape[:2])[..., None]).sum((0, 1)) / weights.sum((0, 1))


def compare(
    volume: Volume,
    line: CentreLine,
    turn: Float[np.ndarray, "m"],
    turns: Float[np.ndarray, "t"],
    grid_mm: tuple[float, float, float],
    settings: SymmetrySettings,
) -> Candidates:
    """Mirror the surroundings of a line about every candidate.

    Parameters
    ----------
    turn : array [m]
        How far the vertebrae are taken to be turned, radians, at m equal steps from the top of the line to its end.
    turns : array [t]
        Candidates, added to it.
    grid_mm : tuple of float
        Distances of the samples across (u), to the back (v) and along the line (s), mm.
    """
    across, back, along = grid_mm
    widest = settings.half_width_mm + settings.reach_mm
    count = int(widest / across)
    u = np.arange(-count, count + 1) * across
    v = np.arange(-settings.anterior_mm, settings.posterior_mm + back / 2, back)
    s = np.linspace(0.0, line.length, max(4, round(line.length / along)))
    here = np.interp(s, np.linspace(0.0, line.length, len(turn)), turn)
    steps = np.arange(-int(2 * settings.reach_mm / across), int(2 * settings.reach_mm / across) + 1)
    both = [mirrored(surroundings(volume, line, u, v, s, here + extra), steps, settings, across) for extra in turns]
    misfit, spread = (np.stack(part) for part in zip(*both, strict=True))
    return Candidates(s, turns, steps * across / 2, misfit, spread)


def surroundings(
    volume: Volume, line: CentreLine, u: np.ndarray, v: np.ndarray, s: np.ndarray, turn: np.ndarray
) -> Float[np.ndarray, "u s v"]:
    """HU about the line, clipped to `SOFT_TISSUE_TO_BONE_HU`, in a frame turned about it; NaN outside the volume."""
    left, posterior, _ = line.frame(s)
    cos, sin = np.cos(turn)[:, None], np.sin(turn)[:, None]
    left, posterior = cos * left + sin * posterior, cos * posterior - sin * left
    middle = line.position(s)[:, None] + v[:, None] * posterior[:, None]
    return np.clip(sample_volume(volume, middle + u[:, None, None, None] * left[:, None]), *SOFT_TISSUE_TO_BONE_HU)


def mirrored(
    hu: Float[np.ndarray, "u s v"], steps: np.ndarray, settings: SymmetrySettings, across_mm: float
) -> tuple[Float[np.ndarray, "d s"], Float[np.ndarray, "d s"]]:
    """Misfit and spread of the halves (`Candidates`) about planes ``steps`` half samples beside the middle."""
    half = int(settings.half_width_mm / across_mm)
    middle = len(hu) // 2
    misfit, spread = np.zeros((2, len(steps), hu.shape[1]))
    for row, step in enumerate(steps):
        away = np.arange(0 if step % 2 == 0 else 1, half + 1)
        first = middle + (step - step % 2) // 2
        right, left = hu[first + step % 2 - away], hu[first + away]
        known = np.isfinite(right) & np.isfinite(left)
        count = np.maximum(known.sum((0, 2)), 1)
        right, left = np.where(known, right, 0.0), np.where(known, left, 0.0)
        mean = (right + left).sum((0, 2)) / (2 * count)
        misfit[row] = ((right - left) ** 2).sum((0, 2)) / count
        spread[row] = (right**2 + left**2).sum((0, 2)) / count - 2 * mean**2
    return misfit, spread
