"""A small DICOM codec for the fuzzer: splits a sound file into its elements and writes wrong ones, byte by byte.

It knows only what the made bases hold, and refuses nothing on writing: pydicom, which is under test, is not used.
"""

import struct
import zlib
from dataclasses import dataclass, replace

from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

LONG_VRS = {b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"SQ", b"UN", b"UT", b"UC", b"UR", b"SV", b"UV"}
"""VRs whose explicit length has four bytes (PS3.5 7.1.2)."""
UNDEFINED = 0xFFFFFFFF
PIXEL_DATA = (0x7FE0, 0x0010)
PREAMBLE = bytes(128) + b"DICM"


@dataclass(frozen=True)
class Element:
    """One element: its tag, VR and value as bytes, and the length it claims (None: the true one)."""

    tag: tuple[int, int]
    vr: bytes
    value: bytes
    claimed: int | None = None


@dataclass(frozen=True)
class DicomFile:
    """A file as its preamble, meta elements (explicit little endian) and elements in their own encoding."""

    start: bytes
    meta: tuple[Element, ...]
    elements: tuple[Element, ...]
    implicit: bool
    big: bool
    deflated: bool

    def index(self, tag: tuple[int, int]) -> int | None:
        """Position of the first element with this tag."""
        return next((i for i, element in enumerate(self.elements) if element.tag == tag), None)

    def with_element(self, index: int, *elements: Element) -> "DicomFile":
        """The file with other elements in place of one."""
        return replace(self, elements=(*self.elements[:index], *elements, *self.elements[index + 1 :]))


def parse(content: bytes) -> DicomFile:
    """Split a sound file."""
    at = len(PREAMBLE)
    if content[128:at] != b"DICM":
        raise ValueError("no preamble")
    meta: list[Element] = []
    while content[at : at + 2] == b"\x02\x00":
        element, at = _element(content, at, implicit=False, big=False)
        meta.append(element)
    syntax = next((e.value.rstrip(b"\0").decode() for e in meta if e.tag == (2, 0x10)), "")
    implicit, big = syntax == ImplicitVRLittleEndian, syntax == ExplicitVRBigEndian
    deflated = syntax == DeflatedExplicitVRLittleEndian
    body = zlib.decompress(content[at:], -15) if deflated else content[at:]
    elements, at = [], 0
    while at < len(body):
        element, at = _element(body, at, implicit, big)
        elements.append(element)
    return DicomFile(content[: len(PREAMBLE)], tuple(meta), tuple(elements), implicit, big, deflated)


def _element(content: bytes, at: int, implicit: bool, big: bool) -> tuple[Element, int]:
    order = ">" if big else "<"
    tag = struct.unpack_from(order + "HH", content, at)
    vr = b"" if implicit else content[at + 4 : at + 6]
    if implicit:
        (length,), head = struct.unpack_from(order + "I", content, at + 4), 8
    elif vr in LONG_VRS:
        (length,), head = struct.unpack_from(order + "I", content, at + 8), 12
    else:
        (length,), head = struct.unpack_from(order + "H", content, at + 6), 8
    start = at + head
    if length == UNDEFINED:  # made files have it in their last element only
        return Element((tag[0], tag[1]), vr, content[start:], UNDEFINED), len(content)
    if start + length > len(content):
        raise ValueError("an element longer than the file")
    return Element((tag[0], tag[1]), vr, content[start : start + length]), start + length


def write(file: DicomFile) -> bytes:
    """Put a file together, however wrong."""
    meta = b"".join(encode(element, False, False) for element in file.meta)
    body = b"".join(encode(element, file.implicit, file.big) for element in file.elements)
    if file.deflated:
        packer = zlib.compressobj(wbits=-15)
        body = packer.compress(body) + packer.flush()
    return file.start + meta + body


def encode(element: Element, implicit: bool, big: bool) -> bytes:
    """One element as bytes."""
    order = ">" if big else "<"
    length = len(element.value) if element.claimed is None else element.claimed
    tag = struct.pack(order + "HH", *element.tag)
    if implicit:
        return tag + struct.pack(order + "I", length & UNDEFINED) + element.value
    if element.vr in LONG_VRS:
        return tag + element.vr + b"\0\0" + struct.pack(order + "I", length & UNDEFINED) + element.value
    return tag + element.vr + struct.pack(order + "H", length & 0xFFFF) + element.value


def nested(depth: int, undefined: bool, closed: bool, implicit: bool, big: bool) -> Element:
    """A sequence in a sequence in a sequence, ``depth`` times; not closed where its delimiters are left out."""
    order = ">" if big else "<"
    tag = struct.pack(order + "HH", 0x0009, 0x1010)
    head = tag if implicit else tag + b"SQ\0\0"
    item, item_end, end = (struct.pack(order + "HH", 0xFFFE, number) for number in (0xE000, 0xE00D, 0xE0DD))
    none = struct.pack(order + "I", 0)
    content = b""
    if undefined:
        length = struct.pack(order + "I", UNDEFINED)
        opening = head + length + item + length
        closing = item_end + none + end + none if closed else b""
        content = opening * depth + closing * depth
    else:
        for _ in range(depth):
            inside = item + struct.pack(order + "I", len(content)) + content
            content = head + struct.pack(order + "I", len(inside)) + inside
    whole = item + struct.pack(order + "I", len(content)) + content
    return Element((0x0009, 0x1010), b"SQ", whole)
