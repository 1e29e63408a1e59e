"""``vertebra phantom``: synthetic patients with exact truth."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from flows.printing import print_json


def phantom(
    folder: Path,
    *,
    studies: int = 6,
    seed: int = 0,
    truth: Path | None = None,
    keypoints: Path | None = None,
    reader: str | None = None,
    pixel_mm: float | None = None,
    slice_mm: float = 0.8,
    spacing: Path | None = None,
    field_mm: float | None = None,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Write synthetic patients as an archive of DICOM studies, with the exact place of every keypoint.

    Example: vertebra phantom archive --studies 6 --truth truth

    With --keypoints one patient, built on the keypoints of that file, who is scanned on the voxel grid they were
    marked in: vertebra phantom archive --keypoints reading.json --pixel-mm 0.653 --truth truth

    Parameters
    ----------
    folder
        Where the DICOM files go; new, or empty. With --keypoints it may hold other studies.
    studies
        How many; the last of three or more shows legs, where nothing can be measured.
    seed
        The same seed writes the same patients.
    truth
        Folder for truth files (vertebra-truth/1), for `vertebra evaluate`.
    keypoints
        JSON of readers (voxels; its SeriesInstanceUID is kept as it is) or a truth file (LPS mm).
    reader
        Whose points of a readers' JSON. Default: the reader who marked most.
    pixel_mm
        Distance of pixels, which a readers' JSON does not hold. Default for a truth file: 0.8.
    slice_mm
        Distance of slices.
    spacing
        Table (CSV: file, sy_mm, sz_mm) that holds both distances of a readers' JSON instead.
    field_mm
        Width of the painted square round the spine, to save time; the rest of the grid is air.
        Default: the whole grid of a readers' JSON, 320 for a truth file.
    as_json
        Print one JSON document.
    """
    from vertebra_core.errors import WrongUse

    if studies < 1:
        raise WrongUse(f"--studies {studies}: at least 1")
    if keypoints is None:
        if reader or pixel_mm or spacing or field_mm:
            raise WrongUse("--reader, --pixel-mm, --spacing and --field-mm belong to --keypoints")
        _must_be_empty(folder)
        written = write_archive(folder, studies, seed, truth)
    else:
        _must_be_empty(folder / keypoints.stem)
        written = [write_on_keypoints(folder, keypoints, reader, (pixel_mm, slice_mm), spacing, field_mm, seed, truth)]
    if as_json:
        print_json(
            {"folder": str(folder), "truth": truth and str(truth), "studies": len(written), "vertebrae": written}
        )
    else:
        count = "1 study" if len(written) == 1 else f"{len(written)} studies"
        print(f"{count} with {sum(written)} vertebrae in {folder}" + (f", truth in {truth}" if truth else ""))


def _must_be_empty(folder: Path) -> None:
    from vertebra_core.errors import WrongUse

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise WrongUse(f"{folder}: not empty; nothing is written over")


def write_archive(folder: Path, studies: int, seed: int, truth: Path | None) -> list[int]:
    """Write the archive, showing how far it is; returns the number of vertebrae of each study."""
    from flows.progress import watched
    from vertebra_core.phantom.dicom import iterate_phantom_archive

    written: list[int] = []
    with watched("phantoms", studies, lambda: len(written)):
        for one in iterate_phantom_archive(folder, studies, seed, truth_folder=truth):
            written.append(len(one.points))
    return written


def write_on_keypoints(
    folder: Path,
    keypoints: Path,
    reader: str | None,
    distances_mm: tuple[float | None, float],
    spacing: Path | None,
    field_mm: float | None,
    seed: int,
    truth: Path | None,
) -> int:
    """Write one study on given keypoints, showing how far it is; returns its number of vertebrae."""
    from flows.progress import watched
    from vertebra_core.phantom.keypoint_scan import read_keypoints, write_keypoint_study
    from vertebra_core.phantom.reader_file import read_spacing_table

    pixel, step = distances_mm if spacing is None else read_spacing_table(spacing, keypoints.name)
    planned = read_keypoints(keypoints, pixel, step, reader, field_mm, seed)
    ready: list[int] = []
    with watched("slices", planned.scan.shape[0], lambda: len(ready)):
        written = write_keypoint_study(planned, folder, keypoints.stem, seed, truth, heard=ready)
    return len(written.points)
