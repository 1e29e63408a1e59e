"""The whole method on one page: from a CT volume to six keypoints, three heights and G of every vertebra."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from vertebra_core.curve.find import find_curve
from vertebra_core.curve.midline import centred
from vertebra_core.errors import NotEvaluable, Reason
from vertebra_core.geometry import CentreLine
from vertebra_core.keypoints.find import find_keypoints
from vertebra_core.levels.find import name_levels
from vertebra_core.measure import Sizes, measure_vertebrae, unmeasured
from vertebra_core.models import Models
from vertebra_core.settings import Settings
from vertebra_core.straighten import StraightSpine, straighten
from vertebra_core.volume import Volume

Watch = Callable[[str], None]
"""Hears the name of each stage as it begins; the caller may hold the stopwatch, the core never asks the time."""


def unwatched(stage: str) -> None:
    """Ignore the stage."""


@dataclass(frozen=True)
class StudyResult:
    """What was found in one volume: k vertebrae from the top down.

    Parameters
    ----------
    curve : CentreLine
    spine : StraightSpine
    points : array [k, 6, 3]
        Keypoints, LPS mm, in the order of `vertebra_core.measure.KEYPOINT_NAMES`.
    scores : array [k]
        Detection score, 0 to 1.
    complete : array [k], bool
        False where the edge of the scan cuts the vertebra; such heights are not published.
    sizes : Sizes
    levels : tuple of (str or None)
        "C3" .. "L6" (T13 where a patient has one), none twice; None where the view cannot tell.
    level_confidence : array [k]
        Probability that the level is right, calibrated on left-out patients (docs/levels.md); NaN where it is None.
    """

    curve: CentreLine
    spine: StraightSpine
    points: Float[np.ndarray, "k 6 3"]
    scores: Float[np.ndarray, "k"]
    complete: Bool[np.ndarray, "k"]
    sizes: Sizes
    levels: tuple[str | None, ...]
    level_confidence: Float[np.ndarray, "k"]


def measure_study(volume: Volume, models: Models, settings: Settings, watch: Watch = unwatched) -> StudyResult:
    """Find and measure every vertebra in view (Pisov et al. 2020).

    Raises
    ------
    NotEvaluable
        With the reason why no spine can be measured in this volume.
    """
    watch("curve")
    curve = find_curve(volume, models.curve, settings.curve)  # paper 3.1 -> LPS mm
    curve = centred(volume, curve, settings.symmetry)  # sideways into the plane that mirrors the spine
    watch("straighten")
    spine = straighten(volume, curve, settings.straighten)  # the planes [c, s, v] HU and both maps
    watch("keypoints")
    found = find_keypoints(spine, models.keypoints, settings.keypoints)  # paper 3.2 -> (v, s) mm
    points = spine.patient_from_straight(found.points)  # [k, 6, 3] LPS mm
    watch("levels")
    named = name_levels(volume, curve, points, found.complete, models.levels, settings.levels)  # C3 .. L6
    kept = ~named.foreign  # neither the axis nor the sacrum
    if not kept.any():
        raise NotEvaluable(Reason.NO_VERTEBRA, "what was found is the axis or the sacrum")
    levels = tuple(level for level, keep in zip(named.levels, kept, strict=True) if keep)
    watch("measure")
    sizes = measure_vertebrae(
        points[kept], found.errors[kept], volume.head_foot_spacing, settings.measure
    )  # equation 1
    sizes = unmeasured(sizes, volume.in_gap(points[kept], settings.measure.harmless_gap_mm))
    found_kept = points[kept], found.scores[kept], found.complete[kept]
    return StudyResult(curve, spine, *found_kept, sizes, levels, named.confidence[kept])
