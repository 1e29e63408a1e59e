"""Studies in zip and tar files: what they hold, each file of it opened as if it lay in a folder of that name.

Only `vertebra_core.reading.files` uses this module. Nothing is ever unpacked to a place with a name, so a path in
such a file can lead nowhere; of a compressed tar file the content lies in a nameless file while it is being read.
"""

import gzip
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, BinaryIO

from vertebra_core.errors import Reason
from vertebra_core.reading.scratch import nameless_file, part_of, room_left

SNIFF_BYTES = 512
"""The first block of a tar file, which says what it is (POSIX ustar, at offset 257)."""
MOST_MEMBERS = 200_000
"""Files in one zip or tar file; the largest studies have some tens of thousands of slices."""
MOST_BYTES = 2**36
"""Bytes it may unpack to, 64 GiB: a study of ten whole-body series of 2000 slices has 10 GiB."""
MOST_RATIO, FREE_BYTES = 200, 2**30
"""Beyond 1 GiB it may unpack to this many times its size; CT shrinks to a half or a third, a bomb a thousandfold."""
CHUNK_BYTES = 2**20
GZIP = b"\x1f\x8b"
DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError)
"""What the standard library raises on a broken file (NotImplementedError, a RuntimeError, on strange methods)."""


class NotUnpacked(Exception):
    """A zip or tar file that is left alone as a whole, and why."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.code)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Member:
    """One file in a zip or tar file.

    Parameters
    ----------
    name : str
        Path in it, with forward slashes.
    size : int
        Bytes when unpacked.
    mark : str
        Changes when the content does: size and checksum (zip), or size and time (tar).
    encrypted : bool
    """

    name: str
    size: int
    mark: str
    encrypted: bool = False


ALONE = "dicom"
"""Name of what a gzipped DICOM file holds, as of a member of an archive."""


@dataclass(frozen=True)
class Packed:
    """An open zip or tar file: its members in order, and how one of them is opened by its name."""

    members: tuple[Member, ...]
    open: Callable[[str], BinaryIO]

    def size_of(self, name: str) -> int:
        """Bytes of a member when unpacked; 0 where there is none of this name."""
        return self._sizes.get(name, 0)

    @cached_property
    def _sizes(self) -> dict[str, int]:
        return {member.name: member.size for member in self.members}


def sniff_packed(start: bytes) -> bool:
    """Tell whether the first bytes are those of a zip, tar or tar.gz file, or of a gzipped DICOM file."""
    inner = _unpack_start(start)
    return start[:4] in (b"PK\x03\x04", b"PK\x05\x06") or _is_tar(start) or _is_tar(inner) or _is_dicom(inner)


def _is_tar(start: bytes) -> bool:
    return start[257:262] == b"ustar"


def _is_dicom(start: bytes) -> bool:
    return start[128:132] == b"DICM"


def _unpack_start(start: bytes) -> bytes:
    """The beginning of what the beginning of a compressed file holds."""
    try:
        return zlib.decompressobj(wbits=31).decompress(start, SNIFF_BYTES) if start[:2] == GZIP else b""
    except zlib.error:
        return b""


@contextmanager
def opened(file: BinaryIO, size: int) -> Iterator[Packed]:
    """Open a zip or tar file.

    Parameters
    ----------
    file : file
        Seekable; a plain tar file must have a descriptor.
    size : int
        Bytes of it.

    Raises
    ------
    NotUnpacked
        DAMAGED_ARCHIVE, ARCHIVE_TOO_LARGE.
    CouldNotRun
        No room to unpack to.
    """
    start = file.read(SNIFF_BYTES)
    file.seek(0)
    if _is_tar(start):
        yield _tar(file, size)
    elif start[:2] == GZIP:
        with nameless_file() as content:
            unpacked = _unpack(gzip.GzipFile(fileobj=file), content, size)
            content.seek(0)
            inner = content.read(SNIFF_BYTES)
            content.seek(0)
            yield _tar(content, unpacked) if _is_tar(inner) else _alone(content, unpacked)
    else:
        yield _zip(file, size)


def _zip(file: BinaryIO, size: int) -> Packed:
    try:
        archive = zipfile.ZipFile(file)
        entries = {one.filename: one for one in archive.infolist() if not one.is_dir()}
    except DAMAGE:
        raise NotUnpacked(Reason.DAMAGED_ARCHIVE) from None
    _refuse_bomb(len(entries), sum(one.file_size for one in entries.values()), size)
    members = (
        Member(name, one.file_size, f"{one.file_size}:{one.CRC:08x}", bool(one.flag_bits & 1))
        for name, one in entries.items()
    )
    return Packed(tuple(members), lambda name: archive.open(entries[name]))  # type: ignore[return-value]


def _alone(file: BinaryIO, size: int) -> Packed:
    """One gzipped DICOM file, as some archives keep each of theirs."""
    return Packed((Member(ALONE, size, str(size)),), lambda name: part_of(file, 0, size))


def _tar(file: BinaryIO, size: int) -> Packed:
    entries: dict[str, tarfile.TarInfo] = {}
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            for one in archive:
                if one.isreg():
                    entries[one.name.removeprefix("./")] = one
                    _refuse_bomb(len(entries), one.size, size)
                    if one.offset_data + one.size > size:
                        raise NotUnpacked(Reason.DAMAGED_ARCHIVE)
    except DAMAGE:
        raise NotUnpacked(Reason.DAMAGED_ARCHIVE) from None
    members = (Member(name, one.size, f"{one.size}:{one.mtime}") for name, one in entries.items())
    return Packed(tuple(members), lambda name: part_of(file, entries[name].offset_data, entries[name].size))


def _unpack(source: Any, sink: BinaryIO, packed_size: int) -> int:
    """Unpack a stream to the end, unless it goes on for too long; returns its bytes."""
    done = 0
    with room_left():
        while True:
            try:
                chunk = source.read(CHUNK_BYTES)
            except DAMAGE:
                raise NotUnpacked(Reason.DAMAGED_ARCHIVE) from None
            if not chunk:
                break
            done += len(chunk)
            _refuse_bomb(0, done, packed_size)
            sink.write(chunk)
        sink.flush()
    return done


def _refuse_bomb(members: int, unpacked: int, packed: int) -> None:
    too_much = unpacked > min(MOST_BYTES, max(FREE_BYTES, MOST_RATIO * packed))
    if members > MOST_MEMBERS or too_much:
        raise NotUnpacked(Reason.ARCHIVE_TOO_LARGE)
