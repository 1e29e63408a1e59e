"""Which series of a study is measured: one, by a stated rule; every other says why it is not.

The rule compares, in this order:

1. axial before reformatted planes;
2. original before derived, primary before secondary images (ImageType);
3. coverage: a series of less than half the longest head-foot extent of its study comes after;
4. thinner before thicker slices, down to 1 mm, where heights gain nothing more;
5. soft before sharp kernels: noise blurs the endplates less;
6. longer before shorter; then finer spacing, without before with contrast, and the order of UIDs and stacks, so
   that the choice is the same every night.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from vertebra_core.errors import Reason
from vertebra_core.reading.series import Series

USABLE_COVERAGE = 0.5
"""Share of the longest extent in the study below which a series is only a part of what was scanned."""
FINE_ENOUGH_MM = 1.0
"""Slices thinner than this are no better for heights: it is the resolution of the keypoints (design: 0.5 mm pixels)."""
SIEMENS_SHARP, SIEMENS_MEDIUM = 60, 45
"""Siemens kernels carry their sharpness as a number: B31 is soft, B45 to B59 medium, B60 and above sharp."""
CANON_SHARP = range(30, 100)
"""Canon (Toshiba) kernels: FC01 to FC29 body and brain, FC30 and above bone and lung."""
SHARP_WORDS = ("BONE", "LUNG", "EDGE", "SHARP", "ULTRA")
MEDIUM_WORDS = ("DETAIL", "CHST", "CHEST")
SOFT_WORDS = ("SOFT", "STANDARD", "STND", "SMOOTH", "BODY")
PHILIPS = {"A": 0, "B": 0, "C": 1, "D": 1, "E": 2, "L": 2, "YA": 2, "YB": 2, "YC": 2, "YD": 2}
"""Philips kernels by letter, from smooth to sharp."""
SHARPNESS = ("soft", "medium", "sharp")


def choose_index_series(series: Sequence[Series]) -> list[Series]:
    """Choose the index series of every study.

    Returns
    -------
    list of Series
        In the order given; of the series of a study that could be measured one keeps ``decision`` None, the
        others get NOT_INDEX_SERIES, or OTHER_STACK where the chosen one is a stack of the same series.
    """
    studies: dict[tuple[str, str], list[int]] = defaultdict(list)
    for i, one in enumerate(series):
        if one.decision is None:
            studies[one.patient_id, one.study_uid].append(i)
    chosen = list(series)
    for members in studies.values():
        longest = max(series[i].extent_mm or 0.0 for i in members)
        best = min(members, key=lambda i: rank(series[i], longest))
        for i in members:
            if i != best:
                chosen[i] = _not_chosen(series[i], series[best])
    return chosen


def rank(series: Series, longest_mm: float) -> tuple:
    """The rule above as a value to sort by: the smallest is measured.

    Parameters
    ----------
    series : Series
        One that could be measured.
    longest_mm : float
        The longest head-foot extent among the series of its study.
    """
    extent = series.extent_mm or 0.0
    thickness = max(series.slice_spacing_mm or 0.0, series.slice_thickness_mm or 0.0)
    return (
        series.orientation != "axial",
        "ORIGINAL" not in series.image_type[:1],
        "PRIMARY" not in series.image_type[1:2],
        extent < USABLE_COVERAGE * longest_mm,
        round(max(thickness, FINE_ENOUGH_MM), 2),
        sharpness(series.kernel),
        -round(extent),
        round(series.slice_spacing_mm or 0.0, 2),
        bool(series.contrast),
        series.series_uid,
        series.stack,
    )


def sharpness(kernel: str | None) -> int:
    """Sharpness of a reconstruction kernel: 0 soft, 1 medium or unknown, 2 sharp.

    Examples
    --------
    >>> [sharpness(k) for k in ("STANDARD", "B70f", "Br40d/3", "LUNG", "FC52", "D", None)]
    [0, 2, 0, 2, 2, 1, 1]
    """
    name = (kernel or "").upper()
    for level, words in ((2, SHARP_WORDS), (1, MEDIUM_WORDS), (0, SOFT_WORDS)):
        if any(word in name for word in words):
            return level
    if siemens := re.match(r"[A-Z]{1,2}(\d\d)", name):
        value = int(siemens[1])
        if name.startswith("FC"):
            return 2 if value in CANON_SHARP else 0
        return 2 if value >= SIEMENS_SHARP else 1 if value >= SIEMENS_MEDIUM else 0
    return PHILIPS.get(name, 1)


def _describe(series: Series) -> str:
    thickness = max(series.slice_spacing_mm or 0.0, series.slice_thickness_mm or 0.0)
    kind = "original" if "ORIGINAL" in series.image_type[:1] else "derived"
    kernel = SHARPNESS[sharpness(series.kernel)]
    size = f"{series.extent_mm or 0.0:.0f} mm long, {thickness:.2f} mm slices"
    return f"{series.orientation}, {kind}, {size}, {kernel} kernel"


def _not_chosen(series: Series, best: Series) -> Series:
    same = series.series_uid == best.series_uid
    reason = Reason.OTHER_STACK if same else Reason.NOT_INDEX_SERIES
    detail = f"this one: {_describe(series)}; chosen: {_describe(best)}"
    if _describe(series) == _describe(best):
        detail = f"equal to the chosen one ({_describe(best)}); the first in order was taken"
    return replace(series, decision=reason, decision_detail=detail)
