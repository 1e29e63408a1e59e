"""Ranges of a stack in which slices follow each other evenly: two ranges in one series are two stacks."""

import numpy as np
from jaxtyping import Float

from vertebra_core.settings import ReadingSettings

SHARE_IN_RANGES = 0.8
"""A stack is parted only where at least this share of its slices lies in ranges long enough to be measured: what is
uneven all along is refused as it is."""


def regular_ranges(along: Float[np.ndarray, "n"], settings: ReadingSettings) -> list[tuple[int, int]]:
    """Part sorted positions into even ranges.

    Parameters
    ----------
    along : array [n]
        Positions along the normal, mm, sorted, all different.
    settings : ReadingSettings

    Returns
    -------
    list of (start, stop)
        Slices of each range, together all of them; one range where nothing is gained by parting.

    Examples
    --------
    >>> along = np.r_[np.arange(0, 40, 2.0), np.arange(40, 140, 5.0)]
    >>> regular_ranges(along, ReadingSettings())
    [(0, 21), (21, 40)]
    """
    whole = [(0, len(along))]
    if len(along) < 2 * settings.min_slices or _fits_one_grid(along, settings):
        return whole
    ranges = _merge(along, _even_runs(along, settings), settings)
    long_enough = [stop - start for start, stop in ranges if stop - start >= settings.min_slices]
    return ranges if sum(long_enough) >= SHARE_IN_RANGES * len(along) else whole


def _fits_one_grid(along: np.ndarray, settings: ReadingSettings) -> bool:
    """True where all steps are whole multiples of their median and no gap is too wide to fill."""
    steps = np.diff(along)
    return _multiples(steps, float(np.median(steps)), settings)


def _multiples(steps: np.ndarray, step: float, settings: ReadingSettings) -> bool:
    ratio = steps / step
    whole = np.rint(ratio)
    even = (np.abs(ratio - whole) <= settings.spacing_tolerance).all() and (whole >= 1).all()
    return bool(even and (steps[whole > 1] <= settings.max_filled_gap_mm).all())


def _even_runs(along: np.ndarray, settings: ReadingSettings) -> list[tuple[int, int]]:
    """Runs of equal steps, from the foot end; a slice between two runs belongs to the first."""
    steps = np.diff(along).tolist()
    runs, start = [], 0
    while start < len(along):
        stop, length = start + 1, 0.0
        while stop < len(along) and _alike(steps[stop - 1], length, stop - 1 - start, settings):
            length += steps[stop - 1]
            stop += 1
        runs.append((start, stop))
        start = stop
    return runs


def _alike(step: float, length: float, n_steps: int, settings: ReadingSettings) -> bool:
    """Whether a step continues a run of `n_steps` that are `length` mm long together."""
    return n_steps == 0 or abs(step - length / n_steps) <= settings.spacing_tolerance * length / n_steps


def _merge(along: np.ndarray, runs: list[tuple[int, int]], settings: ReadingSettings) -> list[tuple[int, int]]:
    """Join neighbouring runs that lie on one grid: a few missing slices do not part a range."""
    merged = [runs[0]]
    for start, stop in runs[1:]:
        joined = along[merged[-1][0] : stop]
        counted = len(joined) - 1 >= 2 and _multiples(np.diff(joined), float(np.median(np.diff(joined))), settings)
        if counted and _mostly_single(np.diff(joined), settings):
            merged[-1] = (merged[-1][0], stop)
        else:
            merged.append((start, stop))
    return merged


def _mostly_single(steps: np.ndarray, settings: ReadingSettings) -> bool:
    whole = np.rint(steps / np.median(steps))
    return bool((whole - 1).sum() <= max(1.0, settings.max_filled_fraction * len(steps)))
