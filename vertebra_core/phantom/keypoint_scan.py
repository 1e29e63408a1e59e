"""Scans of phantoms on given keypoints: the reader's own voxel grid, or a box round the points of a truth file."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float
from pydicom.uid import generate_uid

from vertebra_core.errors import WrongUse
from vertebra_core.geometry import apply_affine
from vertebra_core.phantom.anatomy import Phantom
from vertebra_core.phantom.dicom import write_dicom_series
from vertebra_core.phantom.on_keypoints import phantom_on_keypoints
from vertebra_core.phantom.patient import PatientOptions
from vertebra_core.phantom.reader_file import Reading, is_reader_file, read_reader_file
from vertebra_core.phantom.scanner import Scan, render_slices, truth_in_view
from vertebra_core.truth import Truth, read_truth, write_truth
from vertebra_core.volume import AIR_HU, Volume

STACK_PIXELS = 512
"""Rows and columns of the readers' images; more where their points need it."""
BEYOND_MM = 18.0
"""How far a scan goes on above and below the outermost keypoints: a vertebra close to its end counts as cut."""
PIXEL_MM = 0.8
FIELD_MM = 320.0
"""Distance of pixels and width of the field round the points of a truth file, which says nothing of its image."""
SPINE_BEHIND_MIDDLE = 0.22
"""The spine lies this share of the field behind its middle, as in a chest scan."""


@dataclass(frozen=True)
class KeypointScan:
    """Vertebrae to build a phantom on, and how it is scanned.

    Parameters
    ----------
    points : array [k, 6, 3]
        LPS mm.
    levels : tuple of (str or None)
    series_uid : str
    reader : str
    scan : Scan
        The whole voxel grid.
    corner, size : tuple of int
        First column and row, and columns and rows, of the painted window; outside it the image is air.
    """

    points: Float[np.ndarray, "k 6 3"]
    levels: tuple[str | None, ...]
    series_uid: str
    reader: str
    scan: Scan
    corner: tuple[int, int]
    size: tuple[int, int]

    @property
    def window(self) -> Scan:
        """The painted window as a scan of its own."""
        affine = self.scan.patient_from_voxel.copy()
        affine[:3, 3] = apply_affine(affine, np.array([*self.corner, 0.0]))
        return replace(self.scan, shape=(self.scan.shape[0], self.size[1], self.size[0]), patient_from_voxel=affine)


def read_keypoints(
    path: Path,
    pixel_mm: float | None,
    slice_mm: float,
    reader: str | None = None,
    field_mm: float | None = None,
    seed: int = 0,
) -> KeypointScan:
    """Plan the scan of a readers' JSON (either format) or of a truth file.

    Parameters
    ----------
    pixel_mm : float or None
        Distance of pixels; None only for a truth file, which then has 0.8 mm.
    slice_mm : float
        Distance of slices.
    reader : str or None
        Whose points of a readers' file; None: who marked most.
    field_mm : float or None
        Width of the painted square; None: the whole readers' grid, 320 mm round a truth.
    seed : int
        Of the noise.

    Raises
    ------
    WrongUse
        Neither of both formats, no vertebrae in it, or distances that are missing or not positive.
    """
    _check_positive(pixel_mm, slice_mm, field_mm)
    try:
        document = json.loads(Path(path).read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise WrongUse(f"{path}: not a JSON file ({type(error).__name__}: {error})") from error
    how = {"slice_thickness_mm": slice_mm, "seed": seed}
    if is_reader_file(document):
        marked = read_reader_file(path)
        name, reading = marked.reading(reader)
        if pixel_mm is None:
            raise WrongUse(f"{path}: a readers' file holds no distance of pixels; give it (--pixel-mm or --spacing)")
        return _readers_scan(reading, name, marked.series_uid, (pixel_mm, slice_mm), field_mm, how)
    if reader is not None:
        raise WrongUse(f"{path}: a truth file has one reader; --reader is for readers' files")
    return _truth_scan(read_truth(path), (pixel_mm or PIXEL_MM, slice_mm), field_mm or FIELD_MM, how)


def _check_positive(*lengths: float | None) -> None:
    for length in lengths:
        if length is not None and not 0 < length < np.inf:
            raise WrongUse(f"{length} mm: a distance of voxels or a width is positive")


def _readers_scan(
    reading: Reading, name: str, series_uid: str, spacing: tuple[float, float], field_mm: float | None, how: dict
) -> KeypointScan:
    """The stack that the reader's numbers count in: slices run towards the feet, the first has InstanceNumber 1."""
    pixel, step = spacing
    flat = reading.voxels.reshape(-1, 3)
    if not len(flat) or flat.min() < 0:
        raise WrongUse(f"reader {name}: no vertebrae, or voxels below 0")
    across = max(STACK_PIXELS, int(np.ceil(flat[:, :2].max())) + 1)
    slices = int(np.ceil(flat[:, 2].max() + BEYOND_MM / step)) + 1
    affine = np.diag([pixel, pixel, -step, 1.0])
    affine[:3, 3] = -pixel * (across - 1) / 2, -pixel * (across - 1) / 2, step * (slices - 1) / 2
    scan = Scan((slices, across, across), affine, **how)
    corner, size = (0, 0), (across, across)
    if field_mm is not None:
        corner, size = _square(flat, spacing, field_mm, across)
    return KeypointScan(apply_affine(affine, reading.voxels), reading.levels, series_uid, name, scan, corner, size)


def _square(flat: np.ndarray, spacing: tuple[float, float], field_mm: float, across: int):
    """Corner and size (columns, rows) of a painted square inside the grid, with the spine behind its middle."""
    wide = int(np.clip(round(field_mm / spacing[0]), 1, across))
    middle = flat[:, :2].mean(0) - np.array([0.0, SPINE_BEHIND_MIDDLE * wide])
    x, y = np.clip(np.rint(middle - wide / 2).astype(int), 0, across - wide)
    return (int(x), int(y)), (wide, wide)


def _truth_scan(truth: Truth, spacing: tuple[float, float], field_mm: float, how: dict) -> KeypointScan:
    """A box round the points, head first, the first slice at the top."""
    if not len(truth.points):
        raise WrongUse("the truth has no vertebrae")
    pixel, step = spacing
    flat = truth.points.reshape(-1, 3)
    wide = max(1, round(field_mm / pixel))
    slices = int(np.ceil((np.ptp(flat[:, 2]) + 2 * BEYOND_MM) / step)) + 1
    middle = (flat[:, :2].max(0) + flat[:, :2].min(0)) / 2 - [0.0, SPINE_BEHIND_MIDDLE * field_mm]
    affine = np.diag([pixel, pixel, -step, 1.0])
    affine[:3, 3] = [*(middle - pixel * (wide - 1) / 2), flat[:, 2].max() + BEYOND_MM]
    scan = Scan((slices, wide, wide), affine, **how)
    series_uid = truth.image if re.fullmatch(r"[0-9.]{1,64}", truth.image) else generate_uid(entropy_srcs=[truth.image])
    return KeypointScan(truth.points, truth.levels, str(series_uid), truth.reader, scan, (0, 0), (wide, wide))


def render_keypoints(phantom: Phantom, planned: KeypointScan) -> Iterator[np.ndarray]:
    """Slices [y, x] int16 of the whole grid, one after the other."""
    (x, y), (wide, high) = planned.corner, planned.size
    for image in render_slices(phantom, planned.window):
        whole = np.full(planned.scan.shape[1:], AIR_HU, np.int16)
        whole[y : y + high, x : x + wide] = image
        yield whole


def write_keypoint_study(
    planned: KeypointScan,
    folder: Path,
    name: str,
    seed: int,
    truth_folder: Path | None = None,
    options: PatientOptions | None = None,
    heard: list[int] | None = None,
) -> Truth:
    """Build the phantom, write it as one DICOM series below ``folder``, and its truth apart from it.

    Parameters
    ----------
    name : str
        Of the study's folder, of the patient and of the truth file.
    heard : list of int or None
        Gets the number of each slice that is ready, so that a caller can show progress.

    Returns
    -------
    Truth
        All vertebrae in view: the given ones, and those drawn beyond or between them.
    """
    rng = np.random.default_rng(seed)
    phantom = phantom_on_keypoints(planned.points, planned.levels, rng, options)
    hu = np.empty(planned.scan.shape, np.int16)
    for k, image in enumerate(render_keypoints(phantom, planned)):
        hu[k] = image
        if heard is not None:
            heard.append(k)
    write_dicom_series(
        Volume(hu, planned.scan.patient_from_voxel), folder / name / "CT",
        patient_id=name[:64], study_uid=str(generate_uid(entropy_srcs=[planned.series_uid, "study"])),
        series_uid=planned.series_uid, age_years=phantom.person.age_years,
        sex="F" if phantom.person.female else "M", transfer_syntax="jpegls",
    )  # fmt: skip
    truth = replace(truth_in_view(phantom, planned.window), image=planned.series_uid)
    if truth_folder is not None:
        truth_folder.mkdir(parents=True, exist_ok=True)
        write_truth(truth, truth_folder / f"{name}.json")
    return truth
