"""Readers' keypoints of the public chest CTs: two JSON formats, in voxels of the stack sorted by InstanceNumber.

The formats are those of the annotations of Pisov et al. 2020 (bare vertebrae) and Zakharov et al. 2023 (segments with
the name of the level). Neither holds the size of a voxel. Points are stored as row, column, slice, zero-based; the
whole number is taken for the middle of a pixel.
"""

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from vertebra_core.errors import WrongUse

XYZ_FROM_STORED = [1, 0, 2]
"""Stored row, column, slice; ours are column, row, slice (x, y, z)."""


@dataclass(frozen=True)
class Reading:
    """What one reader marked in one series: k vertebrae from the top down.

    Parameters
    ----------
    voxels : array [k, 6, 3]
        Zero-based (column, row, slice), in the order of `vertebra_core.measure.KEYPOINT_NAMES`.
    levels : tuple of (str or None)
        "C4" .. "L3", or None where the format has no names.
    """

    voxels: Float[np.ndarray, "k 6 3"]
    levels: tuple[str | None, ...]


@dataclass(frozen=True)
class ReaderFile:
    """The readings of one series.

    Parameters
    ----------
    series_uid : str
        As stored: those of the public files end with a dot, which DICOM does not allow; the images have it too.
    readings : dict of str to Reading
    """

    series_uid: str
    readings: dict[str, Reading]

    def reading(self, reader: str | None = None) -> tuple[str, Reading]:
        """A reader and what that one marked; without a name the one who marked most, the first of equals.

        Raises
        ------
        WrongUse
            There is no such reader, or nobody marked anything.
        """
        if reader is not None:
            if reader not in self.readings:
                raise WrongUse(f"no reader {reader}; there are {', '.join(self.readings)}")
            return reader, self.readings[reader]
        marked = [name for name, reading in self.readings.items() if len(reading.voxels)]
        if not marked:
            raise WrongUse("no reader marked a vertebra")
        name = max(marked, key=lambda name: len(self.readings[name].voxels))
        return name, self.readings[name]


def is_reader_file(document: object) -> bool:
    """Whether a JSON document is a readers' file of either format."""
    return isinstance(document, dict) and "Annotation" in document and "SeriesInstanceUID" in document


def read_reader_file(path: Path) -> ReaderFile:
    """Read a readers' file of either format.

    Raises
    ------
    WrongUse
        Not such a file, or vertebrae that are not six by three finite numbers.
    """
    try:
        document = json.loads(Path(path).read_text())
        if not is_reader_file(document):
            raise WrongUse(f"{path}: no readers' file: it needs SeriesInstanceUID and Annotation")
        readings = {str(name): _reading(marked) for name, marked in document["Annotation"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WrongUse(f"{path}: not a readers' file ({type(error).__name__}: {error})") from error
    return ReaderFile(str(document["SeriesInstanceUID"]), readings)


def _reading(marked: list) -> Reading:
    named = [isinstance(one, dict) for one in marked]
    levels = tuple(_level(one["type"]) if has_name else None for one, has_name in zip(marked, named, strict=True))
    stored = [one["segments"] if has_name else one for one, has_name in zip(marked, named, strict=True)]
    six = [np.array(one, float).reshape(6, 3) for one in stored]
    voxels = np.array(six).reshape(-1, 6, 3)[..., XYZ_FROM_STORED]
    if not np.isfinite(voxels).all():
        raise ValueError("a coordinate is not finite")
    order = np.argsort(voxels[..., 2].mean(1), kind="stable")
    return Reading(voxels[order], tuple(levels[k] for k in order))


def _level(name: str) -> str:
    return f"T{name[2:]}" if name.startswith("Th") else name


def read_spacing_table(path: Path, name: str) -> tuple[float, float]:
    """Distance of pixels and of slices (mm) of a readers' file, from a CSV with columns file, sy_mm and sz_mm.

    Raises
    ------
    WrongUse
        No such table, or the file is not in it.
    """
    try:
        with Path(path).open(newline="") as stream:
            for row in csv.DictReader(stream):
                if row["file"] == name:
                    return float(row["sy_mm"]), float(row["sz_mm"])
    except (OSError, KeyError, ValueError) as error:
        raise WrongUse(f"{path}: no table of file, sy_mm and sz_mm ({type(error).__name__}: {error})") from error
    raise WrongUse(f"{path}: {name} is not in it")
