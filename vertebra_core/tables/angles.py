"""Two angles of the whole spine, in degrees."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from vertebra_core.geometry import CentreLine
from vertebra_core.measure import ANTERIOR_BOTTOM, ANTERIOR_TOP, POSTERIOR_BOTTOM, POSTERIOR_TOP

MIN_VERTEBRAE_FOR_COBB = 4
"""A scoliotic curve spans at least an upper end, an apex and a lower end vertebra; one more keeps noise out."""
KYPHOSIS_LEVELS = ("T4", "T12")
"""Upper and lower end of the thoracic kyphosis in common use; T1 to T3 are often out of view in chest CT."""


def cobb_degrees(curve: CentreLine, centres: Float[np.ndarray, "k 3"]) -> float | None:
    """Largest difference of the sideways tilt of the centre line between two of k vertebrae; None below four.

    The tilt at a vertebra is the angle of the line's tangent to the vertical, projected on the coronal plane (x, z).
    Cobb's angle is measured between endplates; at a right angle to them the line tilts as they do.

    Parameters
    ----------
    curve : CentreLine
    centres : array [k, 3]
        Centres of the vertebrae, LPS mm.
    """
    if len(centres) < MIN_VERTEBRAE_FOR_COBB:
        return None
    down = curve.frame(curve.straight_from_patient(centres)[:, 2])[2]
    tilts = np.degrees(np.arctan2(down[:, 0], -down[:, 2]))
    return float(np.ptp(tilts)) if np.isfinite(tilts).all() else None


def kyphosis_degrees(
    points: Float[np.ndarray, "k 6 3"], complete: Bool[np.ndarray, "k"], levels: Sequence[str | None]
) -> float | None:
    """Angle from the upper endplate of T4 to the lower endplate of T12 in the sagittal plane (y, z).

    Positive where the spine is kyphotic; None unless both levels are named and complete.
    """
    if not all(level in levels and complete[levels.index(level)] for level in KYPHOSIS_LEVELS):
        return None
    upper, lower = (points[levels.index(level)] for level in KYPHOSIS_LEVELS)
    top = _rise_degrees(upper[POSTERIOR_TOP] - upper[ANTERIOR_TOP])
    bottom = _rise_degrees(lower[POSTERIOR_BOTTOM] - lower[ANTERIOR_BOTTOM])
    return float(top - bottom)


def _rise_degrees(backward: Float[np.ndarray, "3"]) -> float:
    """How far an endplate rises from front to back."""
    return float(np.degrees(np.arctan2(backward[2], backward[1])))
