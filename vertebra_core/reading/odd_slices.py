"""Slices that cannot belong between their neighbours: decoded to garbage, shifted, or off by a lost rescale.

Most codecs and raw pixels have no checksum: a damaged slice decodes to something. Anatomy, however, changes little
from slice to slice, and noise no more: the mean of both neighbours is as near to a sound slice as the neighbours are
to each other.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped

from vertebra_core.errors import NotEvaluable, Reason

LOOK_EVERY = 4
"""In-plane stride of the pixels compared: enough to see what spoils a slice, a tenth of the time."""
LOWEST_HU, HIGHEST_HU = -1000.0, 1000.0
"""Values are clipped to these: metal must not outweigh the rest."""
ODD_RATIO, ODD_HU = 2.5, 50.0
"""A slice is odd when it differs from the mean of its neighbours by this many times as much as they differ from each
other, and by this much, in the median of the body's pixels; a disc in one slice of a narrow crop fills fewer than half.
Of 16 real CTs of 1 to 5 mm the largest ratio is 0.82 (pure noise: 0.87)."""
SPOILT_RATIO, SPOILT_HU = 5.0, 200.0
"""Or by these in the mean of all pixels: a part of the slice is lost."""
AIR_BELOW_HU = -500.0
NOISE_HU = 10.0
"""Added to the difference of the neighbours: two equal slices prove nothing."""
JUMP_RATIO, JUMP_HU = 6.0, 150.0
"""The image jumps where two neighbours differ by this many times the median difference, and by this much on average;
in those CTs at most 2.4 times, and 177 HU; and by as much in the median of the body's pixels."""


MOST_ODD = 0.1
"""Share of odd slices above which the series is not to be trusted at all; one is always allowed."""


@dataclass(frozen=True)
class OddSlices:
    """Indices of odd slices: `inner` between sound neighbours, `outer` at the ends of the volume."""

    inner: tuple[int, ...]
    outer: tuple[int, ...]


def find_odd_slices(hu: Shaped[np.ndarray, "z y x"], present: Shaped[np.ndarray, "n"]) -> OddSlices:
    """Name the slices that do not belong between their neighbours.

    Parameters
    ----------
    hu : array [z, y, x]
        In HU.
    present : array [n]
        Indices, ascending, of the slices that hold an image; the others are left out of account.

    Raises
    ------
    NotEvaluable
        PIXELS_DAMAGED where many slices are odd, or the image jumps between two neither of which is odd by itself.
    """
    if len(present) < 4:
        return OddSlices((), ())
    small = _small(hu, present)
    steps = _differences(small[:-1], small[1:])
    across = _differences(small[:-2], small[2:])
    between = _differences(small[1:-1], (small[:-2] + small[2:]) / 2.0)
    odd = np.zeros(len(present), bool)
    odd[1:-1] = (between > SPOILT_RATIO * (across + NOISE_HU)) & (between > SPOILT_HU)
    odd[1:-1] |= [_is_odd(*three) for three in zip(small[:-2], small[1:-1], small[2:], strict=True)]
    for end, step, next_step in ((0, steps[0], steps[1]), (-1, steps[-1], steps[-2])):
        odd[end] = step > JUMP_RATIO * (next_step + NOISE_HU) and step > JUMP_HU
    if odd.sum() > max(MOST_ODD * len(present), 1):
        raise NotEvaluable(Reason.PIXELS_DAMAGED, f"{odd.sum()} of {len(present)} slices do not fit their neighbours")
    _refuse_jump(small[~odd], present[~odd])
    inner = [int(present[i]) for i in np.flatnonzero(odd) if 0 < i < len(present) - 1]
    outer = [int(present[i]) for i in np.flatnonzero(odd) if i in (0, len(present) - 1)]
    return OddSlices(tuple(inner), tuple(outer))


def _is_odd(below: np.ndarray, here: np.ndarray, above: np.ndarray) -> bool:
    body = np.maximum(np.maximum(below, above), here) > AIR_BELOW_HU
    if not body.any():
        return False
    between = float(np.median(np.abs(here - (below + above) / 2.0)[body]))
    across = float(np.median(np.abs(above - below)[body]))
    return between > ODD_HU and between > ODD_RATIO * (across + NOISE_HU)


def _small(hu: np.ndarray, present: np.ndarray) -> Float[np.ndarray, "n y x"]:
    return np.clip(hu[present, ::LOOK_EVERY, ::LOOK_EVERY], LOWEST_HU, HIGHEST_HU).astype(np.float32)


def _differences(a: np.ndarray, b: np.ndarray) -> Float[np.ndarray, "n"]:
    return np.abs(a - b).mean((1, 2))


def _refuse_jump(small: np.ndarray, present: np.ndarray) -> None:
    steps = _differences(small[:-1], small[1:])
    median = float(np.median(steps)) if len(steps) else 0.0
    for i in np.flatnonzero(steps > max(JUMP_RATIO * (median + NOISE_HU), JUMP_HU)):
        body = np.maximum(small[i], small[i + 1]) > AIR_BELOW_HU
        if np.median(np.abs(small[i + 1] - small[i])[body]) > JUMP_HU:  # else only a part, a disc, has changed
            detail = f"the image jumps by {steps[i]:.0f} HU after slice {int(present[i]) + 1}"
            raise NotEvaluable(Reason.PIXELS_DAMAGED, f"{detail}, by {median:.0f} HU in the median")
