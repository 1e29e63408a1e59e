"""What the header of a volume file says, whatever its format, and the voxels it leads to.

Volume files are read here and not by ITK. On files with a damaged header ITK ends the process (MetaImage, NRRD) or
never returns (NIfTI); what a cut NIfTI lacks, and NaN, it takes for zeros (docs/fuzzing.md).
"""

import gzip
import zlib
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from jaxtyping import Float, Shaped

from vertebra_core.errors import NotEvaluable, Reason
from vertebra_core.reading.files import file_size, open_file
from vertebra_core.reading.grid import COSINE_TOLERANCE

CHUNK_BYTES = 2**22
MOST_RATIO = 1032
"""No input is packed more densely by deflate (zlib's technical details)."""
LEAST_STEP_MM = 1e-3
MOST_COORDINATE_MM = 1e5
"""A patient lies within metres of the scanner's origin; a coordinate beyond this is a damaged number."""


@dataclass(frozen=True)
class FileHeader:
    """Where the voxels of a volume file stand, and where they lie in the patient.

    Parameters
    ----------
    shape : tuple of int
        Size along x, y, z and further axes.
    dtype : numpy dtype
        Of the stored values, their byte order included.
    data_path : str
        File below the archive that holds them.
    offset : int
        Byte at which they begin; negative: they are the end of the file.
    packing : str
        "" none, "file" the whole file is gzipped, "gzip" or "zlib" only the voxels are.
    scale : tuple of 2 floats
        Slope and intercept.
    patient_from_voxel : array [4, 4] or None
        From (i_x, i_y, i_z) to LPS mm; None where the file does not say.
    components : int
        Values a voxel.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    data_path: str
    offset: int
    packing: str = ""
    scale: tuple[float, float] = (1.0, 0.0)
    patient_from_voxel: Float[np.ndarray, "4 4"] | None = None
    components: int = 1


def checked_affine(affine: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, "4 4"]:
    """Return the affine if a scanner can have made it.

    Raises
    ------
    NotEvaluable
        NO_GEOMETRY.
    """
    if not np.isfinite(affine).all() or np.abs(affine).max() > MOST_COORDINATE_MM:
        raise NotEvaluable(Reason.NO_GEOMETRY, "the affine is not finite")
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    if steps.min() < LEAST_STEP_MM:
        raise NotEvaluable(Reason.NO_GEOMETRY, "voxels without an extent")
    axes = affine[:3, :3] / steps
    if np.abs(axes.T @ axes - np.eye(3)).max() > COSINE_TOLERANCE:
        raise NotEvaluable(Reason.NO_GEOMETRY, "the axes of the file are not at right angles")
    return affine


def read_voxels(archive: str, header: FileHeader) -> Shaped[np.ndarray, "z y x"]:
    """Read the voxels [z, y, x]: int16 where all are whole numbers of that range, else float32.

    Raises
    ------
    NotEvaluable
        PIXELS_DAMAGED, NOT_FINITE, OUT_OF_MEMORY.
    """
    shape = header.shape[2::-1]
    n_bytes = int(np.prod(shape, dtype=object)) * header.dtype.itemsize
    held = file_size(archive, header.data_path) * (MOST_RATIO if header.packing else 1)
    if n_bytes > held:
        raise NotEvaluable(Reason.PIXELS_DAMAGED, f"at least {n_bytes - held} bytes of the voxels are missing")
    try:
        with open_file(archive, header.data_path) as stream:
            content = _at_voxels(stream, header, held - n_bytes)
            return _read(content, header).reshape(shape)
    except (OSError, EOFError, zlib.error):
        raise NotEvaluable(Reason.PIXELS_DAMAGED, "the voxels cannot be unpacked") from None
    except MemoryError:
        raise NotEvaluable(Reason.OUT_OF_MEMORY) from None


def _at_voxels(stream: BinaryIO, header: FileHeader, at_end: int) -> BinaryIO:
    """The stream of bytes that begins with the first voxel."""
    if header.packing == "file":
        content: BinaryIO = gzip.GzipFile(fileobj=stream)  # type: ignore[assignment]
        left = header.offset
        while left > 0 and (passed := len(content.read(min(left, CHUNK_BYTES)))):
            left -= passed
        return content
    stream.seek(header.offset if header.offset >= 0 else at_end)
    if header.packing == "gzip":
        return gzip.GzipFile(fileobj=stream)  # type: ignore[return-value]
    return Inflated(stream) if header.packing == "zlib" else stream  # type: ignore[return-value]


def _read(content: BinaryIO, header: FileHeader) -> Shaped[np.ndarray, "n"]:
    slope, intercept = header.scale
    n_voxels, step = int(np.prod(header.shape[:3])), CHUNK_BYTES // header.dtype.itemsize
    whole = header.dtype.kind in "iu" and slope == 1.0 and intercept.is_integer()
    voxels = np.empty(n_voxels, np.int16 if whole else np.float32)
    for start in range(0, n_voxels, step):
        stop = min(n_voxels, start + step)
        part = np.frombuffer(_exactly(content, (stop - start) * header.dtype.itemsize), header.dtype)
        part = part.astype(np.float64)
        if slope != 1.0 or intercept != 0.0:
            part = part * slope + intercept
        if not np.isfinite(part).all():
            raise NotEvaluable(Reason.NOT_FINITE, "at least one voxel is NaN or infinite")
        if voxels.dtype == np.int16 and (part.min() < -(2**15) or part.max() >= 2**15):
            voxels = voxels.astype(np.float32)
        voxels[start:stop] = part
    while header.packing and content.read(CHUNK_BYTES):  # to the end, where the checksum stands
        pass
    return voxels


def _exactly(content: BinaryIO, n_bytes: int) -> bytes:
    parts = []
    while n_bytes > 0 and (part := content.read(n_bytes)):
        parts.append(part)
        n_bytes -= len(part)
    if n_bytes > 0:
        raise NotEvaluable(Reason.PIXELS_DAMAGED, f"at least {n_bytes} bytes of the voxels are missing")
    return b"".join(parts)


class Inflated:
    """A stream of zlib's as a file to read from."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._unpacker = stream, zlib.decompressobj()

    def read(self, n_bytes: int) -> bytes:
        """At most so many bytes; none at the end.

        Raises
        ------
        EOFError
            The stream ends before its last block.
        """
        while not self._unpacker.eof:
            packed = self._unpacker.unconsumed_tail or self._stream.read(CHUNK_BYTES)
            if not packed:
                raise EOFError
            if part := self._unpacker.decompress(packed, n_bytes):
                return part
        return b""
