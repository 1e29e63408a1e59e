"""Headers of NIfTI-1 and NIfTI-2 (nifti1.h, nifti2.h). One is believed only where it does not contradict itself."""

import gzip
import zlib
from typing import BinaryIO, Literal

import numpy as np
from jaxtyping import Float

from vertebra_core.errors import NotEvaluable, Reason
from vertebra_core.reading.file_header import FileHeader, checked_affine
from vertebra_core.reading.files import open_file

TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
"""numpy types by datatype code; the others hold colours, complex or 128-bit numbers."""
SEVERAL_VALUES = {32, 128, 1792, 2304}
"""Datatype codes of complex numbers and colours."""
MILLIMETRES = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
"""Of the unit in xyzt_units; one that is not stated is the millimetre."""
SAME_SPACING = 0.01
"""pixdim and the columns of the sform are rounded apart; a relative difference above this is a contradiction."""
SAME_DIRECTION = 0.5
"""Least cosine of an axis in qform and sform: beyond 60 degrees they do not describe the same patient."""
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])

FIRST = np.dtype(
    [
        ("sizeof_hdr", "i4"), ("unused", "V36"), ("dim", "i2", 8), ("intent", "V14"), ("datatype", "i2"),
        ("bitpix", "i2"), ("slice_start", "i2"), ("pixdim", "f4", 8), ("vox_offset", "f4"), ("scl_slope", "f4"),
        ("scl_inter", "f4"), ("slice_end", "V3"), ("xyzt_units", "u1"), ("text", "V128"), ("qform_code", "i2"),
        ("sform_code", "i2"), ("quatern", "f4", 3), ("qoffset", "f4", 3), ("srow", "f4", (3, 4)),
        ("intent_name", "V16"), ("magic", "S4"),
    ]
)  # fmt: skip
SECOND = np.dtype(
    [
        ("sizeof_hdr", "i4"), ("magic", "S8"), ("datatype", "i2"), ("bitpix", "i2"), ("dim", "i8", 8),
        ("intent", "V24"), ("pixdim", "f8", 8), ("vox_offset", "i8"), ("scl_slope", "f8"), ("scl_inter", "f8"),
        ("range", "V48"), ("text", "V104"), ("qform_code", "i4"), ("sform_code", "i4"), ("quatern", "f8", 3),
        ("qoffset", "f8", 3), ("srow", "f8", (3, 4)), ("slice_code", "i4"), ("xyzt_units", "i4"), ("rest", "V36"),
    ]
)  # fmt: skip


def read_nifti_header(archive: str, path: str) -> FileHeader:
    """Read the header of a file, gzipped or not.

    Raises
    ------
    NotEvaluable
        UNREADABLE, NOT_A_VOLUME, NO_GEOMETRY.
    """
    with open_file(archive, path) as stream:
        gzipped = stream.read(2) == b"\x1f\x8b"
        stream.seek(0)
        start = _first_bytes(stream, gzipped)
    return parse_header(start, path, "file" if gzipped else "")


def _first_bytes(stream: BinaryIO, gzipped: bool) -> bytes:
    try:
        content = gzip.GzipFile(fileobj=stream) if gzipped else stream
        return content.read(SECOND.itemsize)
    except (OSError, EOFError, zlib.error):
        raise NotEvaluable(Reason.UNREADABLE, "the header cannot be unpacked") from None


def parse_header(start: bytes, path: str = "", packing: str = "") -> FileHeader:
    """Make sense of the first bytes of a file.

    Raises
    ------
    NotEvaluable
        UNREADABLE, NOT_A_VOLUME, NO_GEOMETRY.
    """
    layout = SECOND if start[4:7] in (b"n+2", b"ni2") else FIRST
    if len(start) < layout.itemsize:
        raise NotEvaluable(Reason.UNREADABLE, "the header is cut short")
    order = _byte_order(start, layout.itemsize)
    fields = np.frombuffer(start, layout.newbyteorder(order), 1)[0]
    if fields["magic"][:3] in (b"ni1", b"ni2"):
        raise NotEvaluable(Reason.UNREADABLE, "half of a pair (.hdr and .img); one file expected")
    return FileHeader(
        shape=_shape(fields),
        dtype=_dtype(fields, order),
        data_path=path,
        offset=_offset(fields, layout),
        packing=packing,
        scale=_scale(fields),
        patient_from_voxel=patient_from_voxel(fields),
    )


def _byte_order(start: bytes, header_size: int) -> Literal["<", ">"]:
    if np.frombuffer(start, "<i4", 1)[0] == header_size:
        return "<"
    if np.frombuffer(start, ">i4", 1)[0] == header_size:
        return ">"
    raise NotEvaluable(Reason.UNREADABLE, f"the header does not state its size, {header_size} bytes")


def _shape(fields: np.void) -> tuple[int, ...]:
    count = int(fields["dim"][0])
    sizes = tuple(int(n) for n in fields["dim"][1 : count + 1]) if 1 <= count <= 7 else ()
    if not sizes or min(sizes) < 1:
        raise NotEvaluable(Reason.UNREADABLE, f"{count} axes of sizes {' x '.join(map(str, sizes))}")
    return sizes


def _dtype(fields: np.void, order: str) -> np.dtype:
    code, bits = int(fields["datatype"]), int(fields["bitpix"])
    if code in SEVERAL_VALUES:
        raise NotEvaluable(Reason.NOT_A_VOLUME, "several values a voxel; one expected")
    if code not in TYPES:
        raise NotEvaluable(Reason.UNREADABLE, f"datatype {code}")
    dtype = np.dtype(order + TYPES[code])
    if bits not in (0, 8 * dtype.itemsize):
        raise NotEvaluable(Reason.UNREADABLE, f"datatype {code} has {8 * dtype.itemsize} bits, the header says {bits}")
    return dtype


def _offset(fields: np.void, layout: np.dtype) -> int:
    least = layout.itemsize + 4  # the extension flag
    offset = float(fields["vox_offset"])
    if offset == 0.0:  # some writers leave it out
        return least
    if not least <= offset < 2**31:
        raise NotEvaluable(Reason.UNREADABLE, f"voxels begin at byte {offset:g}, at least {least} expected")
    return int(offset)


def _scale(fields: np.void) -> tuple[float, float]:
    slope, intercept = float(fields["scl_slope"]), float(fields["scl_inter"])
    if slope == 0.0 or np.isnan(slope):  # "if the scl_slope field is nonzero" (nifti1.h); NaN is nibabel's unset
        return 1.0, 0.0
    if not np.isfinite([slope, intercept]).all():
        raise NotEvaluable(Reason.UNREADABLE, "slope and intercept are not finite")
    return slope, intercept


# -- where it lies ------------------------------------------------------------------------------------------------


def patient_from_voxel(fields: np.void) -> Float[np.ndarray, "4 4"] | None:
    """The affine to LPS mm: of the sform where set, else of the qform; None where neither is.

    Raises
    ------
    NotEvaluable
        NO_GEOMETRY: not finite, skew or flat, or sform, qform and pixdim contradict each other.
    """
    unit = MILLIMETRES.get(int(fields["xyzt_units"]) & 7)
    if unit is None:
        raise NotEvaluable(Reason.NO_GEOMETRY, "lengths in a unit that is none")
    spacing = np.abs(np.asarray(fields["pixdim"][1:4], float)) * unit
    sform = _checked(_sform(fields, unit), spacing) if fields["sform_code"] > 0 else None
    qform = _checked(_qform(fields, spacing, unit), spacing) if fields["qform_code"] > 0 else None
    if sform is not None and qform is not None:
        cosines = (sform[:3, :3] * qform[:3, :3]).sum(0) / spacing**2
        if cosines.min() < SAME_DIRECTION:
            raise NotEvaluable(Reason.NO_GEOMETRY, "qform and sform turn the patient differently")
    ras = qform if sform is None else sform
    return None if ras is None else RAS_TO_LPS @ ras


def _sform(fields: np.void, unit: float) -> np.ndarray:
    affine = np.eye(4)
    affine[:3] = np.asarray(fields["srow"], float) * unit
    return affine


def _qform(fields: np.void, spacing: np.ndarray, unit: float) -> np.ndarray:
    """Rotation from the quaternion (a, b, c, d) with a >= 0; the sign of pixdim[0] mirrors z (nifti1.h, method 2)."""
    b, c, d = np.asarray(fields["quatern"], float)
    rest = 1.0 - (b * b + c * c + d * d)
    if not rest > -1e-4:  # rounding of float32; NaN fails too
        raise NotEvaluable(Reason.NO_GEOMETRY, "the quaternion of the qform is none")
    a = np.sqrt(max(rest, 0.0))
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    mirrored = np.array([1.0, 1.0, -1.0 if fields["pixdim"][0] < 0 else 1.0])
    affine = np.eye(4)
    affine[:3, :3] = rotation * (mirrored * spacing)
    affine[:3, 3] = np.asarray(fields["qoffset"], float) * unit
    return affine


def _checked(affine: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Also compare the affine with pixdim: a program that changed one of them forgot the other."""
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    if not (np.abs(steps - spacing) <= SAME_SPACING * spacing).all():  # NaN fails too
        detail = " x ".join(f"{n:.3g}" for n in steps), " x ".join(f"{n:.3g}" for n in spacing)
        raise NotEvaluable(Reason.NO_GEOMETRY, f"voxels of {detail[0]} mm by the affine, of {detail[1]} mm by pixdim")
    return checked_affine(affine)
