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
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Write synthetic patients as an archive of DICOM studies, with the exact place of every keypoint.

    Example: vertebra phantom archive --studies 6 --truth truth

    Parameters
    ----------
    folder
        Where the DICOM files go; new, or empty.
    studies
        How many; the last of three or more shows legs, where nothing can be measured.
    seed
        The same seed writes the same patients.
    truth
        Folder for truth files (vertebra-truth/1), for `vertebra evaluate`.
    as_json
        Print one JSON document.
    """
    from vertebra_core.errors import WrongUse

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise WrongUse(f"{folder}: not empty; nothing is written over")
    if studies < 1:
        raise WrongUse(f"--studies {studies}: at least 1")
    written = write_archive(folder, studies, seed, truth)
    if as_json:
        print_json({"folder": str(folder), "truth": truth and str(truth), "studies": studies, "vertebrae": written})
    else:
        print(f"{studies} studies with {sum(written)} vertebrae in {folder}" + (f", truth in {truth}" if truth else ""))


def write_archive(folder: Path, studies: int, seed: int, truth: Path | None) -> list[int]:
    """Write the archive, showing how far it is; returns the number of vertebrae of each study."""
    from flows.progress import watched
    from vertebra_core.phantom.dicom import iterate_phantom_archive

    written: list[int] = []
    with watched("phantoms", studies, lambda: len(written)):
        for one in iterate_phantom_archive(folder, studies, seed, truth_folder=truth):
            written.append(len(one.points))
    return written
