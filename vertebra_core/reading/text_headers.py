"""Headers in words: NRRD (teem.sourceforge.net/nrrd/format.html) and MetaImage (ITK's MetaIO documentation)."""

import re

import numpy as np

from vertebra_core.errors import NotEvaluable, Reason
from vertebra_core.reading.file_header import FileHeader, checked_affine
from vertebra_core.reading.files import open_file

MOST_HEADER_BYTES = 2**16
MOST_AXES = 7
NRRD_TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
NRRD_SPACES = {
    "left-posterior-superior": (1, 1, 1),
    "right-anterior-superior": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1),
}
"""Signs that lead from an anatomical space to LPS; in other spaces nobody knows where the patient lies."""
SHORT_SPACES = {"lps": "left-posterior-superior", "ras": "right-anterior-superior", "las": "left-anterior-superior"}
META_TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4",
    "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip


def read_text_header(archive: str, path: str, file_format: str) -> FileHeader:
    """Read the header of a NRRD or MetaImage file.

    Raises
    ------
    NotEvaluable
        UNREADABLE, NOT_A_VOLUME, NO_GEOMETRY.
    """
    with open_file(archive, path) as stream:
        start = stream.read(MOST_HEADER_BYTES)
    try:
        return (parse_nrrd if file_format == "nrrd" else parse_metaimage)(start, path)
    except (ValueError, OverflowError):  # a word where a number should be
        raise NotEvaluable(Reason.UNREADABLE, "a field of the header cannot be read") from None


def _fields(lines: list[bytes], separator: str) -> dict[str, str]:
    """Fields by lower-case name; one that is given twice must say the same."""
    found: dict[str, str] = {}
    for line in lines:
        text = line.decode("latin-1").strip()
        name, _, value = text.partition(separator)
        name, value = name.strip().lower(), value.strip()
        if not name or name.startswith("#") or value.startswith("="):  # a comment, or a key of the user's own
            continue
        if found.setdefault(name, value) != value:
            raise NotEvaluable(Reason.UNREADABLE, "a field of the header is given twice, with two values")
    return found


def _shape(words: str, axes: int) -> tuple[int, ...]:
    shape = tuple(int(word) for word in words.split())
    if not 1 <= axes <= MOST_AXES or len(shape) != axes or min(shape) < 1:
        raise NotEvaluable(Reason.UNREADABLE, f"{axes} axes, sizes of {len(shape)}")
    return shape


def _neighbour(path: str, name: str) -> str:
    """A file beside the header; one elsewhere would leave the archive.

    Raises
    ------
    NotEvaluable
        UNREADABLE.
    """
    if not name or re.search(r"[/\\%]|^\.\.?$|^LIST\b|\s\d+\s", name):
        raise NotEvaluable(Reason.UNREADABLE, "the voxels stand in other files; one file beside the header expected")
    folder = path.rpartition("/")[0]
    return f"{folder}/{name}" if folder else name


# -- NRRD ---------------------------------------------------------------------------------------------------------


def parse_nrrd(start: bytes, path: str = "") -> FileHeader:
    """Make sense of the first bytes of a NRRD file.

    Raises
    ------
    NotEvaluable
        UNREADABLE, NOT_A_VOLUME, NO_GEOMETRY.
    ValueError, OverflowError
        A word where a number should be.
    """
    found = re.search(rb"\r?\n\r?\n", start)
    lines = (start[: found.start()] if found else start).splitlines()
    fields = _fields(lines[1:], ":")
    elsewhere = fields.get("data file", fields.get("datafile"))
    if found is None and (elsewhere is None or len(start) == MOST_HEADER_BYTES):
        raise NotEvaluable(Reason.UNREADABLE, "the header has no end")
    shape = _shape(fields.get("sizes", ""), int(fields.get("dimension", "0")))
    code = next((code for code, names in NRRD_TYPES.items() if fields.get("type", "").lower() in names), None)
    packing = {"raw": "", "gzip": "gzip", "gz": "gzip"}.get(fields.get("encoding", "").lower())
    order = {"little": "<", "big": ">"}.get(fields.get("endian", "").lower(), "")
    if code is None or packing is None or (not order and code[1] != "1"):
        raise NotEvaluable(Reason.UNREADABLE, "type, encoding or byte order of the voxels is none that is read here")
    if int(fields.get("line skip", fields.get("lineskip", "0"))):
        raise NotEvaluable(Reason.UNREADABLE, "lines to skip before the voxels")
    skip = int(fields.get("byte skip", fields.get("byteskip", "0")))
    if skip < -1 or (skip and packing):
        raise NotEvaluable(Reason.UNREADABLE, f"{skip} bytes to skip before the voxels")
    begin = 0 if elsewhere is not None or found is None else found.end()
    return FileHeader(
        shape=shape,
        dtype=np.dtype((order or "<") + code),
        data_path=path if elsewhere is None else _neighbour(path, elsewhere),
        offset=-1 if skip == -1 else begin + skip,
        packing=packing,
        patient_from_voxel=_nrrd_affine(fields, len(shape)),
    )


def _nrrd_affine(fields: dict[str, str], axes: int) -> np.ndarray | None:
    """The affine of three axes in an anatomical space; None where the file does not say it."""
    space = fields.get("space", "").lower()
    signs = NRRD_SPACES.get(SHORT_SPACES.get(space, space))
    if signs is None or "space directions" not in fields or axes != 3:
        return None
    vectors = re.findall(r"\(([^()]*)\)", fields["space directions"])
    origin = re.fullmatch(r"\(([^()]*)\)", fields.get("space origin", "(0,0,0)"))
    rows = [[float(number) for number in vector.split(",")] for vector in vectors]
    first = [float(number) for number in origin[1].split(",")] if origin else []
    if len(rows) != 3 or any(len(row) != 3 for row in rows) or len(first) != 3:
        raise NotEvaluable(Reason.NO_GEOMETRY, "the directions of the axes cannot be read")
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = np.array(rows).T, first
    affine[:3] *= np.array(signs, float)[:, None]
    return checked_affine(affine)


# -- MetaImage ----------------------------------------------------------------------------------------------------


def parse_metaimage(start: bytes, path: str = "") -> FileHeader:
    """Make sense of the first bytes of a MetaImage file.

    Raises
    ------
    NotEvaluable
        UNREADABLE, NOT_A_VOLUME, NO_GEOMETRY.
    ValueError, OverflowError
        A word where a number should be.
    """
    found = re.search(rb"^ElementDataFile *= *([^\r\n]*)\r?(\n|$)", start, re.MULTILINE)
    if not found:
        raise NotEvaluable(Reason.UNREADABLE, "the header has no end")
    fields = _fields(start[: found.start()].splitlines(), "=")
    axes = int(fields.get("ndims", "0"))
    shape = _shape(fields.get("dimsize", ""), axes)
    code = META_TYPES.get(fields.get("elementtype", ""))
    if code is None or not _yes(fields, "binarydata", "True"):
        raise NotEvaluable(Reason.UNREADABLE, "type or encoding of the voxels is none that is read here")
    big = _yes(fields, "binarydatabyteordermsb", fields.get("elementbyteordermsb", "False"))
    own = found[1].strip().decode("latin-1")
    local = own.upper() == "LOCAL"
    header_size = int(fields.get("headersize", "0"))
    if header_size < -1:
        raise NotEvaluable(Reason.UNREADABLE, f"{header_size} bytes before the voxels")
    compressed = _yes(fields, "compresseddata", "False")
    return FileHeader(
        shape=shape,
        dtype=np.dtype((">" if big else "<") + code),
        data_path=path if local else _neighbour(path, own),
        offset=found.end() if local else header_size,
        packing="zlib" if compressed else "",
        patient_from_voxel=_meta_affine(fields, axes),
        components=int(fields.get("elementnumberofchannels", "1")),
    )


def _yes(fields: dict[str, str], name: str, default: str) -> bool:
    value = fields.get(name, default).lower()
    if value not in ("true", "false", "1", "0"):
        raise NotEvaluable(Reason.UNREADABLE, "a field of the header is neither true nor false")
    return value in ("true", "1")


def _meta_affine(fields: dict[str, str], axes: int) -> np.ndarray | None:
    """The affine of three axes; None where the file does not say how far apart its voxels are.

    ITK takes one millimetre where nothing is said, and so makes heights of nothing.
    """
    spacing = fields.get("elementspacing", fields.get("elementsize"))
    if spacing is None or axes != 3:
        return None
    names = {"offset": ("offset", "position", "origin"), "turn": ("transformmatrix", "rotation", "orientation")}
    offset, turn = (next((fields[name] for name in names[key] if name in fields), None) for key in ("offset", "turn"))
    steps, first = _numbers(spacing, 3), _numbers(offset or "0 0 0", 3)
    directions = _numbers(turn or "1 0 0 0 1 0 0 0 1", 9).reshape(3, 3)  # a row is the direction of an axis
    if np.abs(directions @ directions.T - np.eye(3)).max() > 0.02:
        raise NotEvaluable(Reason.NO_GEOMETRY, "the axes of the file are not at right angles")
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = directions.T * np.abs(steps), first
    return checked_affine(affine)


def _numbers(words: str, count: int) -> np.ndarray:
    numbers = np.array([float(word) for word in words.split()])
    if len(numbers) != count:
        raise NotEvaluable(Reason.NO_GEOMETRY, f"{len(numbers)} numbers, {count} expected")
    return numbers
