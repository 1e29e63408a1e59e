"""Are these numbers Hounsfield units? Masks, pictures and raw detector values look like a volume too."""

import numpy as np
from jaxtyping import Shaped

from vertebra_core.errors import NotEvaluable, Reason

FAT_BELOW_HU = -30.0
"""Fat (-120 to -60 HU), lung and air lie below, and every view of a body has some (HU by definition; water is 0)."""
LEAST_BELOW_FAT = 1e-3
"""Least share of voxels below `FAT_BELOW_HU`: the tightest spine crops at hand have more than a tenth."""
BONE_ABOVE_HU = 100.0
"""The densest voxel of a view with any bone is far above; a volume scaled to 0..1 or to unit variance is below."""
CLIPPED_ABOVE_HU = -500.0
"""A lowest value above this that many voxels share exactly is the lower end of a burnt-in window."""
CLIPPED_SHARE = 0.01


def refuse_odd_values(hu: Shaped[np.ndarray, "z y x"], padded: int, trusted: bool) -> None:
    """Refuse voxels that are no Hounsfield units.

    Parameters
    ----------
    hu : array [z, y, x]
        Padding already set to `AIR_HU`.
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
    if trusted:
        return
    counted = hu.size - padded
    fatty = sum(int((plane < FAT_BELOW_HU).sum()) for plane in hu) - padded  # plane by plane: no second volume
    at_lowest = sum(int((plane == low).sum()) for plane in hu)
    if high < BONE_ABOVE_HU or fatty < LEAST_BELOW_FAT * counted:
        detail = (
            f"values {low:g} to {high:g}, {fatty / max(counted, 1):.2%} of them below {FAT_BELOW_HU:g}: no fat, no air"
        )
        raise NotEvaluable(Reason.NOT_HOUNSFIELD, detail)
    if low > CLIPPED_ABOVE_HU and at_lowest > CLIPPED_SHARE * hu.size:
        raise NotEvaluable(
            Reason.NOT_HOUNSFIELD, f"{at_lowest / hu.size:.0%} of all voxels are {low:g}: a window burnt in"
        )
