"""NIfTI, NRRD and MetaImage by SimpleITK: the file's own affine, in LPS."""

import gzip
import os
import struct
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped

from vertebra_core.errors import NotEvaluable, Reason
from vertebra_core.reading.files import local_path, open_file
from vertebra_core.reading.grid import plane_of, refuse_coarse, refuse_short
from vertebra_core.settings import ReadingSettings

CHUNK_BYTES = 2**22
NIFTI_HEADER_BYTES = 352
"""Of a NIfTI-1 file with its extension flag: where its voxels begin at the earliest."""
NIFTI_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
"""numpy types by NIfTI datatype code (nifti1.h)."""
IMAGE_IO = {"nifti": "NiftiImageIO", "nrrd": "NrrdImageIO", "metaimage": "MetaImageIO"}
SUFFIXES = {"nifti": (".nii", ".nii.gz", ".hdr"), "nrrd": (".nrrd", ".nhdr"), "metaimage": (".mha", ".mhd")}


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
    with _reader(archive, path, file_format) as reader:
        return _judge(reader, archive, path, file_format, settings)


def read_volume_file(
    archive: str, path: str, file_format: str, settings: ReadingSettings
) -> tuple[VolumeGrid, Shaped[np.ndarray, "z y x"]]:
    """Read grid and voxels [z, y, x]: int16 where the file holds integers of that range, else float32.

    Raises
    ------
    NotEvaluable
        As `volume_grid`, and PIXELS_DAMAGED, NOT_FINITE.
    """
    import SimpleITK as sitk

    with _reader(archive, path, file_format) as reader:
        grid = _judge(reader, archive, path, file_format, settings)
        if file_format == "nifti":
            check_nifti_payload(archive, path, int(np.prod(grid.shape_xyz)))
        try:
            image = reader.Execute()
        except RuntimeError:  # ITK's text holds paths
            raise NotEvaluable(Reason.PIXELS_DAMAGED) from None
        view = sitk.GetArrayViewFromImage(image)  # alive only as long as the image is
        return grid, _compact(view.reshape(grid.shape_xyz[::-1]))


def _compact(voxels: np.ndarray) -> np.ndarray:
    """Copy to int16 where nothing is lost by it, else to float32."""
    if voxels.dtype.kind in "iu" and voxels.min() >= -(2**15) and voxels.max() < 2**15:
        return voxels.astype(np.int16)
    return voxels.astype(np.float32)


@contextmanager
def _reader(archive: str, path: str, file_format: str) -> Iterator:
    """A SimpleITK reader with the header read; a file by another name is reached through a link of the right one."""
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    with tempfile.TemporaryDirectory(prefix="vertebra-") as folder:
        name = local_path(archive, path)
        suffix = _right_suffix(archive, path, file_format)
        if not name.endswith(suffix):
            os.symlink(os.path.abspath(name), os.path.join(folder, "volume" + suffix))
            name = os.path.join(folder, "volume" + suffix)
        reader = sitk.ImageFileReader()
        reader.SetImageIO(IMAGE_IO[file_format])
        reader.SetFileName(name)
        try:
            reader.ReadImageInformation()
        except RuntimeError as error:
            if "orthonormal" in str(error) or "direction" in str(error).lower():
                raise NotEvaluable(Reason.NO_GEOMETRY, "the axes of the file are not at right angles") from None
            raise NotEvaluable(Reason.UNREADABLE) from None
        yield reader


def _right_suffix(archive: str, path: str, file_format: str) -> str:
    """The suffix that ITK expects for this content: the present one if it fits."""
    name = path.lower()
    with open_file(archive, path) as stream:
        gzipped = stream.read(2) == b"\x1f\x8b"
    if file_format == "nifti":
        fits = name.endswith(".nii.gz") if gzipped else name.endswith((".nii", ".hdr"))
        return path[-4:] if fits else ".nii.gz" if gzipped else ".nii"
    fits = name.endswith(SUFFIXES[file_format])
    return path[-4:] if fits else SUFFIXES[file_format][0]


def _judge(reader, archive: str, path: str, file_format: str, settings: ReadingSettings) -> VolumeGrid:
    size = reader.GetSize()
    if len(size) < 3 or any(n != 1 for n in size[3:]) or reader.GetNumberOfComponents() != 1 or min(size) < 1:
        many = " x ".join(map(str, size))
        detail = f"{many} with {reader.GetNumberOfComponents()} values a voxel; one value on a 3D grid expected"
        raise NotEvaluable(Reason.NOT_A_VOLUME, detail)
    if not _states_geometry(reader, archive, path, file_format):
        raise NotEvaluable(Reason.NO_GEOMETRY, "the file does not say how it lies in the patient")
    grid = VolumeGrid(_affine(reader), tuple(size[:3]))
    if int(np.prod(size, dtype=object)) > settings.max_voxels:
        raise NotEvaluable(Reason.TOO_LARGE, f"{' x '.join(map(str, size))} voxels")
    if "8-bit" in _pixel_type(reader):
        raise NotEvaluable(Reason.NOT_HOUNSFIELD, "8-bit voxels cannot hold Hounsfield units; a mask or a picture")
    if min(size[:3]) < settings.min_slices:
        flat = int(np.argmin(size[:3]))
        axis = plane_of(grid.patient_from_voxel[:3, flat])
        reason = Reason.TOO_FEW_SLICES if axis == "axial" else Reason.NOT_A_VOLUME
        raise NotEvaluable(reason, f"{size[flat]} {axis} slices, at least {settings.min_slices} expected")
    refuse_coarse(grid.spacing, settings)
    refuse_short(float(np.abs(grid.patient_from_voxel[2, :3]) @ np.array(size[:3])), settings)
    return grid


def _pixel_type(reader) -> str:
    import SimpleITK as sitk

    return sitk.GetPixelIDValueAsString(reader.GetPixelID())


def _affine(reader) -> np.ndarray:
    dimension = reader.GetDimension()
    affine = np.eye(4)
    direction = np.array(reader.GetDirection()).reshape(dimension, dimension)[:3, :3]
    affine[:3, :3] = direction * np.array(reader.GetSpacing()[:3])
    affine[:3, 3] = reader.GetOrigin()[:3]
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine)) < 1e-9:
        raise NotEvaluable(Reason.NO_GEOMETRY)
    return affine


def _states_geometry(reader, archive: str, path: str, file_format: str) -> bool:
    """False for a NIfTI without qform and sform, and for a NRRD without directions: their axes mean nothing."""
    if file_format == "nifti":
        codes = [reader.GetMetaData(key) for key in ("qform_code", "sform_code") if reader.HasMetaDataKey(key)]
        return any(code.strip() not in ("", "0", "NIFTI_XFORM_UNKNOWN") for code in codes)
    if file_format == "nrrd":
        with open_file(archive, path) as stream:
            header = stream.read(4096).split(b"\n\n")[0]
        return b"space directions:" in header and (b"space:" in header)
    return True


def check_nifti_payload(archive: str, path: str, n_voxels: int) -> None:
    """Read the voxels of a NIfTI once as bytes: ITK's reader turns NaN, and what a cut file lacks, into zeros.

    Raises
    ------
    NotEvaluable
        PIXELS_DAMAGED, NOT_FINITE.
    """
    with open_file(archive, path) as stream:
        gzipped = stream.read(2) == b"\x1f\x8b"
        stream.seek(0)
        content = gzip.GzipFile(fileobj=stream) if gzipped else stream
        try:
            dtype, offset = _nifti_layout(content.read(NIFTI_HEADER_BYTES))
            content.read(offset - NIFTI_HEADER_BYTES)
            left, finite = n_voxels * dtype.itemsize, True
            while left > 0 and (chunk := content.read(min(left, CHUNK_BYTES))):
                left -= len(chunk)
                if dtype.kind == "f" and len(chunk) % dtype.itemsize == 0:
                    finite &= bool(np.isfinite(np.frombuffer(chunk, dtype)).all())
            if gzipped:
                content.read(1)  # past the end, so that the checksum is compared
        except (OSError, EOFError, zlib.error, KeyError, struct.error):
            raise NotEvaluable(Reason.PIXELS_DAMAGED, "the voxels cannot be unpacked") from None
    if left > 0:
        raise NotEvaluable(Reason.PIXELS_DAMAGED, f"{left} bytes of the voxels are missing")
    if not finite:
        raise NotEvaluable(Reason.NOT_FINITE, "at least one voxel is NaN or infinite")


def _nifti_layout(header: bytes) -> tuple[np.dtype, int]:
    """Type of the voxels and where they begin (nifti1.h and nifti2.h: datatype, vox_offset)."""
    second = header[4:7] in (b"n+2", b"ni2")
    order = "<" if int.from_bytes(header[:4], "little") in (348, 540) else ">"
    code = struct.unpack_from(order + "h", header, 12 if second else 70)[0]
    offset = struct.unpack_from(order + ("q" if second else "f"), header, 168 if second else 108)[0]
    return np.dtype(order + NIFTI_TYPES[code]), max(int(offset), NIFTI_HEADER_BYTES)
