"""Which series of a study is measured: one, by a stated rule; every other says which part of the rule decided.

The rule compares, in this order:

1. plain images before phases, averages and images of one tube of two, these before virtual ones (`content`);
2. axial before reformatted planes;
3. original before derived, primary before secondary images (ImageType);
4. coverage: a series of less than half the longest head-foot extent of its study comes after;
5. thinner before thicker slices, down to `fine_enough_mm`: the larger of spacing and SliceThickness counts;
6. soft before sharp kernels: noise blurs the endplates less;
7. longer before shorter; then finer spacing, without before with contrast, and the order of UIDs and stacks, so
   that the choice is the same every night.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from vertebra_core.errors import Reason
from vertebra_core.reading.content import Content, content_named
from vertebra_core.reading.kernels import SHARPNESS, UNKNOWN_SHARPNESS, sharpness
from vertebra_core.reading.series import Series
from vertebra_core.settings import ReadingSettings

NOT_CHOSEN = frozenset({Reason.NOT_INDEX_SERIES, Reason.OTHER_STACK, Reason.OTHER_PHASE})
"""Decisions on series that could be measured, but for a better one in the same study."""


def choose_index_series(series: Sequence[Series], settings: ReadingSettings | None = None) -> list[Series]:
    """Choose the index series of every study.

    Returns
    -------
    list of Series
        In the order given; of the series of a study that could be measured one keeps ``decision`` None, the
        others get one of `NOT_CHOSEN`. Both say why in `decision_detail`.
    """
    settings = settings or ReadingSettings()
    studies: dict[tuple[str, str], list[int]] = defaultdict(list)
    for i, one in enumerate(series):
        if one.decision is None:
            studies[one.patient_id, one.study_uid].append(i)
    chosen = list(series)
    for members in studies.values():
        longest = max(series[i].extent_mm or 0.0 for i in members)
        ranks = {i: rank(series[i], longest, settings) for i in members}
        best = min(members, key=lambda i: tuple(ranks[i].values()))
        for i in members:
            if i == best:
                chosen[i] = _chosen(series[i], len(members))
            else:
                chosen[i] = _not_chosen(series[i], series[best], _what_decided(ranks[i], ranks[best]))
    return chosen


def rank(series: Series, longest_mm: float, settings: ReadingSettings) -> dict[str, float | str]:
    """The rule above as values to sort by, in its order, each under the name of its part: the smallest is measured.

    Parameters
    ----------
    series : Series
        One that could be measured.
    longest_mm : float
        The longest head-foot extent among the series of its study.
    settings : ReadingSettings
    """
    extent = series.extent_mm or 0.0
    return {
        "content": content_named(series.content).order or 0,
        "plane": series.orientation != "axial",
        "original": "ORIGINAL" not in series.image_type[:1],
        "primary": "PRIMARY" not in series.image_type[1:2],
        "coverage": extent < settings.usable_coverage * longest_mm,
        "slice thickness": round(max(thickness_mm(series), settings.fine_enough_mm), 2),
        "kernel": _degree(series.kernel),
        "length": -round(extent),
        "spacing": round(series.slice_spacing_mm or 0.0, 2),
        "contrast": bool(series.contrast),
        "order": series.series_uid,
        "stack": series.stack,
    }


def thickness_mm(series: Series) -> float:
    """What a slice shows from head to foot: the larger of spacing and SliceThickness."""
    return max(series.slice_spacing_mm or 0.0, series.slice_thickness_mm or 0.0)


def _degree(kernel: str | None) -> int:
    known = sharpness(kernel)
    return UNKNOWN_SHARPNESS if known is None else known


def _what_decided(worse: dict, better: dict) -> str:
    return next(name for name, value in worse.items() if value != better[name])


def _describe(series: Series) -> str:
    kind = "original" if "ORIGINAL" in series.image_type[:1] else "derived"
    if series.content != Content.PLAIN.code:
        kind += f" ({series.content})"
    kernel = SHARPNESS[_degree(series.kernel)]
    size = f"{series.extent_mm or 0.0:.0f} mm long, {thickness_mm(series):.2f} mm slices"
    return f"{series.orientation}, {kind}, {size}, {kernel} kernel"


def _chosen(series: Series, n_members: int) -> Series:
    among = "the only one that can be measured" if n_members == 1 else f"best of {n_members} that can be measured"
    return replace(series, decision_detail=f"{among}: {_describe(series)}")


def _not_chosen(series: Series, best: Series, decided: str) -> Series:
    reason = Reason.NOT_INDEX_SERIES
    if series.series_uid == best.series_uid:
        reason = Reason.OTHER_STACK
    elif series.content == best.content == Content.PHASE.code:
        reason = Reason.OTHER_PHASE
    detail = f"{decided} decided; this one: {_describe(series)}; chosen: {_describe(best)}"
    if decided in ("order", "stack"):
        detail = f"equal to the chosen one ({_describe(best)}); the first in order was taken"
    return replace(series, decision=reason, decision_detail=detail)
