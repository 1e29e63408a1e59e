"""What the sizes of vertebrae say of their levels: heights and depths grow down the spine, each in its own way.

Bodies become deep from T1 to T8 and high from T9 to L2, so that even a row of vertebrae without a landmark fits some
levels better than others, whatever the size of the patient.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from vertebra_core.levels.names import LOOKS

LOOK_SIZES_MM = {
    "C2": (15.0, 14.3), "C3": (13.0, 13.8), "C4": (13.1, 13.9), "C5": (12.8, 13.8), "C6": (13.2, 14.2),
    "C7": (15.3, 14.7), "T1": (17.3, 15.1), "T2": (18.3, 16.5), "T3": (19.0, 18.2), "T4": (19.6, 20.2),
    "T5": (20.4, 21.8), "T6": (20.9, 23.3), "T7": (21.2, 24.4), "T8": (21.7, 25.7), "T9": (22.3, 26.5),
    "T10": (23.5, 26.9), "T11": (25.3, 27.0), "T12": (26.8, 27.4), "L1": (28.3, 28.7), "L2": (28.7, 29.1),
    "L3": (29.4, 30.2), "L4": (28.2, 30.7), "L5": (25.6, 30.5), "S1": (24.0, 27.0), "S2": (21.0, 19.0),
}  # fmt: skip
"""Posterior height and mean depth between the keypoints of each look, mm: the sizes that phantoms are built with
(`vertebra_core.phantom.levels`, with their sources)."""
LOG_SIZES = np.log([LOOK_SIZES_MM[look] for look in LOOKS])


@dataclass(frozen=True)
class SizeSpread:
    """How much log sizes (height, depth) vary.

    Parameters
    ----------
    patient : tuple of float
        SD of what all vertebrae of a patient share.
    vertebra : tuple of float
        SD inside a patient: of the vertebrae, of their reading, and of what the table has wrong.
    """

    patient: tuple[float, float]
    vertebra: tuple[float, float]


def size_evidence(
    sizes: Float[np.ndarray, "k 2"], expected: Float[np.ndarray, "p k 2"], spread: SizeSpread
) -> Float[np.ndarray, "p"]:
    """Log likelihood, but for a constant, of the sizes of k vertebrae under p rows of expected sizes.

    A Gaussian whose errors are independent but for one that all vertebrae of the patient share, integrated out: the
    covariance is w2 I + b2 1 1', its inverse by Sherman and Morrison's formula.

    Parameters
    ----------
    sizes : array [k, 2]
        Log of height and depth, mm; NaN where one says nothing.
    expected : array [p, k, 2]
    spread : SizeSpread
    """
    total = np.zeros(len(expected))
    for feature, (shared, own) in enumerate(zip(spread.patient, spread.vertebra, strict=True)):
        known = np.isfinite(sizes[:, feature])
        off = sizes[known, feature] - expected[:, known, feature]
        common = shared**2 * off.sum(1) ** 2 / (own**2 + known.sum() * shared**2)
        total -= 0.5 * ((off**2).sum(1) - common) / own**2
    return total
