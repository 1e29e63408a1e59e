"""NIfTI, NRRD and MetaImage: the file's own affine, in LPS, and whether it can be a CT of a spine."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped

from vertebra_core.errors import NotEvaluable, Reason
from vertebra_core.reading.file_header import FileHeader, read_voxels
from vertebra_core.reading.grid import head_foot_extent, plane_of, refuse_coarse, refuse_short
from vertebra_core.reading.nifti import read_nifti_header
from vertebra_core.reading.text_headers import read_text_header
from vertebra_core.settings import ReadingSettings


@dataclass(frozen=True)
class VolumeGrid:
    """Grid of a volume file: the affine from (i_x, i_y, i_z) to LPS mm, and the size along x, y, z."""

    patient_from_voxel: Float[np.ndarray, "4 4"]
    shape_xyz: tuple[int, int, int]

    @property
    def spacing(self) -> Float[np.ndarray, "3"]:
        """Voxel size (x, y, z), mm."""
        return np.linalg.norm(self.patient_from_voxel[:3, :3], axis=0)


def volume_grid(archive: str, path: str, file_format: str, settings: ReadingSettings) -> VolumeGrid:
    """Read the header of a volume file and judge it.

    Raises
    ------
    NotEvaluable
        UNREADABLE, NOT_A_VOLUME, NOT_HOUNSFIELD, NO_GEOMETRY, TOO_FEW_SLICES, SLICES_TOO_THICK, TOO_LARGE.
    """
    return judge_grid(read_file_header(archive, path, file_format), settings)


def read_volume_file(
    archive: str, path: str, file_format: str, settings: ReadingSettings
) -> tuple[VolumeGrid, Shaped[np.ndarray, "z y x"]]:
    """Read grid and voxels [z, y, x]: int16 where all are whole numbers of that range, else float32.

    Raises
    ------
    NotEvaluable
        As `volume_grid`, and PIXELS_DAMAGED, NOT_FINITE, OUT_OF_MEMORY.
    """
    header = read_file_header(archive, path, file_format)
    grid = judge_grid(header, settings)
    return grid, read_voxels(archive, header)


def read_file_header(archive: str, path: str, file_format: str) -> FileHeader:
    """Read the header of a volume file.

    Raises
    ------
    NotEvaluable
        UNREADABLE, NOT_A_VOLUME, NO_GEOMETRY.
    """
    try:
        if file_format == "nifti":
            return read_nifti_header(archive, path)
        return read_text_header(archive, path, file_format)
    except OSError:  # gone, or no longer allowed
        raise NotEvaluable(Reason.UNREADABLE) from None


def judge_grid(header: FileHeader, settings: ReadingSettings) -> VolumeGrid:
    """Say from the header whether a volume can be measured.

    Raises
    ------
    NotEvaluable
        NOT_A_VOLUME, NOT_HOUNSFIELD, NO_GEOMETRY, TOO_FEW_SLICES, SLICES_TOO_THICK, TOO_LARGE.
    """
    size, affine = header.shape, header.patient_from_voxel
    many = " x ".join(map(str, size))
    if len(size) < 3 or any(n != 1 for n in size[3:]) or header.components != 1:
        detail = f"{many} with {header.components} values a voxel; one value on a 3D grid expected"
        raise NotEvaluable(Reason.NOT_A_VOLUME, detail)
    if affine is None:
        raise NotEvaluable(Reason.NO_GEOMETRY, "the file does not say how it lies in the patient")
    if int(np.prod(size, dtype=object)) > settings.max_voxels:
        raise NotEvaluable(Reason.TOO_LARGE, f"{many} voxels")
    if header.dtype.itemsize == 1:
        raise NotEvaluable(Reason.NOT_HOUNSFIELD, "8-bit voxels cannot hold Hounsfield units; a mask or a picture")
    grid = VolumeGrid(affine, (size[0], size[1], size[2]))
    if min(size[:3]) < settings.min_slices:
        flat = int(np.argmin(size[:3]))
        axis = plane_of(affine[:3, flat])
        reason = Reason.TOO_FEW_SLICES if axis == "axial" else Reason.NOT_A_VOLUME
        raise NotEvaluable(reason, f"{size[flat]} {axis} slices, at least {settings.min_slices} expected")
    refuse_coarse(grid.spacing, settings)
    refuse_short(head_foot_extent(affine, grid.shape_xyz), settings)
    return grid
