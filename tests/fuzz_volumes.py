"""Seeded mutations of NIfTI, NRRD and MetaImage files: fields of the header, bytes, and the packing."""

import gzip
import struct
import zlib

import numpy as np
from fuzz_bases import Base
from fuzz_mutations import BYTE_KINDS, Mutated, Rng

FIELDS: dict[str, tuple[int, str, int]] = {
    "sizeof_hdr": (0, "i", 1), "dim": (40, "h", 8), "datatype": (70, "h", 1), "bitpix": (72, "h", 1),
    "pixdim": (76, "f", 8), "vox_offset": (108, "f", 1), "scl_slope": (112, "f", 1), "scl_inter": (116, "f", 1),
    "xyzt_units": (123, "b", 1), "descrip": (148, "b", 80), "qform_code": (252, "h", 1), "sform_code": (254, "h", 1),
    "quatern": (256, "f", 3), "qoffset": (268, "f", 3), "srow": (280, "f", 12), "intent_name": (328, "b", 16),
    "magic": (344, "b", 4), "extension": (348, "b", 4),
}  # fmt: skip
"""Fields of a NIfTI-1 header (nifti1.h): offset, type, how many."""
HARMLESS_FIELDS = {"descrip", "intent_name", "bitpix"}
VALUES = {
    "i": (0, 1, 348, 540, -1, 2**31 - 1),
    "h": (0, 1, -1, 2, 3, 4, 5, 7, 8, 16, 64, 128, 256, 512, 768, 1536, 32767, -32768),
    "f": (0.0, -1.0, 1.0, 0.5, 3.0, 4.0, 10.0, 1e30, -1e30, 1e-30, float("nan"), float("inf"), 352.0, 353.0, 1e6),
    "b": (0, 1, 2, 3, 10, 127, -1),
}
WORDS = (
    b"0",
    b"-1",
    b"1e30",
    b"nan",
    b"65535",
    b"2147483647",
    b"99999999999",
    b"x" * 5000,
    b"",
    b"%s%n",
    b"1 0 0",
    b"LIST",
)
LINES = (
    b"ElementDataFile = LIST", b"ElementDataFile = ../other.raw", b"data file: ../other.raw", b"data file: LIST",
    b"encoding: bzip2", b"NDims = 9", b"dimension: 16", b"ElementNumberOfChannels = 3", b"CompressedDataSize = 5",
    b"byte skip: -1", b"line skip: 100000", b"Color = 1 0 0 1", b"HeaderSize = -1",
)  # fmt: skip
"""Lines of NRRD and MetaImage headers that lead elsewhere."""


def mutate_volume(base: Base, seed: int) -> Mutated:
    """Mutate a volume file one to three times."""
    rng = np.random.default_rng(seed)
    ((name, content),) = base.files.items()
    gzipped = content[:2] == b"\x1f\x8b"
    if gzipped and rng.integers(3):
        content = gzip.decompress(content)
    else:
        gzipped = False
    stories, harmless = [], True
    for _ in range(int(rng.choice([1, 1, 2, 3]))):
        if rng.integers(3) == 0:
            content, story = BYTE_KINDS[int(rng.integers(len(BYTE_KINDS)))](rng, content)
            harmless = False
        elif base.kind == "nifti" and content[:2] != b"\x1f\x8b":
            content, story = _field(rng, content)
            harmless &= story.split()[0] in HARMLESS_FIELDS
        else:
            content, story = _line(rng, content)
            harmless = False
        stories.append(story)
    if gzipped:
        content = gzip.compress(content, 1, mtime=0)
        if rng.integers(6) == 0:
            content = content[: int(rng.integers(20, len(content)))]
            stories.append("gzip cut")
    elif base.kind == "nifti" and rng.integers(8) == 0:
        content = gzip.compress(content, 1, mtime=0) + zlib.compress(content)
        stories.append("gzipped, noise after the end")
    return Mutated({name: content}, frozenset({name}), not harmless, not harmless, "; ".join(stories))


def _field(rng: Rng, content: bytes) -> tuple[bytes, str]:
    """A field of a NIfTI header, or one of its values."""
    name = list(FIELDS)[int(rng.integers(len(FIELDS)))]
    offset, kind, count = FIELDS[name]
    values = VALUES[kind]
    changed = bytearray(content.ljust(352, b"\0"))
    for at in range(count) if rng.integers(4) == 0 else [int(rng.integers(count))]:
        value = values[int(rng.integers(len(values)))]
        struct.pack_into("<" + kind, changed, offset + at * struct.calcsize(kind), value)
    return bytes(changed), f"{name} {value!r}"


def _line(rng: Rng, content: bytes) -> tuple[bytes, str]:
    """A line of a text header: another value, twice, gone, swapped with the next, or one that leads elsewhere."""
    end = content.find(b"\n\n") if content[:4] == b"NRRD" else content.find(b"ElementDataFile")
    lines, rest = content[: max(end, 0)].split(b"\n"), content[max(end, 0) :]
    i, which = int(rng.integers(len(lines))), int(rng.integers(6))
    old = lines[i]
    if which <= 1:
        cut = max(old.find(b":"), old.find(b"=")) + 1
        words = old[cut:].split(b" ")
        words[int(rng.integers(len(words)))] = WORDS[int(rng.integers(len(WORDS)))]
        lines[i] = old[:cut] + b" ".join(words)
    elif which == 2:
        lines.insert(i, old)
    elif which == 3:
        del lines[i]
    elif which == 4:
        lines[i] = old[::-1]
    else:
        lines.insert(max(i, 1), LINES[int(rng.integers(len(LINES)))])
    return b"\n".join(lines) + rest, f"line {i}, way {which}"
