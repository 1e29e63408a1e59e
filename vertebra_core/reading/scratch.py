"""Room on this machine for what must lie in a file for a while: one series, or one zip or tar file, at a time.

It lies in files without a name, which the system frees with their process, even after kill -9.
"""

import errno
import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from vertebra_core.errors import CouldNotRun


@contextmanager
def nameless_file() -> Iterator[BinaryIO]:
    """A file for writing and reading that no listing shows and that is gone when it is closed.

    Raises
    ------
    CouldNotRun
        The disk of the temporary folder (TMPDIR) is full.
    """
    with tempfile.TemporaryFile() as file, room_left():
        yield file  # type: ignore[misc]


@contextmanager
def room_left() -> Iterator[None]:
    """Turn a full disk inside the block into one line."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise CouldNotRun(f"no room left in {tempfile.gettempdir()} (TMPDIR) for files that are being read") from error


class _Part(io.RawIOBase):
    """A stretch of a file as a file of its own; several may be read at the same time."""

    name = ""  # pydicom asks for one

    def __init__(self, whole: Any, begin: int, size: int) -> None:
        self._whole, self._begin, self._size, self._at = whole, begin, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = max(0, {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence] + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        wanted = max(0, min(len(buffer), self._size - self._at))
        data = os.pread(self._whole.fileno(), wanted, self._begin + self._at)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def part_of(whole: Any, begin: int, size: int) -> BinaryIO:
    """Open a stretch of a file."""
    return io.BufferedReader(_Part(whole, begin, size))
