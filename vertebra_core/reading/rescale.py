"""Rescale slope and intercept of the slices of one stack: believed where a scanner can have written them."""

from collections.abc import Sequence
from dataclasses import replace

from vertebra_core.errors import NotEvaluable, Reason
from vertebra_core.reading.headers import SliceHeader

MOST_SLOPE = 64.0
"""Metal reaches 2^15 HU, and stored values have at least 10 bits (PS3.3 C.8.2.1: 12 to 16)."""
MOST_INTERCEPT = 32768.0
"""The offset that makes signed values unsigned; -1024, -1000 and -8192 are usual."""


def supply_rescale(headers: Sequence[SliceHeader]) -> tuple[list[SliceHeader], int]:
    """Give slices that lost their rescale that of all others; without it they would be 1024 HU off.

    Returns
    -------
    headers, number of slices that were given one
        As they were where none has a rescale: the values themselves must then show what they are.

    Raises
    ------
    NotEvaluable
        NOT_HOUNSFIELD where others have different ones, or none that a scanner can have written.
    """
    usable = {header.rescale for header in headers if _is_usable(header.rescale)}
    lost = sum(not _is_usable(header.rescale) for header in headers)
    stated = [header for header in headers if header.rescale is not None]
    if not lost or not stated:
        return list(headers), 0
    if len(usable) != 1:
        detail = f"{lost} of {len(headers)} slices without a usable rescale, among others with {len(usable)}"
        raise NotEvaluable(Reason.NOT_HOUNSFIELD, detail)
    (common,) = usable
    return [header if _is_usable(header.rescale) else replace(header, rescale=common) for header in headers], lost


def _is_usable(rescale: tuple[float, float] | None) -> bool:
    return rescale is not None and 0.0 < rescale[0] <= MOST_SLOPE and abs(rescale[1]) <= MOST_INTERCEPT
