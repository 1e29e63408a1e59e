"""What the fuzzer starts from: small sound series and volume files of every kind, with their truth."""

import gzip
import io
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from dicom_cases import Grid, Study, b0_hu, enhanced_dataset, slices
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

GRID = Grid((14, 32, 32), (3.0, 3.0, 4.0), (-46.5, -46.5, -26.0))
ODD_DICOM = Path(__file__).parents[2] / "shared" / "odd_dicom"
LARGEST_ODD_FILE = 600_000
"""Bytes: larger files of the public collection would only slow the fuzzer down."""


@dataclass(frozen=True)
class Base:
    """One sound input.

    Parameters
    ----------
    files : dict
        Content by file name, slices in order from the feet.
    hu : array [z, y, x] or None
        What reading must give; None where only the outcome is judged.
    affine : array [4, 4] or None
        From (i_x, i_y, i_z) to LPS mm.
    kind : str
        "dicom", "nifti", "nrrd" or "metaimage".
    """

    name: str
    files: dict[str, bytes]
    kind: str = "dicom"
    hu: np.ndarray | None = field(default=None, repr=False)
    affine: np.ndarray | None = None


def truth() -> tuple[np.ndarray, np.ndarray]:
    """Voxels and affine of every made base."""
    affine = np.diag([*GRID.spacing, 1.0])
    affine[:3, 3] = GRID.origin
    return b0_hu(GRID), affine


@cache
def base_names(kind: str) -> tuple[str, ...]:
    """Names of the bases of "dicom" or "volume" kind."""
    if kind == "volume":
        return tuple(VOLUMES)
    small = sorted(path for path in ODD_DICOM.rglob("*.dcm") if path.stat().st_size <= LARGEST_ODD_FILE)
    return (*SERIES, *(str(path.relative_to(ODD_DICOM)) for path in small))


@cache
def base(name: str) -> Base:
    """Make, or load, a base by its name."""
    hu, affine = truth()
    if name in SERIES:
        return Base(name, SERIES[name](), "dicom", hu, affine)
    if name in VOLUMES:
        kind = "nrrd" if "nrrd" in name else "metaimage" if "mha" in name else "nifti"
        return Base(name, {name: VOLUMES[name]()}, kind, hu, affine)
    return Base(name, {"odd.dcm": (ODD_DICOM / name).read_bytes()})


# -- DICOM --------------------------------------------------------------------------------------------------------


def written(ds: Dataset) -> bytes:
    """A dataset as the bytes of a file."""
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def classic(change: Callable[[Dataset], Dataset]) -> dict[str, bytes]:
    """One file a slice, each changed in its encoding."""
    made = slices(b0_hu(GRID), GRID, Study())
    return {f"{index:02d}.dcm": written(change(ds)) for index, ds in made}


def in_syntax(syntax: str) -> Callable[[], dict[str, bytes]]:
    """Files in a transfer syntax that pydicom can write."""

    def change(ds: Dataset) -> Dataset:
        if syntax in (RLELossless, JPEGLSLossless, JPEG2000Lossless):
            ds.compress(syntax, generate_instance_uid=False)
            return ds
        if syntax == ExplicitVRBigEndian:
            ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
            ds["PixelData"].VR = "OW"
        ds.file_meta.TransferSyntaxUID = syntax
        return ds

    return lambda: classic(change)


def jpeg_lossless() -> dict[str, bytes]:
    """JPEG lossless, first-order prediction: written by GDCM, for pydicom has no encoder."""
    import gdcm

    out = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, content in classic(lambda ds: ds).items():
            path = Path(folder, name)
            path.write_bytes(content)
            reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
            reader.SetFileName(str(path))
            assert reader.Read()
            change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
            change.SetInput(reader.GetImage())
            assert change.Change()
            writer.SetFileName(str(path))
            writer.SetFile(reader.GetFile())
            writer.SetImage(change.GetOutput())
            assert writer.Write()
            out[name] = path.read_bytes()
    assert JPEGLosslessSV1.encode() in out["00.dcm"]
    return out


def enhanced(compressed: bool) -> Callable[[], dict[str, bytes]]:
    """One Enhanced CT file, its frames out of order."""

    def make() -> dict[str, bytes]:
        order = np.random.default_rng(3).permutation(GRID.shape[0])
        ds = enhanced_dataset(b0_hu(GRID), GRID, order)
        if compressed:
            ds.compress(JPEGLSLossless, generate_instance_uid=False)
        return {"enhanced.dcm": written(ds)}

    return make


SERIES: dict[str, Callable[[], dict[str, bytes]]] = {
    "implicit": in_syntax(ImplicitVRLittleEndian),
    "explicit": in_syntax(ExplicitVRLittleEndian),
    "big endian": in_syntax(ExplicitVRBigEndian),
    "deflated": in_syntax(DeflatedExplicitVRLittleEndian),
    "RLE": in_syntax(RLELossless),
    "JPEG lossless": jpeg_lossless,
    "JPEG-LS": in_syntax(JPEGLSLossless),
    "JPEG 2000": in_syntax(JPEG2000Lossless),
    "enhanced": enhanced(False),
    "enhanced JPEG-LS": enhanced(True),
}


# -- volume files -------------------------------------------------------------------------------------------------


def itk_file(suffix: str, dtype: type = np.int16, compressed: bool = False) -> Callable[[], bytes]:
    """A volume file written by ITK, with its own affine."""

    def make() -> bytes:
        import SimpleITK as sitk

        hu, affine = truth()
        image = sitk.GetImageFromArray(hu.astype(dtype))
        image.SetSpacing(GRID.spacing)
        image.SetOrigin(affine[:3, 3].tolist())
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "v" + suffix)
            sitk.WriteImage(image, str(path), useCompression=compressed)
            return path.read_bytes()

    return make


VOLUMES: dict[str, Callable[[], bytes]] = {
    "v.nii": itk_file(".nii"),
    "float.nii": itk_file(".nii", np.float32),
    "v.nii.gz": lambda: gzip.compress(itk_file(".nii")(), mtime=0),
    "float.nii.gz": lambda: gzip.compress(itk_file(".nii", np.float32)(), mtime=0),
    "v.nrrd": itk_file(".nrrd"),
    "gzipped.nrrd": itk_file(".nrrd", compressed=True),
    "v.mha": itk_file(".mha"),
    "zipped.mha": itk_file(".mha", compressed=True),
}
