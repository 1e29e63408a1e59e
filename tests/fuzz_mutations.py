"""Seeded mutations of whole series: what age, software and transport do to files, and what no one would do.

A mutation of headers or pixels is a function of a generator and one parsed file; of bytes, of a generator and one
file's content; of a series, of a generator and all its files. The same seed gives the same mutation.
"""

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from fuzz_bases import Base
from fuzz_elements import PIXEL_DATA, UNDEFINED, DicomFile, Element, encode, nested, parse, write

Rng = np.random.Generator

PLACE_TAGS = {
    (0x0020, 0x0032),  # ImagePositionPatient
    (0x0020, 0x0037),  # ImageOrientationPatient
    (0x0028, 0x0030),  # PixelSpacing
    (0x0028, 0x0008),  # NumberOfFrames
    (0x0028, 0x0010),  # Rows
    (0x0028, 0x0011),  # Columns
    (0x5200, 0x9229),  # shared and
    (0x5200, 0x9230),  # per-frame functional groups
}
"""Where an image lies is said by these, and by nothing else."""
HARMLESS_GROUPS = {0x0008, 0x0010, 0x0018, 0x0020}
"""Groups in which no element but those above bears on geometry or pixels; a matter of identity and selection."""
TEXTS = (
    b"", b" ", b"\0", b"0", b"-1", b"1e400", b"NaN", b"-inf", b"\\\\\\\\", b"1\\2", b"0.0000001", b"65535",
    b"2147483648", b"A" * 70_000, b"\n\r\t\x1b[31m", "Müller^Ü".encode(), "Иванов".encode("iso8859_5"),
    b"\xff\xfe\x80", b"../../x",
    b"1,5", b"+", b"1.2.840.10008.5.1.4.1.1.2", b"00000000", b"99999999", b"250000.99",
)  # fmt: skip
CHARSETS = (
    b"ISO_IR 192",
    b"ISO 2022 IR 87",
    b"\\ISO 2022 IR 149",
    b"GB18030",
    b"NONSENSE",
    b"ISO_IR 100\\" * 30,
    b"\xff",
)
SYNTAXES = (
    b"1.2.840.10008.1.2", b"1.2.840.10008.1.2.1", b"1.2.840.10008.1.2.2", b"1.2.840.10008.1.2.1.99",
    b"1.2.840.10008.1.2.5", b"1.2.840.10008.1.2.4.50", b"1.2.840.10008.1.2.4.70", b"1.2.840.10008.1.2.4.80",
    b"1.2.840.10008.1.2.4.90", b"1.2.840.10008.1.2.4.100", b"1.2.3", b"", b"\xff", b"1.2.840.10008.1.2.1.98",
)  # fmt: skip
CLAIMS = (0, 1, 2, 7, 31, 33, 255, 4096, 32768, 65535)
LENGTHS = (0, 1, 2, 255, 65535, 2**16, 2**24 + 1, 2**31 - 1, 2**31, UNDEFINED - 1, UNDEFINED)


@dataclass(frozen=True)
class Mutated:
    """A mutated series.

    Parameters
    ----------
    files : dict
        Content by file name.
    touched : frozenset of str
        Files of the base that are not as they were.
    may_move : bool
        The mutation may honestly change where all slices lie.
    may_recolour : bool
        The mutation may honestly change the voxels of all slices.
    story : str
        What was done.
    """

    files: dict[str, bytes]
    touched: frozenset[str]
    may_move: bool
    may_recolour: bool
    story: str


@dataclass(frozen=True)
class Kind:
    """One kind of mutation of a file: a function, and whether it may change every slice's place or pixels."""

    change: Callable[[Rng, DicomFile], tuple[DicomFile, str]]
    anything: bool = True


# -- of headers ---------------------------------------------------------------------------------------------------


def _pick(rng: Rng, file: DicomFile) -> int:
    """An element, those of geometry and pixels more often."""
    weights = np.array([4.0 if e.tag in PLACE_TAGS or e.tag[0] == 0x0028 else 1.0 for e in file.elements])
    weights[[e.tag == PIXEL_DATA for e in file.elements]] = 0.5
    return int(rng.choice(len(weights), p=weights / weights.sum()))


def _named(file: DicomFile, i: int) -> str:
    return "({:04x},{:04x})".format(*file.elements[i].tag)


def other_value(rng: Rng, file: DicomFile) -> tuple[DicomFile, str]:
    """An element with a value that nobody expects."""
    i = _pick(rng, file)
    old = file.elements[i]
    kind = int(rng.integers(6))
    if old.vr in (b"US", b"SS", b"UL") or (file.implicit and old.tag[0] == 0x0028 and len(old.value) == 2):
        value = struct.pack((">" if file.big else "<") + "H", int(rng.choice(CLAIMS)))
    elif kind == 0:
        value = rng.bytes(int(rng.integers(1, 40)))
    elif kind == 1:
        value = old.value[: int(rng.integers(0, len(old.value) + 1))]
    elif kind == 2:
        value = b"\\".join(rng.permutation(np.array(old.value.strip(b" \0").split(b"\\"), object)).tolist())
    elif kind == 3 and old.value:
        changed = bytearray(old.value[:200_000])
        changed[int(rng.integers(len(changed)))] ^= 1 << int(rng.integers(8))
        value = bytes(changed)
    else:
        value = TEXTS[int(rng.integers(len(TEXTS)))]
    if len(value) >= 65_534 and old.vr not in (b"OW", b"OB", b"UN"):
        value = value[:65_534] if not file.implicit else value
    value += b" " * (len(value) % 2)
    return file.with_element(i, replace(old, value=value)), f"value of {_named(file, i)}: {value[:24]!r}"


def other_vr(rng: Rng, file: DicomFile) -> tuple[DicomFile, str]:
    """An element with another VR."""
    i = _pick(rng, file)
    vr = (b"UN", b"OB", b"SQ", b"DS", b"LO", b"US", b"FD", b"ZZ", b"\0\0", b"AT", b"UT")[int(rng.integers(11))]
    return file.with_element(i, replace(file.elements[i], vr=vr)), f"VR of {_named(file, i)}: {vr!r}"


def removed(rng: Rng, file: DicomFile) -> tuple[DicomFile, str]:
    """An element less."""
    i = _pick(rng, file)
    return file.with_element(i), f"removed {_named(file, i)}"


def emptied(rng: Rng, file: DicomFile) -> tuple[DicomFile, str]:
    """An element without a value."""
    i = _pick(rng, file)
    return file.with_element(i, replace(file.elements[i], value=b"", claimed=None)), f"emptied {_named(file, i)}"


def doubled(rng: Rng, file: DicomFile) -> tuple[DicomFile, str]:
    """An element twice, the second time with another value."""
    i = _pick(rng, file)
    twin = replace(file.elements[i], value=file.elements[i].value[::-1])
    return file.with_element(i, file.elements[i], twin), f"doubled {_named(file, i)}"


def reordered(rng: Rng, file: DicomFile) -> tuple[DicomFile, str]:
    """Elements out of order."""
    elements = list(file.elements)
    i, j = sorted(rng.integers(0, len(elements), 2).tolist())
    elements[i], elements[j] = elements[j], elements[i]
    return replace(file, elements=tuple(elements)), f"swapped {_named(file, i)} and {_named(file, j)}"


def other_length(rng: Rng, file: DicomFile) -> tuple[DicomFile, str]:
    """An element that lies about its length."""
    i = _pick(rng, file)
    true = len(file.elements[i].value)
    claimed = int(rng.choice([*LENGTHS, true + 2, max(true - 2, 0), true + 1]))
    return file.with_element(i, replace(file.elements[i], claimed=claimed)), f"length of {_named(file, i)}: {claimed}"


def sequence_inside(rng: Rng, file: DicomFile) -> tuple[DicomFile, str]:
    """A private sequence, nested deeply, of undefined length or without an end."""
    depth = int(rng.choice([1, 3, 30, 400, 3000]))
    undefined, closed = bool(rng.integers(2)), bool(rng.integers(3))
    element = nested(depth, undefined, closed, file.implicit, file.big)
    if rng.integers(4) == 0:
        element = replace(element, claimed=UNDEFINED)
    i = next((i for i, e in enumerate(file.elements) if e.tag > element.tag), 0)
    return file.with_element(i, element, file.elements[i]), f"sequence nested {depth} deep"


def private_ballast(rng: Rng, file: DicomFile) -> tuple[DicomFile, str]:
    """A large private element before the image."""
    vr = (b"OB", b"UN")[int(rng.integers(2))]
    element = Element((0x0019, 0x1001), vr, rng.bytes(8) * int(rng.choice([10, 10_000, 100_000])))
    i = next((i for i, e in enumerate(file.elements) if e.tag > element.tag), 0)
    return file.with_element(i, element, file.elements[i]), f"{len(element.value)} private bytes"


def huge_claim(rng: Rng, file: DicomFile) -> tuple[DicomFile, str]:
    """A matrix, or a number of frames, that no CT has."""
    order = ">" if file.big else "<"
    which = int(rng.integers(5))
    if which < 3:
        element = Element(
            (0x0028, 0x0008), b"IS", (b"2147483648", b"100000", b"-1", b"2 ", b"0 ")[int(rng.integers(5))]
        )
        i = next((i for i, e in enumerate(file.elements) if e.tag >= element.tag), 0)
        old = (file.elements[i],) if file.elements[i].tag != element.tag else ()
        return file.with_element(i, element, *old), f"NumberOfFrames {element.value!r}"
    for tag in ((0x0028, 0x0010), (0x0028, 0x0011))[: which - 2]:
        i = file.index(tag)
        if i is not None:
            file = file.with_element(i, replace(file.elements[i], value=struct.pack(order + "H", 65535)))
    return file, "65535 rows and columns"


def other_charset(rng: Rng, file: DicomFile) -> tuple[DicomFile, str]:
    """A character set, and a name in another."""
    charset = CHARSETS[int(rng.integers(len(CHARSETS)))]
    added = [Element((0x0008, 0x0005), b"CS", charset + b" " * (len(charset) % 2))]
    elements = []
    for element in file.elements:
        if element.tag in ((0x0010, 0x0010), (0x0010, 0x0020), (0x0008, 0x103E)):
            element = replace(element, value=rng.bytes(2 * int(rng.integers(1, 30))))
        elements.append(element)
    return replace(file, elements=tuple(added + elements)), f"character set {charset[:20]!r}"


def other_meta(rng: Rng, file: DicomFile) -> tuple[DicomFile, str]:
    """A preamble or meta header that is wrong or absent."""
    which = int(rng.integers(6))
    if which == 0:
        return replace(file, start=b""), "no preamble"
    if which == 1:
        return replace(file, meta=()), "no meta header"
    if which == 2:
        return replace(file, meta=(), start=b""), "no preamble, no meta header"
    if which == 3 and file.meta:
        first = replace(file.meta[0], value=struct.pack("<I", int(rng.choice(LENGTHS))))
        return replace(file, meta=(first, *file.meta[1:])), "length of the meta header"
    if which == 4:
        return replace(file, start=rng.bytes(128) + b"DICM"), "noise in the preamble"
    i = int(rng.integers(len(file.meta) or 1))
    return replace(file, meta=file.meta[:i] + file.meta[i + 1 :]), f"meta element {i} removed"


def other_syntax(rng: Rng, file: DicomFile) -> tuple[DicomFile, str]:
    """A transfer syntax that is not the file's."""
    value = SYNTAXES[int(rng.integers(len(SYNTAXES)))]
    value += b"\0" * (len(value) % 2)
    meta = tuple(replace(e, value=value) if e.tag == (2, 0x10) else e for e in file.meta)
    return replace(file, meta=meta), f"transfer syntax {value!r}"


# -- of pixels ----------------------------------------------------------------------------------------------------


def other_pixels(rng: Rng, file: DicomFile) -> tuple[DicomFile, str]:
    """Pixel data flipped, cut, lengthened, of another length, or with wrong offsets and fragments."""
    i = file.index(PIXEL_DATA)
    if i is None:
        return file, "no pixels"
    old = file.elements[i]
    data = bytearray(old.value)
    which = int(rng.integers(7))
    claimed = old.claimed
    if which == 0 and data:
        for at in rng.integers(0, len(data), int(rng.integers(1, 9))):
            data[at] ^= int(rng.integers(1, 256))
    elif which == 1:
        data = data[: int(rng.integers(0, len(data) + 1))]
    elif which == 2:
        data += rng.bytes(int(rng.integers(1, 300)))
    elif which == 3:
        claimed = int(rng.choice([*LENGTHS, max(len(data) - 2, 0), len(data) + 2]))
    elif which == 4 and len(data) > 32:  # the offset table and the length of the first fragment stand here
        data[int(rng.integers(4, 32))] ^= int(rng.integers(1, 256))
    elif which == 5:
        at, length = sorted(rng.integers(0, len(data) + 1, 2).tolist())
        data[at:length] = bytes(length - at)
    else:
        half = len(data) // 2
        data = data[half:] + data[:half]
    return file.with_element(i, replace(old, value=bytes(data), claimed=claimed)), f"pixel data, way {which}"


# -- of bytes -----------------------------------------------------------------------------------------------------


def truncated(rng: Rng, content: bytes) -> tuple[bytes, str]:
    """Cut short."""
    length = int(rng.integers(0, len(content) + 1))
    return content[:length], f"cut to {length} of {len(content)} bytes"


def garbage(rng: Rng, content: bytes) -> tuple[bytes, str]:
    """Bytes put in somewhere."""
    at, noise = int(rng.integers(0, len(content) + 1)), rng.bytes(int(rng.integers(1, 5000)))
    return content[:at] + noise + content[at:], f"{len(noise)} bytes of noise at {at}"


def flipped(rng: Rng, content: bytes) -> tuple[bytes, str]:
    """Single bits of the first kilobytes or of all."""
    changed = bytearray(content)
    end = min(len(content), int(rng.choice([1200, len(content) + 1])))
    where = rng.integers(0, max(end, 1), int(rng.integers(1, 12))) if content else []
    for at in where:
        changed[at] ^= 1 << int(rng.integers(8))
    return bytes(changed), f"{len(where)} bits flipped"


def zeroed(rng: Rng, content: bytes) -> tuple[bytes, str]:
    """A block of zeros, as a bad sector leaves it."""
    at = int(rng.integers(0, len(content) + 1))
    size = int(rng.choice([16, 512, 4096]))
    return content[:at] + bytes(min(size, len(content) - at)) + content[at + size :], f"{size} zeros at {at}"


# -- of series ----------------------------------------------------------------------------------------------------

HEADER_KINDS: tuple[Callable, ...] = (
    other_value, other_value, other_value, other_vr, removed, emptied, doubled, reordered, other_length,
    sequence_inside, private_ballast, huge_claim, other_charset, other_meta, other_syntax, other_pixels, other_pixels,
)  # fmt: skip
BYTE_KINDS: tuple[Callable, ...] = (truncated, garbage, flipped, flipped, zeroed)
HARMLESS = {private_ballast, other_charset}
"""Kinds that bear on neither geometry nor pixels."""


def mutate(base: Base, seed: int) -> Mutated:
    """Mutate a series one to three times.

    One file, some or all are touched; all in the same way where the mutation is of headers.
    """
    rng = np.random.default_rng(seed)
    files = dict(base.files)
    touched: set[str] = set()
    may_move = may_recolour = False
    stories = []
    for _ in range(int(rng.choice([1, 1, 2, 3]))):
        if len(files) > 1 and rng.integers(8) == 0:
            story, names = _reshuffle(rng, files, base)
            touched |= names
            stories.append(story)
            continue
        names = _chosen(rng, sorted(files))
        kind = (HEADER_KINDS + BYTE_KINDS)[int(rng.integers(len(HEADER_KINDS) + len(BYTE_KINDS)))]
        again = int(rng.integers(2**31))
        if kind in BYTE_KINDS:
            for name in names:
                files[name], story = kind(rng, files[name])
        else:
            story = _edit(kind, again, files, names)
        every = len(names) == len(files)
        if every and not _bears_on_nothing(kind, story):
            may_move = may_recolour = True
        touched |= set(names) & set(base.files)
        stories.append(f"{len(names)} of {len(files)}: {story}")
    return Mutated(files, frozenset(touched), may_move, may_recolour, "; ".join(stories))


def _chosen(rng: Rng, names: list[str]) -> list[str]:
    """One file, some, or all."""
    scope = int(rng.integers(4))
    if scope <= 1:
        return [names[int(rng.integers(len(names)))]]
    if scope == 2:
        return sorted(rng.choice(names, min(len(names), int(rng.integers(2, 5))), replace=False).tolist())
    return names


def _edit(kind: Callable, seed: int, files: dict[str, bytes], names: list[str]) -> str:
    story = "nothing"
    for name in names:
        try:
            file = parse(files[name])
        except (ValueError, struct.error, zlib.error):  # an earlier mutation left nothing to edit
            continue
        if file.elements:
            changed, story = kind(np.random.default_rng(seed), file)
            files[name] = write(changed)
    return story


def _bears_on_nothing(kind: Callable, story: str) -> bool:
    """Whether a mutation of all files may change neither geometry nor pixels: then reading must give the truth."""
    if kind in HARMLESS or story == "nothing":
        return True
    if kind in (other_value, removed, emptied):
        tag = int(story[story.index("(") + 1 :][:4], 16), int(story[story.index(",") + 1 :][:4], 16)
        return tag[0] in HARMLESS_GROUPS and tag not in PLACE_TAGS
    return False


def _reshuffle(rng: Rng, files: dict[str, bytes], base: Base) -> tuple[str, set[str]]:
    """Files missing, twice, empty, or with the content of another."""
    names = sorted(files)
    one, other = (names[int(i)] for i in rng.integers(0, len(names), 2))
    which = int(rng.integers(5))
    if which == 0:
        del files[one]
        return f"{one} is missing", {one}
    if which == 1:
        files["copy_" + one] = files[one]
        return f"{one} twice", set()
    if which == 2:
        files[one] = b""
        return f"{one} empty", {one}
    if which == 3:
        files[one], files[other] = files[other], files[one]
        return f"{one} and {other} change names", set()
    files[one] = files[other]
    return f"{one} is a copy of {other}", {one}


def raw_element(element: Element) -> bytes:
    """An element in explicit little endian, for tests of the codec."""
    return encode(element, False, False)
