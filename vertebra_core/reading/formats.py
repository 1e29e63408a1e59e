"""From a series to a `Volume` in HU, whatever the format; all judgement of pixels happens here, once."""

import warnings
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from jaxtyping import Shaped

from vertebra_core.errors import Gone, NotEvaluable, Reason
from vertebra_core.reading.files import ArchiveFile, fetched, file_size, full_name
from vertebra_core.reading.grid import SliceGrid, refuse_gaps, slice_grid, slice_thickness
from vertebra_core.reading.headers import SliceHeader, read_headers
from vertebra_core.reading.hounsfield import ValueCounts, mend_units, refuse_odd_values
from vertebra_core.reading.odd_slices import find_odd_slices
from vertebra_core.reading.pixels import decode_slices, refuse_scrambled
from vertebra_core.reading.rescale import supply_rescale
from vertebra_core.reading.series import Series
from vertebra_core.reading.volume_files import read_volume_file
from vertebra_core.settings import ReadingSettings
from vertebra_core.volume import AIR_HU, Volume

TILT_RECORDED_DEGREES = 0.5
"""A shear above this is recorded as a gantry tilt: 4 mm over a spine of 450 mm."""


def read_volume(series: Series, settings: ReadingSettings) -> Volume:
    """Read the voxels of a series.

    Returns
    -------
    Volume
        HU as int16 where every slice has whole HU, else float32; padding is air; the affine of the slice positions.

    Raises
    ------
    NotEvaluable
        With the reason why the series cannot be trusted.
    Gone
        A file of it is not there any more.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd values end in a reason, not in a line per slice
        try:
            with fetched(series.archive, series.files):
                if series.file_format == "dicom":
                    return _read_slices(series, settings)
                return _read_file(series, settings)
        except FileNotFoundError:
            raise Gone from None
        except NotEvaluable as refusal:
            if refusal.reason is Reason.UNREADABLE and is_gone(series):
                raise Gone from None
            raise


def is_gone(series: Series) -> bool:
    """Whether a file of a series is not there any more."""
    try:
        return not all(file_size(series.archive, path) for path in series.files)
    except OSError:  # of a zip or tar file that went
        return True


# -- DICOM --------------------------------------------------------------------------------------------------------


def _read_slices(series: Series, settings: ReadingSettings) -> Volume:
    headers, n_supplied = supply_rescale(series_headers(series))
    grid = slice_grid(headers, settings)
    ordered = [headers[i] for i in grid.order]
    counts = ValueCounts()
    hu, flat, padded = _stack_slices(ordered, grid, settings, counts)
    refuse_scrambled(hu[len(hu) // 2])
    intercepts = [header.rescale[1] if header.rescale else 0.0 for header in headers]
    hu, mended = mend_units(hu, counts, any(intercepts), settings.air_below_hu)
    blank, present = _inner(flat, grid), np.setdiff1d(grid.index, flat)
    odd = find_odd_slices(hu, present)
    filled = fill_slices(hu, (*grid.missing, *blank, *odd.inner), float(grid.spacing[2]), settings)
    refuse_odd_values(hu, counts, padded, trusted=all(intercept < 0 for intercept in intercepts))
    repaired = {
        "rescale_supplied": n_supplied,
        "missing_slice_interpolated": len(grid.missing),
        "blank_slice_interpolated": len(blank),
        "odd_slice_interpolated": len(odd.inner),
        "odd_slice_dropped": len(odd.outer),
    }
    repairs = [*series.repairs, *mended, *(f"{what}:{count}" for what, count in repaired.items() if count)]
    repairs += [f"gantry_tilt_degrees:{grid.tilt_degrees:.1f}"] * (grid.tilt_degrees > TILT_RECORDED_DEGREES)
    source, thick = full_name(series.archive, series.path), slice_thickness(headers)
    volume = Volume(
        hu, grid.patient_from_voxel, tuple(repairs), source=source, filled_slices=filled, slice_thickness_mm=thick
    )
    return without_ends(volume, odd.outer)


def without_ends(volume: Volume, dropped: tuple[int, ...]) -> Volume:
    """Cut first and last slices off a volume; what is left stays where it is in the patient."""
    first, stop = int(0 in dropped), len(volume.hu) - int(len(volume.hu) - 1 in dropped)
    if (first, stop) == (0, len(volume.hu)):
        return volume
    affine = volume.patient_from_voxel.copy()
    affine[:3, 3] += first * affine[:3, 2]
    filled = tuple(index - first for index in volume.filled_slices)
    return replace(volume, hu=volume.hu[first:stop], patient_from_voxel=affine, filled_slices=filled)


def series_headers(series: Series) -> list[SliceHeader]:
    """Read the headers of a series once more: its files may have changed since the inventory."""
    interned: dict = {}
    by_path: dict[str, dict[int, SliceHeader]] = {}
    for path in dict.fromkeys(series.files):
        found = read_headers(ArchiveFile(series.archive, path, file_size(series.archive, path), ""), interned)
        by_path[path] = {header.frame or 0: header for header in found if isinstance(header, SliceHeader)}
    frames = series.frames or (0,) * len(series.files)
    try:
        headers = [by_path[path][frame] for path, frame in zip(series.files, frames, strict=True)]
    except KeyError:
        raise NotEvaluable(Reason.UNREADABLE, "a file of the series can no longer be read as an image") from None
    others = [header for header in headers if not _is_of(header, series)]
    if others:
        raise NotEvaluable(Reason.UNREADABLE, f"{len(others)} files of the series now belong to another one")
    return headers


def _is_of(header: SliceHeader, series: Series) -> bool:
    """Whether an image still has the series UID that the inventory met; one of two archives may have it prefixed."""
    return not header.study.series_uid_in_header or series.series_uid.endswith(header.study.series_uid)


def _stack_slices(
    ordered: list[SliceHeader], grid: SliceGrid, settings: ReadingSettings, counts: ValueCounts
) -> tuple[Shaped[np.ndarray, "z y x"], list[int], int]:
    """Decode every slice into its place.

    Also name the slices that hold one value only, and count the padding.
    """
    hu: np.ndarray | None = None
    flat: list[int] = []
    padded = 0
    for index, (image, n_padding) in zip(
        grid.index, decode_slices(ordered, settings.air_below_hu, counts), strict=True
    ):
        if hu is None:  # allocated after the first slice has shown that the header tells the truth
            hu = np.full((grid.n_slices, *image.shape), AIR_HU, np.int16)
        low, high = image.min(), image.max()
        if hu.dtype == np.int16 and (image.dtype.kind == "f" or low < -(2**15) or high >= 2**15):
            hu = hu.astype(np.float32)
        hu[index] = image
        padded += n_padding
        if low == high:
            flat.append(index)
    if hu is None:
        raise NotEvaluable(Reason.TOO_FEW_SLICES, "no slices")
    return hu, flat, padded


def _inner(flat: Iterable[int], grid: SliceGrid) -> tuple[int, ...]:
    """Of slices of one value, those with an image on both sides; at the ends of a scan they are its margin."""
    flat = set(flat)
    images = [index for index in grid.index if index not in flat]
    return tuple(sorted(i for i in flat if images and images[0] < i < images[-1]))


def fill_slices(
    hu: Shaped[np.ndarray, "z y x"], absent: Iterable[int], step_mm: float, settings: ReadingSettings
) -> tuple[int, ...]:
    """Fill absent slices between those on both sides, in place (case R3).

    Raises
    ------
    NotEvaluable
        MISSING_SLICES where too many are absent, or too many in a row.
    """
    absent = tuple(sorted(absent))
    if not absent:
        return ()
    present = np.setdiff1d(np.arange(len(hu)), absent)
    refuse_gaps(np.diff(present), step_mm, settings)
    for index in absent:
        after = int(np.searchsorted(present, index))
        low, high = int(present[after - 1]), int(present[after])
        share = (index - low) / (high - low)
        mixed = hu[low].astype(np.float32) * (1.0 - share) + hu[high].astype(np.float32) * share
        hu[index] = np.rint(mixed) if hu.dtype == np.int16 else mixed
    return absent


# -- volume files -------------------------------------------------------------------------------------------------


def _read_file(series: Series, settings: ReadingSettings) -> Volume:
    grid, hu = read_volume_file(series.archive, series.path, series.file_format, settings)
    counts, padded = ValueCounts(), 0
    for plane in hu:  # plane by plane: no second copy of the volume
        counts.add(plane)
        mask = plane < settings.air_below_hu
        plane[mask] = AIR_HU
        padded += int(mask.sum())
    hu, mended = mend_units(hu, counts, False, settings.air_below_hu)
    refuse_odd_values(hu, counts, padded, trusted=False)
    odd = find_odd_slices(hu, np.flatnonzero([plane.min() < plane.max() for plane in hu]))
    if odd.inner or odd.outer:
        detail = f"{len(odd.inner) + len(odd.outer)} of {len(hu)} slices do not fit their neighbours"
        raise NotEvaluable(Reason.PIXELS_DAMAGED, detail)
    source = full_name(series.archive, series.path)
    return Volume(hu, grid.patient_from_voxel, (*series.repairs, *mended), source=source)
