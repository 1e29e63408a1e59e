"""Are these numbers Hounsfield units? Masks, pictures and raw detector values look like a volume too.

Two things stand fast in every CT of a body: most of what is neither air nor lung is fat or soft tissue, at -120 to
60 HU, and air lies at -1000. They are looked for in a histogram, before any padding was made air. What is off by a
known shift is put right where both peaks prove it, and said so; what cannot be is refused.
"""

import numpy as np
from jaxtyping import Shaped

from vertebra_core.errors import NotEvaluable, Reason
from vertebra_core.volume import AIR_HU

LOWEST, HIGHEST = -4096, 8191
"""Values that are counted one by one; those beyond are counted at the ends."""

FAT_BELOW_HU = -30.0
"""Fat (-120 to -60 HU), lung and air lie below, and every view of a body has some (HU by definition; water is 0)."""
LEAST_BELOW_FAT = 1e-3
"""Least share of voxels below `FAT_BELOW_HU`: the tightest spine crops at hand have more than a tenth."""
BONE_ABOVE_HU = 100.0
"""The densest voxel of a view with any bone is far above; a volume scaled to 0..1 or to unit variance is below."""
LEAST_RANGE_HU = 500.0
"""From the lowest to the highest voxel of any view of a spine: 6 cm round it span 1,300 HU and more."""
CLIPPED_ABOVE_HU, CLIPPED_BELOW_HU = -500.0, 600.0
"""A lowest value above the first, or a highest below the second, that many voxels share exactly is the end of a
burnt-in window: cortical bone reaches 600 HU and more."""
CLIPPED_LOW_SHARE, CLIPPED_HIGH_SHARE = 0.01, 0.001

TISSUE_ABOVE_HU = -300.0
"""Between lung and fat."""
TISSUE_PEAK_HU = (-200.0, 260.0)
"""Where the commonest value above `TISSUE_ABOVE_HU` lies. Of the 15 real CTs at hand, whole and cut to 12 and 6 cm
round the spine, it lies between -104 and 151 HU (with contrast, in 6 cm); contrast may be 1.3 times as strong."""
PEAK_WIDTH = 41
"""Values taken together when a peak is looked for: fat and muscle are broader, noise included."""
LEAST_TISSUE = 1e-3
"""Share of voxels above `TISSUE_ABOVE_HU` below which nothing can be said about them."""

AIR_PROVEN_HU = (-1100.0, -900.0)
"""Where air must lie before an intercept is restored: scanners differ by 24 HU (1000 or 1024 as the offset)."""
AIR_POSSIBLE_HU = (-1400.0, -650.0)
"""Where a narrow peak of low values may lie: air, or a lung with little else; values doubled or halved are outside."""
AIR_SHARE = 0.02
"""Share of voxels that makes a peak of air."""
NARROW_SHARE, NARROW_HU = 0.7, 30.0
"""Air is narrow: this share of all values below `TISSUE_ABOVE_HU` lies this close to its peak. Of lungs at hand at most
0.55 does, where no air is in view."""
SPIKE = 0.8
"""A single value that makes up this share of its peak is padding, not air: air has noise."""

OFFSET_HU = -1024
"""Intercept of unsigned CT pixels since the first scanners of 12 bits; where it is lost, air lies at 0 to 24."""
SIGN_WRAP = 2**16
WRAPPED_ABOVE, WRAPPED_SHARE = 2**15 - 1, 0.05
"""No scale of CT exceeds 30,710 HU: many values above are negative ones (fat, lung, air) read without their sign."""


class ValueCounts:
    """How often each whole value occurs in a volume, gathered slice by slice before padding becomes air."""

    def __init__(self) -> None:
        self.counts = np.zeros(HIGHEST - LOWEST + 1, np.int64)

    def add(self, values: Shaped[np.ndarray, "*n"]) -> None:
        """Count the values of a slice; what is not finite is left out."""
        if values.dtype.kind == "f":
            values = np.rint(values[np.isfinite(values)])
        whole = np.clip(values, LOWEST, HIGHEST).astype(np.intp).ravel()
        self.counts += np.bincount(whole - LOWEST, minlength=len(self.counts))

    def shifted(self, offset: int) -> "ValueCounts":
        """The counts of the same values with a whole number added."""
        moved = ValueCounts()
        moved.counts = np.roll(self.counts, offset)
        return moved

    def share(self, low: float, high: float) -> float:
        """Share of all values in [low, high]."""
        start, stop = int(low) - LOWEST, int(high) - LOWEST + 1
        return float(self.counts[max(start, 0) : stop].sum() / max(int(self.counts.sum()), 1))

    def peak(self, low: float, high: float) -> float:
        """The commonest value in [low, high], neighbouring values taken together."""
        smooth = np.convolve(self.counts, np.ones(PEAK_WIDTH, np.int64), "same")
        start = int(low) - LOWEST
        return float(smooth[start : int(high) - LOWEST + 1].argmax() + start + LOWEST)

    def is_spike(self, value: float) -> bool:
        """Whether one single value makes up most of the peak around `value`."""
        middle = int(value) - LOWEST
        around = self.counts[max(middle - PEAK_WIDTH, 0) : middle + PEAK_WIDTH + 1]
        return bool(around.max() >= SPIKE * around.sum())


def mend_units(
    hu: Shaped[np.ndarray, "z y x"], counts: ValueCounts, rescaled: bool, air_below_hu: float
) -> tuple[Shaped[np.ndarray, "z y x"], tuple[str, ...]]:
    """Put right values that lost their sign or their intercept, where the peaks of air and tissue prove it.

    Parameters
    ----------
    hu : array [z, y, x]
        Padding already set to `AIR_HU`; changed in place where it can be.
    counts : ValueCounts
        Of the same volume before padding became air; changed with it.
    rescaled : bool
        True where the header states an intercept that is not 0: then nothing is shifted.
    air_below_hu : float
        Lower values are padding.

    Returns
    -------
    array, tuple of str
        The volume and what was mended, as codes.
    """
    repairs: tuple[str, ...] = ()
    if counts.share(HIGHEST, HIGHEST) > WRAPPED_SHARE and float(hu.max()) > WRAPPED_ABOVE:
        signed = np.where(hu > WRAPPED_ABOVE, hu - SIGN_WRAP, hu)
        again = ValueCounts()
        again.add(signed)
        if _is_body(again):
            hu, counts.counts = _with_air(signed.astype(np.int16), air_below_hu), again.counts
            repairs += ("sign_restored",)
    nothing_below = counts.share(LOWEST, FAT_BELOW_HU) < LEAST_BELOW_FAT
    if not rescaled and nothing_below and _is_body(moved := counts.shifted(OFFSET_HU)) and _has_air(moved):
        hu += np.asarray(OFFSET_HU, hu.dtype)
        hu, counts.counts = _with_air(hu, air_below_hu), moved.counts
        repairs += (f"intercept_restored:{OFFSET_HU}",)
    return hu, repairs


def _with_air(hu: np.ndarray, air_below_hu: float) -> np.ndarray:
    for plane in hu:  # plane by plane: no second volume
        plane[plane < air_below_hu] = AIR_HU
    return hu


def _has_air(counts: ValueCounts) -> bool:
    return counts.share(*AIR_PROVEN_HU) >= AIR_SHARE


def _is_body(counts: ValueCounts) -> bool:
    """True where the commonest value that is neither air nor lung is one of fat or soft tissue."""
    low, high = TISSUE_PEAK_HU
    return (
        low <= counts.peak(TISSUE_ABOVE_HU, HIGHEST) <= high and counts.share(TISSUE_ABOVE_HU, HIGHEST) > LEAST_TISSUE
    )


def refuse_odd_values(hu: Shaped[np.ndarray, "z y x"], counts: ValueCounts, padded: int, trusted: bool) -> None:
    """Refuse voxels that are no Hounsfield units.

    Parameters
    ----------
    hu : array [z, y, x]
        Padding already set to `AIR_HU`.
    counts : ValueCounts
        Of the same volume before padding became air.
    padded : int
        Number of voxels that are padding; it proves nothing about the units.
    trusted : bool
        True where the header states a rescale with a negative intercept, which only Hounsfield units need.

    Raises
    ------
    NotEvaluable
        NOT_FINITE, CONSTANT_IMAGE, NOT_HOUNSFIELD.
    """
    low, high = float(hu.min()), float(hu.max())
    if not np.isfinite([low, high]).all():  # min and max carry a NaN
        raise NotEvaluable(Reason.NOT_FINITE, "at least one voxel is NaN or infinite")
    if low == high:
        raise NotEvaluable(Reason.CONSTANT_IMAGE, f"every voxel is {low:g} HU")
    fatty = sum(int((plane < FAT_BELOW_HU).sum()) for plane in hu) - padded  # plane by plane: no second volume
    counted = max(hu.size - padded, 1)
    if not trusted and (high < BONE_ABOVE_HU or fatty < LEAST_BELOW_FAT * counted):
        share = f"{fatty / counted:.2%} of them below {FAT_BELOW_HU:g}"
        raise NotEvaluable(Reason.NOT_HOUNSFIELD, f"values {low:g} to {high:g}, {share}: no fat, no air")
    _refuse_clipped(hu, low, high)
    _refuse_wrong_scale(counts, low, high)


def _refuse_clipped(hu: np.ndarray, low: float, high: float) -> None:
    at_low, at_high = (sum(int((plane == end).sum()) for plane in hu) / hu.size for end in (low, high))
    burnt_low = low > CLIPPED_ABOVE_HU and at_low > CLIPPED_LOW_SHARE
    burnt_high = high < CLIPPED_BELOW_HU and at_high > CLIPPED_HIGH_SHARE
    if burnt_low or burnt_high:
        share, end = (at_low, low) if burnt_low else (at_high, high)
        raise NotEvaluable(Reason.NOT_HOUNSFIELD, f"{share:.1%} of all voxels are {end:g}: a window burnt in")


def _refuse_wrong_scale(counts: ValueCounts, low: float, high: float) -> None:
    if high - low < LEAST_RANGE_HU and low > TISSUE_ABOVE_HU:
        raise NotEvaluable(Reason.NOT_HOUNSFIELD, f"values {low:g} to {high:g}: no air and no bone")
    tissue = counts.peak(TISSUE_ABOVE_HU, HIGHEST)
    if not _is_body(counts):
        detail = f"most tissue at {tissue:g}, {TISSUE_PEAK_HU[0]:g} to {TISSUE_PEAK_HU[1]:g} HU expected"
        raise NotEvaluable(Reason.NOT_HOUNSFIELD, detail)
    lowest = counts.peak(LOWEST, AIR_POSSIBLE_HU[0])
    if counts.share(LOWEST, AIR_POSSIBLE_HU[0]) > AIR_SHARE and not counts.is_spike(lowest):
        raise NotEvaluable(Reason.NOT_HOUNSFIELD, f"air at {lowest:g}, {AIR_HU:g} HU expected")
    air = counts.peak(LOWEST, TISSUE_ABOVE_HU)
    below = counts.share(LOWEST, TISSUE_ABOVE_HU)
    near = counts.share(air - NARROW_HU, air + NARROW_HU)
    narrow = near > max(AIR_SHARE, NARROW_SHARE * below) and not counts.is_spike(air)
    if narrow and not AIR_POSSIBLE_HU[0] <= air <= AIR_POSSIBLE_HU[1]:
        raise NotEvaluable(Reason.NOT_HOUNSFIELD, f"air at {air:g}, {AIR_HU:g} HU expected")
