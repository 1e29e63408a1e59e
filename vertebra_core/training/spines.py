"""Annotated spines as the second network learns from them: a stack of straightened planes with keypoints."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int16

from vertebra_core.geometry import CentreLine
from vertebra_core.settings import StraightenSettings
from vertebra_core.straighten import straighten
from vertebra_core.truth import Truth
from vertebra_core.volume import Volume

STACK_U_MM = np.arange(-8.0, 8.1, 1.0)
"""Parallel planes of a stack: wider than the network's five, so that the line may be moved sideways in training."""
STACK_V_MM = 64.0
"""Extent of a stack before and behind the line: wider than the network's plane for the same reason."""
BEYOND_MM = 45.0
"""The stack goes on beyond the first and last vertebra: there the network learns where the spine ends."""


PHANTOM = "phantom-"
"""How the names of phantoms begin."""


@dataclass(frozen=True)
class Spine:
    """Straightened planes of one annotated spine.

    Parameters
    ----------
    name : str
    planes : array [u, s, v], int16
        HU at `STACK_U_MM`; outside the image air.
    valid : array [s, v], bool
        Inside the image.
    origin_mm : array [2]
        (v, s) of the centre of pixel [0, 0].
    pixel_mm : float
    points : array [k, 6, 2]
        (v, s), mm.
    complete : array [k], bool
    known_mm : tuple of float
        Between these s every vertebra is annotated; beyond them nothing is said about what is there.
    tolerance_mm : float
        Heights may differ by this from the reading without being wrong (`tolerance_of`).
    """

    name: str
    planes: Int16[np.ndarray, "u s v"]
    valid: Bool[np.ndarray, "s v"]
    origin_mm: Float[np.ndarray, "2"]
    pixel_mm: float
    points: Float[np.ndarray, "k 6 2"]
    complete: Bool[np.ndarray, "k"]
    known_mm: tuple[float, float]
    tolerance_mm: float

    @property
    def synthetic(self) -> bool:
        """True for a phantom."""
        return self.name.startswith(PHANTOM)


def true_line(points: Float[np.ndarray, "k 6 3"], beyond_mm: float = 0.0) -> CentreLine:
    """Smooth line through the middles of the middle heights (paper 3.1), prolonged straight at both ends."""
    middle = points[:, 2:4].mean(1)
    if len(middle) < 2:
        raise ValueError("a line needs at least two vertebrae")
    first = (middle[0] - middle[1]) / np.linalg.norm(middle[0] - middle[1])
    last = (middle[-1] - middle[-2]) / np.linalg.norm(middle[-1] - middle[-2])
    steps = np.array([0.5, 1.0])[:, None] * max(beyond_mm, 10.0)
    return CentreLine(np.concatenate([middle[0] + steps[::-1] * first, middle, middle[-1] + steps * last]))


def tolerance_of(spacing_mm: float) -> float:
    """How far (mm) heights may be from a reading on slices of this spacing without being wrong.

    Two readings by slightly different rules differed by 0.9 to 1.3 mm in every height at slices of 2.5 mm and more,
    by 0.2 to 0.4 mm in thinner ones: the blurred border lies where the reader decides. So thick slices teach where
    vertebrae are, and sharp ones, made thick by a slice profile, where a blurred border is.
    """
    return 0.0 if spacing_mm <= 1.6 else 0.5 if spacing_mm <= 3.3 else 1.0


def known_range(truth: Truth, tops: np.ndarray, bottoms: np.ndarray) -> tuple[float, float]:
    """Range of s (mm) in which all vertebrae are annotated.

    Open-ended above C3 and below L5, where the spine that is measured ends (what follows there is dens or sacrum,
    and no vertebra).
    """
    start = -np.inf if truth.levels[0] == "C3" and truth.complete[0] else float(tops[0])
    stop = np.inf if truth.levels[-1] == "L5" and truth.complete[-1] else float(bottoms[-1])
    return start, stop


def straight_spine(name: str, volume: Volume, truth: Truth, tolerance_mm: float | None = None) -> Spine:
    """Straighten a volume along its true centre line and map the keypoints into the plane.

    `tolerance_mm` follows from the spacing along the spine unless it is given.
    """
    line = true_line(truth.points, BEYOND_MM)
    settings = StraightenSettings(anterior_mm=STACK_V_MM, posterior_mm=STACK_V_MM, parallel_mm=tuple(STACK_U_MM))
    straight = straighten(volume, line, settings)
    points = straight.straight_from_patient(truth.points)
    known = known_range(truth, points[..., 1].min(1), points[..., 1].max(1))
    return Spine(
        name,
        np.rint(straight.planes).astype(np.int16),
        straight.valid,
        straight.origin_mm,
        straight.pixel_mm,
        points,
        truth.complete,
        known,
        tolerance_of(volume.head_foot_spacing) if tolerance_mm is None else tolerance_mm,
    )
