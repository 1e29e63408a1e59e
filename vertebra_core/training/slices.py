"""Annotated single sagittal slices: real spines for the second network, which only ever sees a plane."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom

from vertebra_core.errors import WrongUse
from vertebra_core.geometry import apply_affine
from vertebra_core.training.spines import Spine, straight_spine
from vertebra_core.truth import Truth
from vertebra_core.volume import Volume

FORMAT = "vertebra-truth-2d/1"
SLAB_MM = 40.0
"""The slice is repeated this far to both sides, so that parallel planes read the same pixels."""

TOLERANCE_MM = 0.5
"""Of their heights: sharp pixels, but one plane that need not be mid-sagittal everywhere."""


def sagittal_spines(images: Path, annotations: Path) -> Iterator[Spine]:
    """Yield the straightened plane of every annotated sagittal slice.

    Parameters
    ----------
    images : Path
        Folder that the files' `image` is relative to.
    annotations : Path
        Folder of files in format ``vertebra-truth-2d/1``: keypoints as (column, row), pixel centres.
    """
    for file in sorted(Path(annotations).glob("*.json")):
        document = json.loads(file.read_text())
        if document.get("format") != FORMAT:
            raise WrongUse(f"{file}: expected format {FORMAT}")
        volume = slice_volume(Path(images) / document["image"], document["pixel_spacing_row_column_mm"])
        pixels = np.array([v["keypoints"] for v in document["vertebrae"]], float)
        voxel = np.concatenate([np.ones_like(pixels[..., :1]), pixels], -1)  # (layer, column, row)
        truth = Truth(
            document["image"],
            document["reader"],
            apply_affine(volume.patient_from_voxel, voxel),
            np.array([v["complete"] for v in document["vertebrae"]], bool),
            tuple(v["level"] for v in document["vertebrae"]),
        )
        yield straight_spine(f"sagittal_2d/{file.stem}", volume, truth, TOLERANCE_MM)


def slice_volume(path: Path, spacing_row_column_mm: tuple[float, float]) -> Volume:
    """A sagittal slice as a volume of three equal layers: columns run to posterior, rows downward."""
    dataset = pydicom.dcmread(path)
    hu = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
    hu = np.clip(hu, -1000, 32000).astype(np.int16)
    row_mm, column_mm = spacing_row_column_mm
    patient_from_voxel = np.array(
        [[SLAB_MM, 0, 0, -SLAB_MM], [0, column_mm, 0, 0], [0, 0, -row_mm, 0], [0, 0, 0, 1]], float
    )
    return Volume(np.repeat(hu[:, :, None], 3, axis=2), patient_from_voxel)
